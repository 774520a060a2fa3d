"""The life of runs and parts, in a real database with real commits."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from ingestion import attempts, claims, ledger, owners, runs, waking
from ingestion.errors import AlreadyRunning, ConfigurationError, PartTaken, RetryLater
from ingestion.models import ACTIVE, ENDED, FeedState, Part, Reject, Run, State, Trigger
from ingestion.types import Counts, Rejection

pytestmark = pytest.mark.django_db(transaction=True)

woken: list[int] = []


def record_wake(part: int) -> None:
    woken.append(part)


def refuse_wake(part: int) -> None:
    message = "the broker is down"
    raise OSError(message)


@pytest.fixture(autouse=True)
def _wakes(settings):
    woken.clear()
    settings.INGESTION_WAKE = "tests.ingestion.test_runs.record_wake"


def queued() -> Part:
    run, _ = runs.request("photos", trigger=Trigger.COMMAND, wake_workers=False)
    return run.parts.get()


def claimed() -> Part:
    return claims.claim(queued().pk)


def take_over(part: Part) -> Part:
    Part.objects.filter(pk=part.pk).update(leased_until=Now() - timedelta(seconds=1))
    return claims.claim(part.pk)


def test_every_state_is_either_active_or_an_end():
    assert set(ACTIVE) | set(ENDED) == set(State)
    assert set(ACTIVE).isdisjoint(ENDED)


def test_request_queues_a_run_with_one_part_and_wakes_after_the_commit():
    with transaction.atomic():
        run, created = runs.request("photos", trigger=Trigger.ADMIN, by="ada")
        assert woken == []
    part = run.parts.get()
    assert (created, run.state, run.trigger, run.requested_by, part.state) == (True, "queued", "admin", "ada", "queued")
    assert woken == [part.pk]


def test_second_request_is_coalesced_into_the_active_run():
    first, _ = runs.request("photos", trigger=Trigger.COMMAND)
    second, created = runs.request("photos", trigger=Trigger.SCHEDULE)
    assert (second.pk, created) == (first.pk, False)
    assert Run.objects.count() == 1


def test_the_database_itself_refuses_a_second_active_run():
    run, _ = runs.request("photos", trigger=Trigger.COMMAND)
    with pytest.raises(IntegrityError, match="one_active_per_feed"), transaction.atomic():
        Run.objects.create(feed=run.feed, trigger=Trigger.COMMAND)


def test_the_database_itself_refuses_a_green_run_that_does_not_add_up():
    part = claimed()
    Run.objects.filter(pk=part.run_id).update(read=2, inserted=1)
    with pytest.raises(IntegrityError, match="succeeded_adds_up"):
        attempts.end(part, State.SUCCEEDED)


def test_request_of_an_unknown_feed_names_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"known feeds: .*photos"):
        runs.request("nothing", trigger=Trigger.COMMAND)


def test_a_broker_that_is_down_does_not_lose_the_run(settings):
    settings.INGESTION_WAKE = "tests.ingestion.test_runs.refuse_wake"
    run, created = runs.request("photos", trigger=Trigger.ADMIN)
    assert created
    assert waking.due_parts() == [run.parts.get().pk]


def test_claim_raises_the_epoch_and_leases_the_part():
    part = claimed()
    assert (part.state, part.epoch, part.attempts, part.owner) == ("running", 1, 1, owners.current())
    run = Run.objects.get()
    assert run.state == "running"
    assert run.started_at is not None


def test_an_owned_part_cannot_be_claimed():
    part = claimed()
    with pytest.raises(PartTaken):
        claims.claim(part.pk)


def test_an_expired_lease_can_be_taken_over_and_fences_the_old_owner_out():
    zombie = claimed()
    new = take_over(zombie)
    assert new.epoch == 2
    with pytest.raises(PartTaken):
        attempts.renew(zombie)
    with pytest.raises(PartTaken):
        ledger.commit(zombie, cursor={"n": 1}, counts=Counts(read=5), rejections=[])
    with pytest.raises(PartTaken):
        attempts.release(zombie)
    with pytest.raises(PartTaken):
        attempts.retry_later(zombie, reason="x", wait=None, limit=5)
    with pytest.raises(PartTaken):
        attempts.end(zombie, State.SUCCEEDED)
    assert (Run.objects.get().read, Part.objects.get().cursor) == (0, None)


def test_commit_adds_counters_stores_cursor_and_rejects_and_forgets_attempts():
    part = claimed()
    counts = Counts(pages=2, read=7, inserted=1, updated=2, unchanged=1, duplicates=1, rejected=2)
    rejection = Rejection(
        reason="too_long", field="title", detail="a\x00b", page=3, position=4, key="9",
        raw=b"\xff", size_bytes=70_000, digest="d" * 64,
    )  # fmt: skip
    for page in (2, 3):
        ledger.commit(part, cursor={"page": page}, counts=counts, rejections=[rejection])
        part.cursor = {"page": page}
    run, part = Run.objects.get(), Part.objects.get()
    assert (run.pages, run.read, run.inserted, run.updated) == (4, 14, 2, 4)
    assert (run.unchanged, run.duplicates, run.rejected) == (2, 2, 4)
    assert (part.cursor, part.attempts) == ({"page": 3}, 0)
    assert run.first_commit_at is not None
    reject = Reject.objects.first()
    assert (reject.reason, reject.field, reject.detail, reject.key) == ("too_long", "title", "a\\u0000b", "9")
    assert (bytes(reject.raw), reject.size_bytes, reject.digest) == (b"\xff", 70_000, "d" * 64)


@pytest.mark.parametrize(("begins", "stored"), [({"page": 2}, {"page": 1}), ({"page": 2}, None), (None, {"page": 1})])
def test_commit_goes_on_only_from_where_the_chunk_begins(begins, stored):
    part = claimed()
    Part.objects.update(cursor=stored)  # as after a crash of the server, which takes its latest commits back
    part.cursor = begins
    with pytest.raises(RetryLater, match="lost its latest commits"), transaction.atomic():
        ledger.commit(part, cursor={"page": 3}, counts=Counts(read=5), rejections=[])
    assert (Run.objects.get().read, Part.objects.get().cursor) == (0, stored)


def test_waiting_part_is_due_only_when_its_time_has_come():
    part = claimed()
    assert attempts.retry_later(part, reason="503", wait=timedelta(hours=1), limit=5) == State.WAITING
    part.refresh_from_db()
    assert part.next_attempt_at - part.run.requested_at > timedelta(minutes=59)
    assert (part.waiting_for, Run.objects.get().state) == ("503", "waiting")
    assert waking.due_parts() == []
    with pytest.raises(PartTaken):
        claims.claim(part.pk)
    Part.objects.update(next_attempt_at=Now())
    assert claims.claim(part.pk).attempts == 2


def test_a_part_without_progress_fails_after_its_limit():
    part = claimed()
    for _ in range(2):
        assert attempts.retry_later(part, reason="503", wait=None, limit=3) == State.WAITING
        part = claims.claim(part.pk, now=True)
    assert attempts.retry_later(part, reason="503", wait=None, limit=3) == State.FAILED
    run = Run.objects.get()
    assert (run.state, run.error) == ("failed", "503; gave up after 3 attempts without progress")


def test_due_parts_are_woken_once_and_again_after_a_while():
    part = queued()
    assert waking.due_parts() == [part.pk]
    assert waking.due_parts() == []
    Part.objects.update(woken_at=Now() - waking.WAKE_AGAIN - timedelta(seconds=1))
    assert waking.due_parts() == [part.pk]


def test_a_new_run_can_start_after_the_last_one_ended():
    attempts.end(claimed(), State.FAILED, error="because")
    _, created = runs.request("photos", trigger=Trigger.COMMAND)
    assert created
    assert Run.objects.filter(state=State.FAILED).get().finished_at is not None


# The kernel gives no process the id 0, on whatever host this is.
GONE = f"{owners.current().rsplit(':', 2)[0]}:0:1"


def test_a_part_of_a_process_that_is_gone_is_freed_without_waiting_for_its_lease():
    part = claimed()
    gone = subprocess.run(  # it names itself and ends
        [sys.executable, "-c", "from ingestion import owners; print(owners.current())"],
        check=True, capture_output=True, text=True, cwd=Path.cwd(),
    ).stdout.strip()  # fmt: skip
    assert owners.is_gone(gone)
    assert not owners.is_gone(owners.current())
    Part.objects.update(owner=gone)
    assert attempts.free_abandoned() == 1
    assert claims.claim(part.pk).epoch == 2


def test_a_part_whose_process_is_gone_again_waits_longer_each_time():
    """One that kills its process must not be taken up in a hot loop; one that makes progress begins anew."""
    part = claimed()
    waits = []
    for _ in range(3):
        Part.objects.update(owner=GONE)
        assert attempts.free_abandoned() == 1
        part.refresh_from_db()
        now = Part.objects.annotate(now=Now()).get().now
        waits.append(part.next_attempt_at and round((part.next_attempt_at - now).total_seconds()))
        claims.claim(part.pk, now=True)
    assert waits == [None, 2, 4]
    assert Part.objects.get().waiting_for == ""


@pytest.mark.parametrize("owner", ["elsewhere/1:99999999:1", "", "nonsense", "a:b:c"])
def test_an_owner_that_cannot_be_judged_is_not_called_gone(owner):
    assert not owners.is_gone(owner)


def test_a_foreground_run_refuses_a_feed_that_somebody_else_advances():
    claimed()
    with pytest.raises(AlreadyRunning, match=r"already running since .* run"):
        claims.request_and_claim("photos", trigger=Trigger.COMMAND)


def test_a_foreground_run_refuses_one_whose_last_part_ends_at_that_moment():
    part = queued()
    Part.objects.filter(pk=part.pk).update(state=State.SUCCEEDED)
    with pytest.raises(AlreadyRunning, match=rf"run {part.run_id} of photos has ended just now; start another one"):
        claims.request_and_claim("photos", trigger=Trigger.COMMAND)


def test_a_foreground_run_finishes_a_queued_one():
    part = queued()
    assert claims.request_and_claim("photos", trigger=Trigger.COMMAND).pk == part.pk


def test_every_declared_feed_has_its_row():
    FeedState.objects.all().delete()
    runs.remember_feeds()
    runs.remember_feeds()
    assert FeedState.objects.filter(name="photos").count() == 1
