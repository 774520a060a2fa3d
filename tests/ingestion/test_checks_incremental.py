"""Incremental feeds that would lose or double rows, or cannot be asked so, are found before they run."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from ingestion import checks
from ingestion.cleaning import field, first_of, integer, mapped, timestamp, whole_record
from ingestion.cleaning import json as json_rule
from ingestion.feeds import Append, Mirror, Replace
from ingestion.incremental import Incremental
from ingestion.pagination import SinglePage
from ingestion.parts import Windows
from ingestion.sources import Disk, Files, JsonApi, Ndjson
from photos.feeds import PHOTOS
from photos.models import Photo
from tests.ingestion.changes import DAY, NOON

AT = Incremental(field="changedAt", since="since", overlap=timedelta(0))
WINDOWS = Windows(since="since", until="until", start=NOON, step=DAY)


def problems(**changed):
    feed = replace(PHOTOS, source=JsonApi(url="http://x", pagination=SinglePage()), incremental=AT)
    return [(error.id[-4:], error.msg.partition(": ")[2]) for error in checks.problems([replace(feed, **changed)])]


def test_e021_targets_that_would_lose_or_double_rows():
    assert problems() == []
    for target in (Append(Photo), Replace(Photo), Mirror(Photo, key="remote_id")):
        ((number, message),) = problems(target=target)
        assert (number, type(target).__name__ in message) == ("E021", True)
    assert problems(skip_unchanged_pages=True) == [("E021", "An incremental feed has other pages in each run.")]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"field": whole_record}, "field takes a path"),
        ({"field": json_rule("a")}, "field takes a path"),
        ({"field": mapped("a", {})}, "field takes a path"),
        ({"field": timestamp("a", unit="hours")}, "unit is one of"),
        ({"since": None}, "since=… has to name"),
        ({"initial": datetime(2026, 1, 1)}, "initial has no time zone"),  # noqa: DTZ001
        ({"initial": 5}, "initial is a datetime, like the field"),
        ({"overlap": 5}, "overlap is a timedelta from 0 on"),
        ({"overlap": -DAY}, "overlap is a timedelta from 0 on"),
        ({"field": integer("a")}, "overlap is a whole number from 0 on"),
        ({"field": integer("a"), "overlap": 0, "initial": NOON}, "initial is a whole number, like the field"),
        ({"field": integer("a"), "overlap": 0, "retention": DAY}, "written and retention are for times"),
        ({"written": "hours"}, "written is a format of strftime"),
        ({"missing": "skip"}, "missing is one of load, reject, fail"),
    ],
)
def test_e021_values_that_do_not_fit(changed, message):
    ((number, found),) = problems(incremental=replace(AT, **changed))
    assert (number, found.startswith(f"It cannot be incremental: {message}")) == ("E021", True), found


def test_e021_sources_and_parts_that_do_not_fit():
    assert problems(incremental=replace(AT, field=first_of("a", "b"))) == []
    assert problems(parts=WINDOWS, incremental=Incremental(field=field("a"))) == []
    for incremental in (AT, Incremental(field=integer("a")), Incremental(field="a", initial=NOON)):
        ((number, message),) = problems(parts=WINDOWS, incremental=incremental)
        assert (number, "windows of time begin at the watermark" in message) == ("E021", True)
    files = Files(place=Disk(folder="."), format=Ndjson())
    (error,) = checks.problems([replace(PHOTOS, source=files, incremental=AT)])
    assert (error.id, error.msg.endswith("Files cannot be asked for what has changed.")) == ("ingestion.E021", True)
    assert error.hint.startswith("Take incremental away: files are remembered")
