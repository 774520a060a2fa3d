"""Cancel and resume, whatever the run is doing: nothing written after a cancel, nothing read twice by a resume."""

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from ingestion import attempts, claims, interventions, ledger, pipeline, runs, waking
from ingestion.errors import AlreadyRunning, ConfigurationError, PartTaken, RetryLater, RunFailed, WrongState
from ingestion.feeds import Append, Mirror, Replace, Upsert
from ingestion.models import Part, Run, State, Trigger
from ingestion.types import Counts
from tests.ingestion.catalog import products, rows
from tests.processes import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

woken: list[int] = []


def record_wake(part: int) -> None:
    woken.append(part)


@pytest.fixture(autouse=True)
def _wakes(settings):
    woken.clear()
    settings.INGESTION_WAKE = "tests.ingestion.test_interventions.record_wake"


def queued(name: str = "photos") -> Part:
    run, _ = runs.request(name, trigger=Trigger.COMMAND, wake_workers=False)
    return run.parts.get()


def claimed() -> Part:
    return claims.claim(queued().pk)


def waiting() -> Part:
    part = claimed()
    attempts.retry_later(part, reason="503", wait=timedelta(hours=1), limit=5)
    return part


@pytest.mark.parametrize("make", [queued, claimed, waiting])
def test_cancel_ends_a_run_in_every_active_state_and_frees_its_feed(make):
    part = make()
    run = interventions.cancel(part.run_id, by="ada")
    assert (run.state, run.error, run.finished_at is not None) == ("cancelled", "cancelled by ada", True)
    left = Part.objects.get()
    assert (left.state, left.owner, left.leased_until, left.next_attempt_at, left.waiting_for) == (
        "cancelled", "", None, None, "",
    )  # fmt: skip
    assert waking.due_parts() == []
    with pytest.raises(PartTaken):
        claims.claim(part.pk, now=True)
    assert runs.request("photos", trigger=Trigger.COMMAND)[1]


def test_after_a_cancel_its_owner_writes_nothing(catalog, model):
    """It is cancelled while it reads its third page; what was committed stays, and the owner leaves."""

    def cancel(number):
        if number == 3:
            while Run.objects.get().read < 2:
                time.sleep(0.01)
            interventions.cancel(Run.objects.get().pk)
            connection.close()

    catalog.declare(Upsert(model, key="code"), *(products(n) for n in range(1, 6)), before=cancel)
    with pytest.raises(PartTaken):
        pipeline.advance(queued("catalog").pk, slice_seconds=60)
    run = Run.objects.get()
    assert (run.state, run.error, run.read) == ("cancelled", "cancelled", 2)
    assert rows(model, "code") == [1, 2]


def test_a_foreground_run_that_is_cancelled_reports_it(catalog, model):
    def cancel(number):
        if number == 2:
            interventions.cancel(Run.objects.get().pk, by="ada")
            connection.close()

    summary = catalog.sync(Upsert(model, key="code"), products(1), products(2), before=cancel)
    assert (summary["state"], summary["error"]) == ("cancelled", "cancelled by ada")


@pytest.mark.parametrize("end", [State.SUCCEEDED, State.FAILED])
def test_cancel_of_a_run_that_has_ended_says_how(end):
    part = claimed()
    attempts.end(part, end)
    with pytest.raises(WrongState, match=f"run {part.run_id} of photos has ended already: {end}"):
        interventions.cancel(part.run_id)


def test_cancel_twice_is_cancel_once():
    part = claimed()
    first = interventions.cancel(part.run_id, by="ada")
    second = interventions.cancel(part.run_id, by="bob")
    assert (second.error, second.finished_at) == ("cancelled by ada", first.finished_at)


@pytest.mark.parametrize("ask", [interventions.cancel, interventions.resume])
def test_a_run_that_is_not_there_is_named(ask):
    with pytest.raises(WrongState, match="there is no run 4711"):
        ask(4711)


class Committing(threading.Thread):
    """A chunk in its last moments: holds the rows of the part and the run for a while, then commits."""

    def __init__(self, part, seconds):
        super().__init__(daemon=True)
        self.part, self.seconds, self.holds = part, seconds, threading.Event()

    def run(self):
        with transaction.atomic():
            ledger.commit(self.part, cursor={"page": 9}, counts=Counts(read=1, inserted=1), rejections=[])
            self.holds.set()
            time.sleep(self.seconds)
        connection.close()


