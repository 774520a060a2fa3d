"""What the database itself allows runs and parts to become, and the history of attempts: real commits."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now

from ingestion import attempts, claims, interventions, ledger, owners, runs
from ingestion.models import ACTIVE, ENDED, Attempt, FeedState, Part, Run, State, Trigger
from ingestion.types import Counts
from tests.ingestion.pages import make_run, page_of, text
from tests.staff import VIEWS, session

pytestmark = pytest.mark.django_db(transaction=True)

RESUMABLE = {(end, state) for end in (State.FAILED, State.CANCELLED) for state in (State.QUEUED, State.WAITING)}


@pytest.fixture
def feed() -> FeedState:
    return FeedState.objects.get_or_create(name="photos")[0]


def part_in(feed, state) -> Part:
    times = {"leased_until": Now(), "next_attempt_at": Now()}
    return Part.objects.create(run=make_run(feed, state), state=state, epoch=3, **times)


def change(part, **values) -> bool:
    """Whether the database takes the change."""
    try:
        with transaction.atomic():
            assert Part.objects.filter(pk=part.pk).update(**values) == 1
    except IntegrityError:
        return False
    return True


@pytest.mark.parametrize("old", State)
def test_what_a_part_may_become(feed, old):
    part = part_in(feed, old)
    for new in State:
        for epoch in (3, 4):
            with transaction.atomic():
                allowed = change(part, state=new, epoch=epoch)
                transaction.set_rollback(True)
            if old in ACTIVE:
                # Only a higher epoch keeps out whoever advanced it before.
                expected = not (new == State.RUNNING and old != State.RUNNING and epoch == 3)
            else:
                expected = new == old or ((old, new) in RESUMABLE and epoch == 4)
            assert allowed == expected, f"{old} -> {new} with epoch {epoch}"


@pytest.mark.parametrize("old", State)
def test_what_a_run_may_become(feed, old):
    run = make_run(feed, old)
    for new in State:
        for resumes in (0, 1):
            ended = {"finished_at": Now() if new in ENDED else None}
            try:
                with transaction.atomic():
                    Run.objects.filter(pk=run.pk).update(state=new, resumes=resumes, **ended)
                    transaction.set_rollback(True)
                allowed = True
            except IntegrityError:
                allowed = False
            if old in ACTIVE or new == old:
                expected = True
            elif new in ACTIVE:
                expected = (new, resumes) == (State.QUEUED, 1) and old != State.SUCCEEDED
            else:
                expected = old == State.CANCELLED  # a dry run's row
            assert allowed == expected, f"{old} -> {new}, {resumes} resumes"


def test_an_epoch_never_goes_back(feed):
    part = part_in(feed, State.RUNNING)
    with pytest.raises(IntegrityError, match="its epoch cannot go back from 3 to 2") as raised:
        Part.objects.filter(pk=part.pk).update(epoch=2)
    assert raised.value.__cause__.diag.constraint_name == "ingestion_part_epoch_only_rises"


def test_what_the_database_says_names_the_part_and_what_to_do(feed):
    part = part_in(feed, State.FAILED)
    expected = rf"part 1 of run {part.run_id}: it has ended \(failed\) and cannot become queued"
    with pytest.raises(IntegrityError, match=expected) as raised:
        Part.objects.filter(pk=part.pk).update(state=State.QUEUED)
    assert raised.value.__cause__.diag.message_hint.endswith("manage.py resume RUN")


def test_a_cursor_written_under_an_old_epoch_is_refused_even_without_the_fence(feed):
    part = part_in(feed, State.RUNNING)
    assert change(part, cursor={"page": 2}, writer_epoch=3)
    assert change(part, epoch=F("epoch") + 1)
    assert not change(part, cursor={"page": 3}, writer_epoch=3)
    assert change(part, cursor={"page": 3}, writer_epoch=4)


def test_code_that_does_not_know_of_it_yet_can_take_up_and_commit(feed):
    """As during a deploy, when the database is newer than some of the workers."""
    part = part_in(feed, State.QUEUED)
    assert change(part, state=State.RUNNING, epoch=F("epoch") + 1)
    assert change(part, cursor={"page": 2})


def queued() -> Part:
    run, _ = runs.request("photos", trigger=Trigger.COMMAND, wake_workers=False)
    return run.parts.get()


def history() -> list[tuple[int, str, str]]:
    return [(attempt.epoch, attempt.outcome, attempt.detail) for attempt in Attempt.objects.order_by("pk")]


def test_the_history_tells_how_each_attempt_ended():
    part = queued()
    attempts.release(claims.claim(part.pk))
    attempts.retry_later(claims.claim(part.pk), reason="503", wait=None, limit=5)
    attempts.end(claims.claim(part.pk, now=True), State.FAILED, error="shape: no list")
    interventions.resume(part.run_id)
    claims.claim(part.pk)
    interventions.cancel(part.run_id, by="ada")
    interventions.resume(part.run_id)
    last = claims.claim(part.pk)
    assert history() == [
        (1, "released", ""),
        (2, "waiting", "503"),
        (3, "failed", "shape: no list"),
        (5, "cancelled", "cancelled by ada"),
        (8, "", ""),
    ]
    attempts.end(last, State.SUCCEEDED)
    attempt = Attempt.objects.first()
    assert (attempt.outcome, attempt.owner, attempt.worker) == ("succeeded", owners.current(), "")
    assert attempt.taken_at <= attempt.ended_at


def test_an_attempt_whose_process_is_gone_is_lost_when_somebody_notices():
    part = queued()
    claims.claim(part.pk)
    Part.objects.update(leased_until=Now() - timedelta(seconds=1))
    claims.claim(part.pk)
    gone = subprocess.run(
        [sys.executable, "-c", "from ingestion import owners; print(owners.current())"],
        check=True, capture_output=True, text=True, cwd=Path.cwd(),
    ).stdout.strip()  # fmt: skip
    Part.objects.update(owner=gone)
    attempts.free_abandoned()
    assert [(epoch, outcome) for epoch, outcome, _ in history()] == [(1, "lost"), (2, "lost")]


def test_a_part_has_one_open_attempt_at_most():
    part = claims.claim(queued().pk)
    with pytest.raises(IntegrityError, match="one_open"):
        Attempt.objects.create(part=part, epoch=99, owner="x")


def test_the_history_goes_with_its_run():
    part = queued()
    attempts.end(claims.claim(part.pk), State.SUCCEEDED)
    Run.objects.all().delete()
    assert not Attempt.objects.exists()


def test_a_chunk_adds_nothing_to_the_history():
    part = claims.claim(queued().pk)
    for page in range(2, 5):
        ledger.commit(part, cursor={"page": page}, counts=Counts(), rejections=[])
        part.cursor = {"page": page}
    assert history() == [(1, "", "")]


def test_the_runs_page_shows_its_attempts(monkeypatch):
    monkeypatch.setattr(owners, "_worker", "celery@one")
    part = queued()
    attempts.retry_later(claims.claim(part.pk), reason="503 Service Unavailable", wait=None, limit=5)
    claims.claim(part.pk, now=True)
    shown = text(session(*VIEWS), page_of(part.run))
    for expected in (
        "celery@one",
        owners.current(),
        "failed, to be tried again",
        "503 Service Unavailable",
        "going on",
    ):
        assert expected in shown
