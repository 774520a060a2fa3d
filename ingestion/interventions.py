"""What a person does to a run that is under way or has ended: cancel it, resume it."""

import time
from datetime import timedelta
from functools import partial
from typing import Final

import structlog
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from ingestion import attempts, endings, feeds, loaders, runs, sqlstates, turns, waking
from ingestion.errors import AlreadyRunning, WrongState
from ingestion.models import ACTIVE, ENDED, TURN, Memory, Outcome, Part, Run, State, Trigger
from ingestion.transactions import brief

log = structlog.get_logger(__name__)

# How long a cancel tries to find the run between two commits; somebody waits in front of the admin.
PATIENCE: Final = timedelta(seconds=5)
PAUSE: Final = timedelta(seconds=0.05)
# How long a commit is waited for before its session is ended, as that of a finish, or of a process that was frozen.
POLITE: Final = timedelta(seconds=0.5)
# Runs that do not read all that there is.
PARTIAL: Final = (Trigger.REPLAY, Trigger.BACKFILL)


def cancel(run_id: int, *, by: str = "") -> Run:
    """End an active run as cancelled; what it has committed stays. A run that is cancelled already is left so.

    It takes effect at once, whoever advances the run and whether or not they can hear of it: the epochs are raised,
    so that a chunk that is under way is refused at its commit, and nothing is written after this returns. A run that
    deletes or replaces rows at its end is stopped there, and leaves the table as it was before.

    Raises:
        WrongState: there is no such run, it has ended otherwise, or its commit takes too long to be waited for.
    """
    asked_at = time.monotonic()
    while True:
        try:
            with brief():
                run, taken = _cancel(run_id, f"cancelled by {by}" if by else "cancelled")
        except OperationalError as error:
            if sqlstates.sqlstate(error) != sqlstates.LOCK_NOT_AVAILABLE:
                raise
            waited = time.monotonic() - asked_at
            if waited > PATIENCE.total_seconds():
                raise WrongState(f"run {run_id} is finishing: its last chunk is being committed") from error
            if waited > POLITE.total_seconds():
                attempts.end_sessions(list(Part.objects.filter(run=run_id, state=State.RUNNING).order_by()))
            time.sleep(PAUSE.total_seconds())
        else:
            if taken is not None:
                # Now that they cannot go on: a session that is ended is begun again.
                attempts.end_sessions(taken)
                log.info("run cancelled", feed=run.feed.name, run=run.pk, by=by)
            return run


def _cancel(run_id: int, error: str) -> tuple[Run, list[Part] | None]:
    """Return the run, and the parts as they were; None when it had been cancelled before."""
    # Nobody is waited for: a commit that is under way has locked a part and then wants the run, a finish the run first.
    active = Part.objects.filter(run=run_id, state__in=ACTIVE)
    parts = list(active.select_for_update(nowait=True, no_key=True).order_by("pk").only("pk", "epoch", "owner"))
    run = _locked(run_id, nowait=True)
    if run.state == State.CANCELLED:
        return run, None
    if run.state in ENDED:
        raise WrongState(f"run {run.pk} of {run.feed} has ended already: {run.state}")
    active.update(
        state=State.CANCELLED,
        epoch=F("epoch") + 1,
        owner="",
        leased_until=None,
        next_attempt_at=None,
        waiting_for="",
    )
    attempts.close([part.pk for part in parts], Outcome.CANCELLED, error)
    Run.objects.filter(pk=run.pk).update(state=State.CANCELLED, finished_at=Now(), error=error)
    return _locked(run_id), parts


def resume(run_id: int, *, by: str = "", wake_workers: bool = True) -> Run:
    """Queue a failed or cancelled run again: its parts go on from their cursors, those that succeeded stay so.

    Raises:
        WrongState: there is no such run, it is not one that failed or was cancelled, a later run of the feed has
            succeeded, or what the run has kept for its end is gone; the message says what to do instead.
        AlreadyRunning: the feed has an active run.
        ConfigurationError: there is no such feed any more.
    """
    try:
        with brief():
            run = _resume(run_id, by)
    except IntegrityError as error:
        if (constraint := sqlstates.constraint(error)) not in (runs.ONE_ACTIVE, runs.ONE_BACKFILL):
            raise
        name = Run.objects.values_list("feed__name", flat=True).get(pk=run_id)
        active = runs.active_run(name, is_backfill=constraint == runs.ONE_BACKFILL)
        raise AlreadyRunning(runs.already_running(active) if active else "another run has just ended") from error
    log.info("run resumed", feed=run.feed.name, run=run.pk, by=by)
    if wake_workers:
        queued = run.parts.filter(state=State.QUEUED).values_list("pk", flat=True)
        transaction.on_commit(partial(waking.wake, list(queued)))
    return run


def _resume(run_id: int, by: str) -> Run:
    run = _locked(run_id)
    if reason := _why_not(run):
        raise WrongState(f"run {run.pk} of {run.feed} cannot be resumed: {reason}")
    # The epoch is raised, too: whoever advanced the part before it ended has no say any more.
    run.parts.filter(state__in=(State.FAILED, State.CANCELLED)).update(
        state=State.WAITING, waiting_for=TURN, next_attempt_at=None, epoch=F("epoch") + 1, attempts=0
    )
    # Its memory was compared with the table when it began; since then anybody may have changed a row.
    Memory.objects.filter(run=run).update(basis=None)
    turns.give_next(run)
    Run.objects.filter(pk=run.pk).update(
        state=State.QUEUED, finished_at=None, error="", resumes=F("resumes") + 1, resumed_by=by, resumed_at=Now()
    )
    return _locked(run_id)


def _why_not(run: Run) -> str | None:
    """Say why the run cannot go on; None when it can."""
    if run.state in ACTIVE:
        return f"it is {run.state}"
    if run.state == State.SUCCEEDED:
        return "it has succeeded; trigger a new one"
    if run.trigger == Trigger.REPLAY:
        return "it replayed rejects; replay them again"
    later = Run.objects.filter(feed=run.feed, pk__gt=run.pk, state=State.SUCCEEDED)
    # A backfill reads what no other run does, as it is now.
    if run.trigger != Trigger.BACKFILL and (newest := later.exclude(trigger__in=PARTIAL).first()):
        return f"run {newest.pk} has read everything since; trigger a new one"
    plan = feeds.resolve(feeds.get(run.feed.name))
    mode = endings.finishing(plan)
    if mode is not None and run.first_commit_at is not None:
        with connection.cursor() as cursor:
            if not mode.is_open(cursor, loaders.RunTables(feed=run.feed_id, run=run.pk)):
                return "what it had read is gone with its tables; trigger a new one"
    return None


def _locked(run_id: int, *, nowait: bool = False) -> Run:
    found = Run.objects.select_for_update(nowait=nowait, no_key=True, of=("self",)).select_related("feed")
    run = found.filter(pk=run_id).first()
    if run is None:
        raise WrongState(f"there is no run {run_id}")
    return run
