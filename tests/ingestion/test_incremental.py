"""Incremental feeds over several runs: nothing is lost, whatever is late, equal, future-dated, rejected or cut off."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import connection, models

from ingestion import interventions, pipeline, runs, watermarks
from ingestion.cleaning import integer, timestamp
from ingestion.feeds import History
from ingestion.incremental import Incremental
from ingestion.models import FeedState, Part, Reject, Run, Trigger
from photos.models import Photo
from tests.ingestion.changes import DAY, HOUR, MINUTE, NOON, changes, last_run
from tests.ingestion.orders import order
from tests.ingestion.slices import in_slices

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def remote(monkeypatch):
    with changes(monkeypatch) as remote:
        yield remote


def incremental(field="changedAt", **options):
    return Incremental(field=field, **{"since": "since", "overlap": timedelta(0)} | options)


def test_each_run_asks_from_the_highest_that_the_one_before_has_loaded(remote):
    for number in range(1, 26):
        # The order of the pages is not that of the changes: the first one is the latest.
        remote.add(number, NOON - number * MINUTE)
    assert remote.asks() is None
    assert remote.watermark == "2026-01-05T11:59:00+00:00"
    remote.add(26, NOON)
    remote.add(3, NOON + HOUR, title="changed")
    assert remote.asks() == "2026-01-05T11:59:00+00:00"
    assert remote.is_in_step()
    assert remote.watermark == "2026-01-05T13:00:00+00:00"
    # An empty run moves nothing. The record at the watermark comes again, and is left as it is.
    assert remote.sync()["unchanged"] == 1
    remote.records.clear()
    assert (remote.sync()["read"], remote.watermark) == (0, "2026-01-05T13:00:00+00:00")


def test_records_at_the_watermark_itself_come_again_and_late_ones_within_the_overlap(remote):
    remote.declare(incremental(overlap=10 * MINUTE))
    remote.add(1, NOON)
    remote.sync()
    remote.add(2, NOON)
    remote.add(3, NOON - 10 * MINUTE)
    assert remote.asks() == "2026-01-05T11:50:00+00:00"
    assert remote.is_in_step()
    remote.add(4, NOON - 11 * MINUTE)
    remote.sync()
    assert not remote.is_in_step()
    assert remote.sync(full=True)["inserted"] == 1
    assert remote.is_in_step()
    # What came late has not moved the watermark back.
    assert remote.watermark == "2026-01-05T12:00:00+00:00"


def test_the_default_overlap_is_five_minutes_and_nothing_for_numbers():
    assert Incremental(field="at", since="since").start(NOON) == NOON - 5 * MINUTE
    assert Incremental(field=integer("id"), since="after").start(7) == 7


def test_the_overlap_does_not_lead_before_the_initial_value_but_a_person_does(remote):
    declared = incremental(initial=NOON, overlap=HOUR)
    remote.declare(declared)
    remote.add(1, NOON + MINUTE)
    assert remote.asks() == "2026-01-05T12:00:00+00:00"
    assert remote.asks() == "2026-01-05T12:00:00+00:00"
    assert declared.start(NOON - MINUTE) == NOON - MINUTE - HOUR


@pytest.mark.parametrize("options", [{"overlap": HOUR}, {"retention": DAY}])
def test_records_that_were_never_changed_do_not_lead_before_the_beginning_of_time(remote, options):
    remote.declare(incremental(**options))
    remote.add(1, datetime(1, 1, 1, tzinfo=UTC))
    remote.sync()
    assert remote.watermark == "0001-01-01T00:00:00+00:00"
    remote.sync()
    assert remote.is_in_step()


def test_what_is_dated_in_the_future_does_not_lead_there(remote):
    before = datetime.now(UTC)
    remote.add(1, before + 400 * DAY)
    remote.sync()
    assert before - MINUTE < datetime.fromisoformat(remote.watermark) <= last_run().started_at
    assert remote.watermark == last_run().started_at.isoformat()
    remote.add(2, datetime.now(UTC))
    remote.sync()
    assert remote.is_in_step()


def test_what_is_changed_while_a_run_reads_other_pages_comes_again(remote):
    """A record of the first page is changed when that was read, and one of the second, later."""
    for number in range(1, 12):
        remote.add(number, NOON)

    def change(page):
        if page == 2 and 1 in remote.records and remote.records[1]["at"] == NOON:
            # In its place: nothing moves between the pages.
            changed = remote.records[1] | {"title": "changed"}
            changed["at"] = datetime.now(UTC)
            remote.records[1] = changed | {"changedAt": changed["at"].isoformat()}
            later = datetime.now(UTC) + 10 * MINUTE
            remote.records[11] |= {"at": later, "changedAt": later.isoformat()}

    remote.asked = change
    remote.sync()
    assert Photo.objects.get(remote_id=1).title != "changed"
    remote.sync()
    assert Photo.objects.get(remote_id=1).title == "changed"


def test_a_run_that_fails_moves_nothing_and_goes_on_from_its_own_start(remote):
    remote.add(1, NOON)
    remote.sync()
    for number in range(2, 25):
        remote.add(number, NOON + number * MINUTE)
    remote.broken = 2
    assert pipeline.run_here("photos").summary["state"] == "failed"
    run = last_run()
    assert (remote.watermark, Photo.objects.count()) == ("2026-01-05T12:00:00+00:00", 10)
    assert Part.objects.get(run=run).highest == "2026-01-05T12:10:00+00:00"
    remote.broken = None
    interventions.resume(run.pk, wake_workers=False)
    # Another start for new runs is none for this one.
    remote.declare(incremental(initial=NOON - DAY, overlap=HOUR))
    before = len(remote.remote.requests)
    assert pipeline.run_here("photos").summary["run"] == run.pk
    asked = [(query["since"], query["page"]) for query in remote.remote.queries[before:]]
    assert asked == [("2026-01-05T12:00:00+00:00", "2"), ("2026-01-05T12:00:00+00:00", "3")]
    assert remote.is_in_step()
    assert remote.watermark == "2026-01-05T12:24:00+00:00"


def test_a_run_of_what_has_changed_does_not_go_on_as_one_of_everything(remote):
    remote.declare(incremental(initial=NOON))
    for number in range(1, 25):
        remote.add(number, NOON)
    remote.broken = 2
    assert pipeline.run_here("photos").summary["state"] == "failed"
    remote.broken = None
    remote.declare(None)
    interventions.resume(last_run().pk, wake_workers=False)
    assert pipeline.run_here("photos").summary["error"].startswith("share: it is what has changed, and the feed is not")
    assert remote.sync()["read"] == 24


def test_a_run_in_slices_and_taken_over_in_between_ends_at_the_right_watermark(remote):
    for number in range(1, 36):
        remote.add(number, NOON - number * MINUTE)
    _, slices = in_slices("photos")
    assert slices >= 3
    assert (remote.watermark, remote.is_in_step()) == ("2026-01-05T11:59:00+00:00", True)


def test_full_reads_everything_and_sets_the_watermark_even_back(remote):
    remote.declare(incremental(initial=NOON))
    remote.add(1, NOON)
    remote.add(2, NOON + HOUR)
    remote.sync()
    assert remote.watermark == "2026-01-05T13:00:00+00:00"
    del remote.records[2]
    assert remote.asks() == "2026-01-05T13:00:00+00:00"
    assert remote.asks(full=True) == "2026-01-05T12:00:00+00:00"
    assert remote.watermark == "2026-01-05T12:00:00+00:00"
    assert last_run().watermark == {
        "before": "2026-01-05T13:00:00+00:00",
        "from": "2026-01-05T12:00:00+00:00",
        "starts_over": True,
        "after": "2026-01-05T12:00:00+00:00",
    }


@pytest.mark.parametrize("options", [{"limit": 1}, {"dry_run": True}])
def test_a_run_that_does_not_read_everything_moves_nothing(remote, options):
    remote.add(1, NOON)
    remote.sync()
    remote.add(2, NOON + HOUR)
    remote.add(3, NOON + 2 * HOUR)
    assert pipeline.run_here("photos", **options).summary["state"] == "succeeded"
    assert remote.watermark == "2026-01-05T12:00:00+00:00"


def test_a_reject_at_the_top_does_not_move_the_watermark_and_comes_again(remote):
    remote.add(1, NOON)
    remote.add(2, NOON + HOUR, albumId="bad")
    assert remote.sync()["rejected"] == 1
    assert remote.watermark == "2026-01-05T12:00:00+00:00"
    remote.add(2, NOON + HOUR)
    assert remote.sync()["inserted"] == 1
    assert remote.watermark == "2026-01-05T13:00:00+00:00"
    assert Reject.objects.get().resolution == "superseded"


def test_a_record_that_the_database_refuses_does_not_move_it_either(remote):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE photos ADD CONSTRAINT no_thirteen CHECK (remote_id <> 13)")
    try:
        remote.add(12, NOON)
        remote.add(13, NOON + HOUR)
        assert remote.sync()["rejected"] == 1
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE photos DROP CONSTRAINT no_thirteen")
    assert remote.watermark == "2026-01-05T12:00:00+00:00"


def test_records_without_a_watermark_are_loaded_and_counted(remote):
    remote.add(1, NOON)
    remote.add(2, None)
    remote.add(3, "yesterday")
    assert remote.sync()["coercions"] == {"changedAt:no_watermark": 2}
    assert (remote.watermark, Photo.objects.count()) == ("2026-01-05T12:00:00+00:00", 3)


@pytest.mark.parametrize(("missing", "state", "loaded"), [("reject", "succeeded", 1), ("fail", "failed", 0)])
def test_or_they_are_rejected_or_fail_the_run(remote, missing, state, loaded):
    remote.declare(incremental(missing=missing))
    remote.add(1, NOON)
    remote.add(2, None)
    assert pipeline.run_here("photos").summary["state"] == state
    assert Photo.objects.count() == loaded
    assert list(Reject.objects.values_list("reason", "key")) == [("no_watermark", "2")] * loaded


def test_a_feed_that_looks_in_the_wrong_place_fails(remote):
    remote.declare(incremental("changed_at"))
    for number in range(1, 11):
        remote.add(number, NOON)
    assert pipeline.run_here("photos").summary["error"] == "watermark: none of 10 records has one at 'changed_at'"
    del remote.records[10]
    assert remote.sync()["read"] == 9


def test_a_history_keeps_one_version_of_what_comes_again(remote):
    fields = {
        "code": models.BigIntegerField(),
        "title": models.CharField(max_length=255),
        "valid_from": models.DateTimeField(),
        "valid_to": models.DateTimeField(null=True),
    }
    current = models.UniqueConstraint(fields=["code"], condition=models.Q(valid_to=None), name="order_current")
    versions = order({"constraints": [current]}, **fields)
    with connection.schema_editor() as editor:
        editor.create_model(versions)
    try:
        target = History(versions, key="code", valid_from="valid_from", valid_to="valid_to")
        remote.declare(incremental(overlap=HOUR), target=target, columns={"code": "id", "title": "title"})
        remote.add(1, NOON, title="first")
        remote.sync()
        assert remote.sync()["unchanged"] == 1
        remote.add(1, NOON + MINUTE, title="second")
        remote.sync()
        found = versions.objects.order_by("pk").values_list("title", "valid_to")
        assert [(title, ended is None) for title, ended in found] == [("first", False), ("second", True)]
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(versions)


def seconds(at):
    return int(at.timestamp())


def of_seconds(text):
    return datetime.fromtimestamp(int(text), tz=UTC)


BERLIN = ZoneInfo("Europe/Berlin")


def in_berlin(at):
    return at.astimezone(BERLIN).replace(tzinfo=None).isoformat()


@pytest.mark.parametrize(
    ("declared", "write", "read", "sent"),
    [
        ({}, datetime.isoformat, datetime.fromisoformat, "2026-01-05T12:00:00+00:00"),
        ({"field": timestamp("changedAt", unit="s")}, seconds, of_seconds, "1767614400"),
        (
            {"field": timestamp("changedAt", unit="ms")},
            lambda at: seconds(at) * 1000,
            lambda text: of_seconds(int(text) // 1000),
            "1767614400000",
        ),
        (
            {"field": timestamp("changedAt", zone="Europe/Berlin")},
            in_berlin,
            lambda text: datetime.fromisoformat(text).replace(tzinfo=BERLIN),
            "2026-01-05T13:00:00",
        ),
        (
            {"written": "%Y-%m-%d"},
            lambda at: at.astimezone(ZoneInfo("Asia/Tokyo")).isoformat(),
            lambda text: datetime.fromisoformat(text).replace(tzinfo=UTC),
            "2026-01-05",
        ),
        ({"written": "ms"}, datetime.isoformat, lambda text: of_seconds(int(text) // 1000), "1767614400000"),
    ],
)
def test_watermarks_are_sent_as_the_remote_writes_them(remote, declared, write, read, sent):
    remote.write, remote.read = write, read
    remote.declare(incremental(**{"field": "changedAt"} | declared))
    remote.add(1, NOON)
    remote.add(2, NOON - HOUR)
    remote.sync()
    assert remote.watermark == "2026-01-05T12:00:00+00:00"
    remote.add(3, NOON + HOUR)
    assert remote.asks() == sent
    assert (remote.is_in_step(), remote.watermark) == (True, "2026-01-05T13:00:00+00:00")


def test_what_the_remote_has_no_room_for_is_cut_off_and_never_rounded_up():
    at = NOON + timedelta(seconds=59, microseconds=999_999)
    assert incremental(written="%Y-%m-%dT%H:%M:%SZ").sent(at) == "2026-01-05T12:00:59Z"
    assert incremental(written="s").sent(at) == 1767614459
    assert incremental(written="ms").sent(at) == 1767614459999
    assert incremental(timestamp("at", unit="us")).sent(at) == 1767614459999999
    assert incremental(timestamp("at", unit="ns")).sent(at) == 1767614459999999000


def test_increasing_numbers(remote):
    remote.read = int
    remote.declare(incremental(integer("changedAt"), initial=0, overlap=2))
    for number in range(1, 13):
        remote.add(number, number * 10)
    assert remote.asks() == "0"
    assert remote.watermark == 120
    remote.add(13, 118)
    assert remote.asks() == "118"
    assert (remote.is_in_step(), remote.watermark) == (True, 120)
    # Zero is a watermark like any other.
    watermarks.move("photos", 0, by="ada", reason="again")
    assert remote.asks() == "0"
    assert (last_run().starts_over, remote.watermark) == (False, 120)


def test_a_watermark_that_the_remote_has_forgotten_starts_over(remote):
    remote.declare(incremental(retention=30 * DAY, initial=NOON - DAY))
    remote.add(1, NOON)
    remote.sync()
    assert remote.watermark == "2026-01-05T12:00:00+00:00"
    watermarks.move("photos", datetime.now(UTC) - 29 * DAY, by="ada", reason="a test")
    assert remote.asks() != "2026-01-04T12:00:00+00:00"
    watermarks.move("photos", datetime.now(UTC) - 31 * DAY, by="ada", reason="a test")
    assert remote.asks() == "2026-01-04T12:00:00+00:00"


def test_a_stored_watermark_of_another_kind_fails_the_run_until_somebody_decides(remote):
    remote.add(1, NOON)
    remote.sync()
    remote.write, remote.read = seconds, int
    remote.declare(incremental(integer("changedAt")))
    remote.add(1, NOON)
    assert pipeline.run_here("photos").summary["error"] == (
        "watermark: the stored watermark '2026-01-05T12:00:00+00:00' is not of the kind that the feed has now; "
        "start with --full, or move it"
    )
    assert remote.asks(full=True) is None
    assert remote.watermark == 1767614400


def test_a_watermark_counts_for_its_own_field_alone(remote):
    remote.add(1, NOON, madeAt=(NOON - DAY).isoformat())
    remote.sync()
    remote.declare(incremental("madeAt"))
    assert remote.asks() is None
    assert (remote.watermark, last_run().starts_over) == ("2026-01-04T12:00:00+00:00", True)
    assert remote.asks() == "2026-01-04T12:00:00+00:00"


def test_what_a_run_did_not_ask_for_has_not_vanished(remote):
    remote.add(1, NOON, extra=1)
    remote.sync()
    remote.add(2, NOON + HOUR)
    assert remote.sync()["drift"] == []
    remote.add(1, NOON)
    changed = [(change["field"], change["change"]) for change in remote.sync(full=True)["drift"]]
    assert changed == [("extra", "vanished")]


def test_a_run_from_before_the_feed_was_incremental_leaves_it_without_a_watermark(remote, monkeypatch):
    remote.add(1, NOON)
    remote.add(2, NOON, more="x" * 10)
    remote.declare(None)
    run, _ = runs.request("photos", trigger=Trigger.COMMAND, wake_workers=False)
    Run.objects.filter(pk=run.pk).update(first_commit_at=NOON)
    remote.declare()
    assert pipeline.run_here("photos").summary["state"] == "succeeded"
    assert FeedState.objects.get(name="photos").watermark is None