def test_cancel_waits_for_a_commit_that_is_under_way():
    part = claimed()
    committing = Committing(part, 0.5)
    committing.start()
    committing.holds.wait()
    run = interventions.cancel(part.run_id)
    committing.join()
    assert (run.state, run.read, Part.objects.get().cursor) == ("cancelled", 1, {"page": 9})


def test_cancel_of_a_run_that_takes_long_to_finish_says_so(monkeypatch):
    monkeypatch.setattr(interventions, "PATIENCE", timedelta(seconds=0.2))
    part = claimed()
    committing = Committing(part, 1)
    committing.start()
    committing.holds.wait()
    with pytest.raises(WrongState, match="is finishing: its last chunk is being committed"):
        interventions.cancel(part.run_id)
    committing.join()
    assert Run.objects.get().state == "running"


# Longer than a cancel may take, and short enough for a test that fails.
DELETE_SECONDS = 20
SLOW = (
    f"CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep({DELETE_SECONDS});"
    " RETURN NULL; END$$; CREATE TRIGGER nap BEFORE DELETE ON {table} EXECUTE FUNCTION nap()"
)


def finishes(part_id) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE %s AND wait_event = 'PgSleep'"
            " AND datname = current_database()",
            [f"ingestion % part {part_id}"],
        )
        return bool(cursor.fetchall())


@pytest.mark.parametrize("mode", [Mirror, Replace])
def test_cancel_stops_a_run_that_deletes_for_long_and_resume_finishes_it(catalog, model, mode):
    catalog.sync(mode(model, key="code"), products(1, 2, 3))
    catalog.declare(mode(model, key="code", allow_delete_share=1), products(1))
    part = queued("catalog")
    left: list[object] = []

    def advance():
        try:
            left.append(pipeline.advance(part.pk, slice_seconds=60))
        except PartTaken as error:
            left.append(error)
        finally:
            connection.close()

    with connection.cursor() as cursor:
        cursor.execute(SLOW.replace("{table}", model._meta.db_table))
    worker = threading.Thread(target=advance)
    worker.start()
    wait_until(lambda: finishes(part.pk), what="the delete")
    asked_at = time.monotonic()
    run = interventions.cancel(part.run_id, by="ada")
    assert time.monotonic() - asked_at < DELETE_SECONDS / 4
    worker.join()
    assert isinstance(left[0], PartTaken)
    assert (run.state, run.error, run.deleted) == ("cancelled", "cancelled by ada", 0)
    assert rows(model, "code") == [1, 2, 3]
    assert not finishes(part.pk)
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION nap CASCADE")
    interventions.resume(part.run_id, by="ada")
    assert pipeline.advance(part.pk, slice_seconds=60) == State.SUCCEEDED
    assert (rows(model, "code"), Run.objects.get(pk=part.run_id).deleted) == ([1], 2)


def fail_at(page):
    def fail(number):
        if number == page:
            raise RunFailed("shape", "no list")

    return fail


def test_resume_goes_on_from_the_cursor_and_reads_nothing_twice(catalog, model):
    target, pages = Upsert(model, key="code"), [products(n) for n in range(1, 6)]
    failed = catalog.sync(target, *pages, before=fail_at(4))
    assert (failed["state"], failed["read"]) == ("failed", 3)
    asked = []
    catalog.declare(target, *pages, before=asked.append)
    run = interventions.resume(failed["run"], by="ada")
    assert (run.state, run.error, run.finished_at, run.resumes) == ("queued", "", None, 1)
    assert (run.resumed_by, run.resumed_at >= run.requested_at) == ("ada", True)
    part = run.parts.get()
    assert woken == [part.pk]
    assert pipeline.advance(part.pk, slice_seconds=60) == State.SUCCEEDED
    assert asked == [4, 5]
    run.refresh_from_db()
    assert (run.read, run.inserted, rows(model, "code")) == (5, 5, [1, 2, 3, 4, 5])


def test_resume_of_a_part_that_used_up_its_attempts_gives_it_all_of_them_again(catalog, model):
    def refuse(number):
        raise RetryLater("503")

    catalog.declare(Upsert(model, key="code"), products(1), before=refuse)
    part = queued("catalog")
    Part.objects.update(attempts=4)
    assert pipeline.advance(part.pk, slice_seconds=60) == State.FAILED
    interventions.resume(part.run_id)
    assert pipeline.advance(part.pk, slice_seconds=60) == State.WAITING
    assert Part.objects.get().attempts == 1


