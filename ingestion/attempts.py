"""How a process keeps the part that it has claimed, and how its attempt at it ends. No network, no Celery."""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog
from django.db import OperationalError, connection
from django.db.models import F, QuerySet
from django.db.models.expressions import Combinable
from django.db.models.functions import Greatest, Now
from django.utils import timezone

from ingestion import breakers, loaders, owners, sqlstates, turns, waits
from ingestion.errors import Blame, PartTaken
from ingestion.models import ACTIVE, Attempt, Outcome, Part, Run, State
from ingestion.transactions import brief

log = structlog.get_logger(__name__)

# An owner that has not renewed for this long is taken for dead. Owners renew every few seconds and at each commit.
LEASE: Final = timedelta(seconds=20)
# Wait before a part without progress is taken up again; doubled with each attempt.
BACKOFF: Final = timedelta(seconds=2)
BACKOFF_MAX: Final = timedelta(minutes=10)


def owned(part: Part) -> QuerySet[Part]:
    """Return the part as long as it is still ours: the fence of every write."""
    return Part.objects.filter(pk=part.pk, epoch=part.epoch, state=State.RUNNING)


def session_name(part: Part) -> str:
    """Return what the database session is called in which the part's owner loads a chunk.

    No two owners have the same, those of other schemas and of earlier epochs included; PostgreSQL keeps 63 bytes of it.
    """
    owner = hashlib.sha256(f"{part.owner} {part.epoch}".encode()).hexdigest()
    return f"ingestion {owner[:12]} part {part.pk}"


def end_sessions(parts: Sequence[Part]) -> None:
    """End the database sessions in which the owners of these parts load chunks, as far as they have any.

    For parts that are taken from their owners: one that was frozen in the middle of a COPY would keep the keys it has
    sent locked for as long as it is frozen, and a statement goes on on the server when its owner was killed.
    """
    names = {part.pk: session_name(part) for part in parts if part.owner}
    if not names:
        return
    with connection.cursor() as cursor:
        if ended := loaders.end_sessions(cursor, list(names.values())):
            log.info("ended the session of an owner before", parts=list(names), sessions=ended)


def renew(part: Part) -> None:
    """Keep the part; call it more often than every LEASE. Never waits for the transaction of a chunk.

    Raises:
        PartTaken: somebody else took it over, or it was cancelled.
    """
    with brief():
        locked = Part.objects.select_for_update(skip_locked=True, no_key=True).filter(pk=part.pk)
        # In the model's own order the run would be joined, and locked, too.
        found = locked.order_by().values_list("epoch", "state").first()
        if found is None:
            return  # the chunk that is being committed holds the row, and renews the lease itself
        if found != (part.epoch, State.RUNNING):
            raise PartTaken(f"{part} was taken over or cancelled")
        Part.objects.filter(pk=part.pk).update(leased_until=Now() + LEASE)


def release(part: Part) -> None:
    """Give the part back at the end of a slice; it is due at once. A slice that was not to blame is no attempt.

    Raises:
        PartTaken: somebody else took it over, or it was cancelled.
    """
    blameless = Greatest(F("attempts") - 1, 0)
    with brief():
        if not owned(part).update(state=State.QUEUED, owner="", leased_until=None, attempts=blameless, woken_at=Now()):
            raise PartTaken(f"{part} was taken over or cancelled")
        close([part.pk], Outcome.RELEASED)


def retry_later(part: Part, *, reason: str, wait: timedelta | None, limit: int, blames: Blame = "") -> State:
    """Let the part wait for its next attempt, or end it when `limit` attempts brought no progress.

    Where its host is to blame, and fails again and again, the part waits for the host, and this was no attempt.

    Raises:
        PartTaken: somebody else took it over, or it was cancelled.
    """
    backoff = _backoff(part.attempts)
    with brief():
        if not owned(part).select_for_update(no_key=True).order_by().values_list("pk").first():
            raise PartTaken(f"{part} was taken over or cancelled")
        until = breakers.note_failure(part, reason, blames)
        if until is not None:
            _wait_for_host(part, until, reason, wait)
        elif part.attempts >= limit:
            end(part, State.FAILED, error=f"{reason}; gave up after {part.attempts} attempts without progress")
            return State.FAILED
        else:
            _wait(part, Now() + max(backoff, wait or backoff), reason)
        close([part.pk], Outcome.WAITING, reason)
    return State.WAITING


