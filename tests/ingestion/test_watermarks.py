"""Watermarks moved by hand: who, when, why; never into the future, and never undone by a run that was going on."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.urls import reverse

from ingestion import pipeline, watermarks
from ingestion.cleaning import integer
from ingestion.errors import ConfigurationError
from ingestion.incremental import Incremental
from ingestion.models import FeedState, WatermarkMove
from tests.ingestion.changes import DAY, HOUR, NOON, changes, last_run
from tests.staff import VIEWS, said, session

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def remote(monkeypatch):
    with changes(monkeypatch) as remote:
        remote.add(1, NOON)
        remote.sync()
        yield remote


def command(capsys, *options):
    call_command("watermark", "photos", "--json", *options)
    return json.loads(capsys.readouterr().out)


def test_a_rewound_feed_reads_again_what_came_too_late_for_its_overlap(remote, capsys):
    remote.add(2, NOON - 2 * HOUR)
    assert remote.sync()["inserted"] == 0
    shown = command(capsys, "--rewind", "3h", "--reason", "late rows of the night")
    assert (shown["watermark"], shown["next_from"]) == ("2026-01-05T09:00:00+00:00", "2026-01-05T09:00:00+00:00")
    (move,) = WatermarkMove.objects.all()
    assert (move.before, move.after) == ("2026-01-05T12:00:00+00:00", "2026-01-05T09:00:00+00:00")
    assert move.moved_by
    assert shown["moves"][0] | {"at": "", "by": ""} == {
        "at": "",
        "by": "",
        "before": "2026-01-05T12:00:00+00:00",
        "after": "2026-01-05T09:00:00+00:00",
        "reason": "late rows of the night",
    }
    assert remote.sync()["inserted"] == 1
    assert remote.watermark == "2026-01-05T12:00:00+00:00"


def test_a_watermark_is_set_in_utc_and_cleared(remote, capsys):
    assert command(capsys, "--set", "2026-01-05T13:30+02:00", "--reason", "a")["watermark"] == (
        "2026-01-05T11:30:00+00:00"
    )
    assert command(capsys, "--set", "2026-01-04", "--reason", "b")["watermark"] == "2026-01-04T00:00:00+00:00"
    cleared = command(capsys, "--clear", "--reason", "c")
    assert (cleared["watermark"], cleared["lag_seconds"], cleared["next_from"]) == (None, None, None)
    assert [move["reason"] for move in cleared["moves"]] == ["c", "b", "a"]
    assert remote.asks() is None


def test_the_command_says_how_far_a_feed_has_come(remote, capsys):
    call_command("watermark", "photos")
    line = capsys.readouterr().out
    assert line.startswith("photos: 2026-01-05T12:00:00+00:00 since 20")
    assert line.endswith(" behind; the next run reads from 2026-01-05T12:00:00+00:00\n")
    shown = command(capsys)
    assert abs(shown["lag_seconds"] - (datetime.now(UTC) - NOON).total_seconds()) < 60
    assert datetime.fromisoformat(shown["since"]) == FeedState.objects.get(name="photos").watermark_at


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rewind", "1h"], "is moved for a reason"),
        (["--rewind", "1h", "--reason", "  "], "is moved for a reason"),
        (["--rewind", "5", "--reason", "x"], "is rewound by a length of time, such as 2h"),
        (["--rewind", "soon", "--reason", "x"], "'soon' is no length like 90s"),
        (["--rewind", "9999999w", "--reason", "x"], "there is nothing so far back; clear the watermark of photos"),
        (["--rewind", "999999999w", "--reason", "x"], "999999999w is too long"),
        (["--set", "0001-01-01T00:00+14:00", "--reason", "x"], "is no moment like"),
        (["--set", "soon", "--reason", "x"], "'soon' is no moment like"),
        (["--set", (datetime.now(UTC) + DAY).isoformat(), "--reason", "x"], "is in the future"),
    ],
)
def test_what_is_no_move_is_refused(remote, options, message):
    with pytest.raises(CommandError, match=message):
        call_command("watermark", "photos", *options)
    assert (remote.watermark, WatermarkMove.objects.count()) == ("2026-01-05T12:00:00+00:00", 0)


def test_numbers_are_set_and_rewound_as_numbers(remote, capsys):
    remote.declare(Incremental(field=integer("id"), since="since"))
    # What is kept is of another field.
    assert command(capsys)["watermark"] is None
    assert command(capsys, "--set", "40", "--reason", "x")["watermark"] == 40
    assert command(capsys, "--rewind", "15", "--reason", "x")["watermark"] == 25
    with pytest.raises(CommandError, match="is rewound by a number"):
        command(capsys, "--rewind", "15m", "--reason", "x")
    with pytest.raises(CommandError, match="'1e3' is no whole number"):
        command(capsys, "--set", "1e3", "--reason", "x")
    assert command(capsys)["lag_seconds"] is None


def test_without_a_feed_the_command_lists_all_and_moves_none(remote, capsys):
    call_command("watermark", "--json")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["feed"], line["watermark"]) for line in lines] == [("photos", "2026-01-05T12:00:00+00:00")]
    with pytest.raises(CommandError, match="name the feed"):
        call_command("watermark", "--clear", "--reason", "x")


def test_a_feed_that_is_not_incremental_has_none(remote):
    remote.declare(None)
    with pytest.raises(CommandError, match="photos is not incremental"):
        call_command("watermark", "photos")
    remote.declare()
    FeedState.objects.update(watermark=None)
    with pytest.raises(ConfigurationError, match="has no watermark yet"):
        watermarks.rewind("photos", HOUR, by="ada", reason="x")


def test_a_run_that_is_going_on_leaves_a_moved_watermark_alone(remote):
    def rewind(page):
        if page == 2:
            watermarks.move("photos", NOON - DAY, by="ada", reason="while it runs")

    for number in range(2, 13):
        remote.add(number, NOON + HOUR)
    remote.asked = rewind
    remote.sync()
    assert remote.watermark == "2026-01-04T12:00:00+00:00"
    remote.asked = lambda page: None
    assert remote.asks() == "2026-01-04T12:00:00+00:00"
    assert remote.watermark == "2026-01-05T13:00:00+00:00"


def test_the_database_itself_wants_a_reason(remote):
    feed = FeedState.objects.get(name="photos")
    with pytest.raises(IntegrityError, match="watermarkmove_has_a_reason"), transaction.atomic():
        WatermarkMove.objects.create(feed=feed, moved_by="ada", reason="")


def test_a_dry_run_leaves_no_trace(remote):
    remote.add(2, NOON + timedelta(minutes=1))
    assert pipeline.run_here("photos", dry_run=True).summary["inserted"] == 1
    assert remote.watermark == "2026-01-05T12:00:00+00:00"


def page(name="photos", verb="change"):
    return reverse(f"admin:ingestion_feedstate_{verb}", args=(FeedState.objects.get(name=name).pk,))


def test_the_admin_shows_how_far_a_feed_and_a_run_have_come(remote):
    remote.add(2, NOON + HOUR)
    remote.sync()
    watermarks.move("photos", NOON, by="ada", reason="late <rows>")
    text = session(*VIEWS).get(page()).content.decode()
    assert re.search(r"2026-01-05T12:00:00\+00:00, \d+ h", text)
    assert "from 2026-01-05T12:00:00+00:00" in text
    assert "late &lt;rows&gt;" in text
    assert "Move the watermark" not in text
    run = session(*VIEWS, name="bob").get(reverse("admin:ingestion_run_change", args=(last_run().pk,)))
    said = "asked for what is from 2026-01-05T12:00:00+00:00 on; moved from 2026-01-05T12:00:00+00:00 to 2026-01-05T13:"
    assert said in run.content.decode()
    FeedState.objects.update(watermark=None)
    remote.declare(None)
    assert "atermark" not in session(*VIEWS, name="eve").get(page()).content.decode()


def test_it_is_moved_in_the_admin_by_whoever_may(remote):
    client, url = session(*VIEWS, "ingestion.move_watermark"), page(verb="watermark")
    assert f'<a href="{url}">Move the watermark</a>' in client.get(page()).content.decode()
    assert "2026-01-05T12:00:00+00:00" in client.get(url).content.decode()
    for form, error in (
        ({"watermark": "2026-01-04"}, "This field is required."),
        ({"watermark": "soon", "reason": "x"}, "&#x27;soon&#x27; is no moment"),
        ({"watermark": "2999-01-01", "reason": "x"}, "is in the future"),
    ):
        assert error in client.post(url, form).content.decode()
        assert remote.watermark == "2026-01-05T12:00:00+00:00"
    response = client.post(url, {"watermark": "2026-01-04", "reason": "late rows"}, follow=True)
    assert said(response) == [
        "Feed photos: the watermark was moved from 2026-01-05T12:00:00+00:00 to 2026-01-04T00:00:00+00:00."
    ]
    client.post(url, {"watermark": "", "reason": "again"})
    moves = WatermarkMove.objects.values_list("moved_by", "before", "after", "reason")
    assert list(moves) == [
        ("ada", "2026-01-04T00:00:00+00:00", None, "again"),
        ("ada", "2026-01-05T12:00:00+00:00", "2026-01-04T00:00:00+00:00", "late rows"),
    ]


@pytest.mark.parametrize("permissions", [VIEWS, ("ingestion.move_watermark",), (*VIEWS, "ingestion.sync_feedstate")])
def test_nobody_else_moves_it(remote, permissions):
    client = session(*permissions)
    url = page(verb="watermark")
    assert client.get(url).status_code == client.post(url, {"watermark": "", "reason": "x"}).status_code == 403
    assert remote.watermark == "2026-01-05T12:00:00+00:00"