@pytest.mark.parametrize("target", [Mirror, Replace])
def test_a_resumed_run_knows_at_its_end_what_it_read_before(catalog, model, target):
    target = target(model, key="code", allow_delete_share=1)
    catalog.sync(target, products(1, 2, 3, 4))
    cancelled = []

    def cancel(number):
        if number == 2 and not cancelled:
            while not Part.objects.filter(cursor={"page": 2}).exists():
                time.sleep(0.01)
            cancelled.append(interventions.cancel(Run.objects.first().pk))
            connection.close()

    summary = catalog.sync(target, products(1), products(2), before=cancel)
    assert (summary["state"], summary["read"]) == ("cancelled", 1)
    interventions.resume(summary["run"])
    assert pipeline.advance(Part.objects.get(run=summary["run"]).pk, slice_seconds=60) == State.SUCCEEDED
    assert rows(model, "code") == [1, 2]


def test_the_owner_from_before_the_cancel_has_no_say_after_the_resume():
    zombie = claimed()
    interventions.cancel(zombie.run_id)
    interventions.resume(zombie.run_id)
    claims.claim(zombie.pk)
    with pytest.raises(PartTaken), transaction.atomic():
        ledger.commit(zombie, cursor={"page": 9}, counts=Counts(), rejections=[])
    assert Part.objects.get().cursor is None


def failed() -> Run:
    part = claimed()
    attempts.end(part, State.FAILED, error="because")
    return part.run


def test_resume_is_refused_while_another_run_of_the_feed_is_active():
    run = failed()
    active = queued().run
    with pytest.raises(AlreadyRunning, match=f"photos is already running since .* UTC: run {active.pk}"):
        interventions.resume(run.pk)
    assert Run.objects.get(pk=run.pk).state == "failed"


def test_resume_is_refused_when_a_later_run_has_read_everything():
    run = failed()
    later = claimed()
    attempts.end(later, State.SUCCEEDED)
    with pytest.raises(WrongState, match=f"run {later.run_id} has read everything since; trigger a new one"):
        interventions.resume(run.pk)


def test_a_later_run_that_failed_or_only_replayed_does_not_matter():
    run = failed()
    failed()
    replay = claimed()
    Run.objects.filter(pk=replay.run_id).update(trigger=Trigger.REPLAY)
    attempts.end(replay, State.SUCCEEDED)
    assert interventions.resume(run.pk).state == "queued"


@pytest.mark.parametrize(
    ("state", "why"), [(State.RUNNING, "it is running"), (State.SUCCEEDED, "it has succeeded; trigger a new one")]
)
def test_resume_of_a_run_that_did_not_end_badly_is_refused(state, why):
    part = claimed()
    if state == State.SUCCEEDED:
        attempts.end(part, state)
    with pytest.raises(WrongState, match=f"run {part.run_id} of photos cannot be resumed: {why}"):
        interventions.resume(part.run_id)


def test_resume_of_a_replay_is_refused():
    run = failed()
    Run.objects.update(trigger=Trigger.REPLAY)
    with pytest.raises(WrongState, match="it replayed rejects; replay them again"):
        interventions.resume(run.pk)


def test_resume_of_a_feed_that_is_gone_is_refused():
    run = failed()
    run.feed.name = "gone"
    run.feed.save()
    with pytest.raises(ConfigurationError, match="no feed is named 'gone'"):
        interventions.resume(run.pk)


def test_resume_of_a_mirror_whose_tables_are_gone_is_refused(catalog, model):
    """A later run drops them; so does the guard that ends a run after its last chunk."""
    target = Mirror(model, key="code")
    catalog.sync(target, *[products(n) for n in range(1, 9)])
    first = catalog.sync(target, products(1), products(2), before=fail_at(2))
    guarded = catalog.sync(target, products(1))
    assert guarded["error"].startswith("delete_guard")
    for run in (first, guarded):
        with pytest.raises(WrongState, match="what it had read is gone with its tables"):
            interventions.resume(run["run"])


def test_a_resumed_append_adds_what_is_missing_and_nothing_twice(catalog, model):
    pages = [products(n) for n in range(1, 5)]
    run = catalog.sync(Append(model), *pages, before=fail_at(3))
    catalog.declare(Append(model), *pages)
    interventions.resume(run["run"])
    assert pipeline.advance(Part.objects.get().pk, slice_seconds=60) == State.SUCCEEDED
    assert rows(model, "code") == [1, 2, 3, 4]


def test_a_run_whose_owner_is_dead_can_be_cancelled():
    part = claimed()
    Part.objects.update(leased_until=Now() - timedelta(hours=1), owner="elsewhere/1:1:1")
    assert interventions.cancel(part.run_id).state == "cancelled"