def _backoff(attempts: int) -> timedelta:
    backoff: timedelta = min(BACKOFF * 2 ** (attempts - 1), BACKOFF_MAX)
    return backoff


def blame_host(part: Part, *, reason: str, blames: Blame) -> None:
    """Count a failed attempt against the part's host, where that is to blame; the part is left as it is."""
    with brief():
        breakers.note_failure(part, reason, blames)


def _wait_for_host(part: Part, until: datetime, reason: str, wait: timedelta | None) -> None:
    """Let the part wait for its host, without an attempt; other parts probe the host before this one does again."""
    if wait is not None and wait > until - timezone.now():
        # It waits as long as it was asked to, whatever becomes of the host.
        _wait(part, Now() + wait, reason, gives_turn=False)
    else:
        _wait(part, until, breakers.text(reason), gives_turn=False)
    Part.objects.filter(pk=part.pk).update(attempts=Greatest(F("attempts") - 1, 0), woken_at=Now())


def _wait(part: Part, until: datetime | Combinable, reason: str, *, gives_turn: bool = True) -> bool:
    """Let the part wait, and its run when no other part is at work; False when the part is not ours any more."""
    if not waits.begin(owned(part), until, reason, gives_turn=gives_turn):
        return False
    run = Run.objects.select_for_update(no_key=True).get(pk=part.run_id)
    turns.give_next(run)
    waits.begin_run(run)
    return True


def end(part: Part, state: State, *, error: str = "") -> None:
    """End the part, and with the last active part the run; the next part has its turn. Joins the caller's transaction.

    Raises:
        PartTaken: somebody else took it over, or it was cancelled.
    """
    with brief():
        if not owned(part).update(state=state, owner="", leased_until=None):
            raise PartTaken(f"{part} was taken over or cancelled")
        close([part.pk], Outcome(state), error)
        run = Run.objects.select_for_update(no_key=True).get(pk=part.run_id)
        if error and not run.error:
            Run.objects.filter(pk=run.pk).update(error=error)
        if run.parts.filter(state__in=ACTIVE).exists():
            turns.give_next(run)
        else:
            # The worst end of any part is the run's.
            ends = set(run.parts.order_by().values_list("state", flat=True).distinct())
            worst = next(s for s in (State.FAILED, State.CANCELLED, State.SUCCEEDED) if s in ends)
            Run.objects.filter(pk=run.pk).update(state=worst, finished_at=Now())


def close(part_ids: Sequence[int], outcome: Outcome, detail: str = "") -> None:
    """Note in the history how the attempts at these parts ended, those that are still open."""
    Attempt.objects.filter(part__in=part_ids, ended_at=None).update(ended_at=Now(), outcome=outcome, detail=detail)


def interrupt(part: Part) -> None:
    """Cancel the part and those of its run that nobody advances.

    Raises:
        PartTaken: somebody else took it over.
    """
    with brief():
        # Before any part, as whoever gives turns does.
        Run.objects.select_for_update(no_key=True).get(pk=part.run_id)
        others = Part.objects.filter(run=part.run_id, state__in=(State.QUEUED, State.WAITING))
        others.update(state=State.CANCELLED, next_attempt_at=None, waiting_for="")
        end(part, State.CANCELLED, error="interrupted")


def free_abandoned() -> int:
    """Free the parts whose owner was a process of this host that is gone, without waiting for their leases.

    They are due at once, but not when the owner before was lost as well: a part that kills its processes has to wait.
    """
    freed = 0
    for part in Part.objects.filter(state=State.RUNNING).order_by().only("run", "number", "epoch", "owner", "attempts"):
        if owners.is_gone(part.owner):
            try:
                freed += _free(part)
            except OperationalError as error:
                # Another part of the run is at work with the run's row locked: the next dispatch tries again.
                if sqlstates.sqlstate(error) != sqlstates.LOCK_NOT_AVAILABLE:
                    raise
    return freed


def _free(part: Part) -> bool:
    end_sessions([part])
    with brief(lock_timeout=loaders.LOCK_TIMEOUT):
        if part.attempts <= 1:
            is_freed = bool(owned(part).update(state=State.QUEUED, owner="", leased_until=None, woken_at=None))
        else:
            is_freed = _wait(part, Now() + _backoff(part.attempts - 1), f"process lost {part.attempts} times in a row")
        if is_freed:
            close([part.pk], Outcome.LOST)
    return is_freed
