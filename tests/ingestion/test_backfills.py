"""Backfills: a period of a feed's past, window by window, beside the runs of its schedule; paused and resumed."""

import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction

from ingestion import backfills, interventions, pipeline, runs, waking
from ingestion.errors import AlreadyRunning, ConfigurationError, PartTaken
from ingestion.models import FeedState, Run, State, Trigger
from ingestion.pagination import SinglePage
from ingestion.parts import Windows
from ingestion.sources import JsonApi
from photos.feeds import PHOTOS
from photos.models import Photo
from photos.sample_api import photo
from tests.remote import Remote, Reply, json_list

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
WINDOWS = Windows(since="since", until="until", start=DAY, step=DAY, format="%Y-%m-%d")

woken: list[int] = []


def record_wake(part: int) -> None:
    woken.append(part)


def a_photo_a_day(request):
    """Answer with one photo for each day asked for, its number the day of January."""
    since = datetime.fromisoformat(request.query["since"]).replace(tzinfo=UTC)
    return Reply(body=json_list([photo((since - FIRST).days + 1)]))


@pytest.fixture
def remote(settings, monkeypatch):
    woken.clear()
    settings.INGESTION_WAKE = "tests.ingestion.test_backfills.record_wake"
    with Remote(a_photo_a_day) as remote:
        source = JsonApi(url=f"{remote.url}/photos", pagination=SinglePage())
        feed = replace(PHOTOS, source=source, parts=WINDOWS, parts_at_once=2)
        monkeypatch.setattr("photos.feeds.PHOTOS", feed)
        yield remote


def request(days: int = 5) -> Run:
    run, created = backfills.request("photos", FIRST, FIRST + days * DAY, by="ada")
    assert created
    return run


def work_off(run: Run) -> Run:
    """Take the messages as a worker does, until there is none."""
    while woken:
        part = woken.pop(0)
        with contextlib.suppress(PartTaken):
            pipeline.advance(part, slice_seconds=60)
            waking.wake(waking.due_parts(beside=part))
    run.refresh_from_db()
    return run


def test_each_window_of_a_backfill_is_a_part(remote):
    run = request()
    assert (run.trigger, run.requested_by, run.parts.count(), len(woken)) == ("backfill", "ada", 5, 2)
    assert run.parts.filter(state=State.QUEUED).count() == 2
    run = work_off(run)
    assert (run.state, run.read, run.inserted) == ("succeeded", 5, 5)
    days = [(query["since"], query["until"]) for query in remote.queries]
    assert sorted(days) == [(f"2026-01-0{day}", f"2026-01-0{day + 1}") for day in range(1, 6)]
    assert sorted(Photo.objects.values_list("remote_id", flat=True)) == [1, 2, 3, 4, 5]


def test_a_backfill_stands_in_the_way_of_no_run_and_no_run_in_its(remote):
    backfill = request()
    assert pipeline.run_here("photos").summary["state"] == "succeeded"
    run, created = runs.request("photos", trigger=Trigger.SCHEDULE)
    assert created
    again, created = backfills.request("photos", FIRST, FIRST + DAY)
    assert (again.pk, created) == (backfill.pk, False)
    assert runs.already_running(again).startswith("backfill of photos is already running since ")
    assert runs.request("photos", trigger=Trigger.ADMIN) == (run, False)
    assert work_off(backfill).state == "succeeded"
    assert backfills.request("photos", FIRST, FIRST + DAY)[1]


def test_the_database_itself_refuses_a_second_active_backfill(remote):
    run = request()
    with pytest.raises(IntegrityError, match="one_active_backfill_per_feed"), transaction.atomic():
        Run.objects.create(feed=run.feed, trigger=Trigger.BACKFILL)


def test_a_backfill_is_paused_and_resumed_though_the_feed_has_run_since(remote):
    run = request()
    pipeline.advance(run.parts.get(number=1).pk, slice_seconds=60)
    interventions.cancel(run.pk)
    assert waking.due_parts() == []
    assert pipeline.run_here("photos").summary["state"] == "succeeded"
    interventions.resume(run.pk)
    assert run.parts.filter(state=State.QUEUED).count() == 2
    run = work_off(run)
    assert (run.state, run.read) == ("succeeded", 5)


def test_a_backfill_is_not_resumed_beside_another_one(remote):
    first = request()
    interventions.cancel(first.pk)
    request()
    with pytest.raises(AlreadyRunning, match="backfill of photos is already running"):
        interventions.resume(first.pk)


@pytest.mark.parametrize(
    ("days", "message"),
    [
        (0, "there is nothing between"),
        (-1, "there is nothing between"),
        (10_001, "10001 parts, of at most 10000: make"),
    ],
)
def test_a_period_without_windows_or_with_too_many_is_refused(remote, days, message):
    with pytest.raises(ConfigurationError, match=message):
        backfills.request("photos", FIRST, FIRST + days * DAY)
    assert not Run.objects.exists()


def test_a_feed_without_windows_cannot_be_asked_for_a_period():
    with pytest.raises(CommandError, match=r"photos cannot be asked for a period: its feed needs parts=Windows"):
        call_command("backfill", "photos", "--from", "2026-01-01", "--to", "2026-01-02")
    assert not FeedState.objects.filter(runs__isnull=False).exists()


def test_the_command_takes_dates_in_utc_and_times_with_a_zone(remote, capsys):
    call_command("backfill", "photos", "--from", "2026-01-01", "--to", "2026-01-02T12:00+02:00", "--json")
    shares = Run.objects.get().parts.order_by("number").values_list("share", flat=True)
    assert [*shares] == [
        {"since": "2026-01-01T00:00:00+00:00", "until": "2026-01-02T00:00:00+00:00"},
        {"since": "2026-01-02T00:00:00+00:00", "until": "2026-01-02T10:00:00+00:00"},
    ]
    with pytest.raises(CommandError, match="is no date like 2026-11-23"):
        call_command("backfill", "photos", "--from", "yesterday", "--to", "2026-01-02")
