"""The life of runs and parts in Postgres: request, claim, commit, wait, end. No network, no Celery."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Greatest, Now
from django.utils import timezone

from ingestion import breakers, exclusion, feeds, hosts, owners, sqlstates, turns, waking
from ingestion.errors import AlreadyRunning, Blame, GroupBusy, PartTaken
from ingestion.models import ACTIVE, TURN, Attempt, FeedState, Outcome, Part, Run, State, Trigger
from ingestion.types import Share

log = structlog.get_logger(__name__)

# An owner that has not renewed for this long is taken for dead. Owners renew every few seconds and at each commit.
LEASE: Final = timedelta(seconds=20)
# The constraint that makes the second of two triggers find the run of the first.
ONE_ACTIVE: Final = "ingestion_run_one_active_per_feed"
ONE_BACKFILL: Final = "ingestion_run_one_active_backfill_per_feed"
# Wait before a part without progress is taken up again; doubled with each attempt.
BACKOFF: Final = timedelta(seconds=2)
BACKOFF_MAX: Final = timedelta(minutes=10)


def remember_feeds() -> None:
    """Give every declared feed its row, so that it can be seen and triggered before its first run."""
    FeedState.objects.bulk_create([FeedState(name=feed.name) for feed in feeds.declared()], ignore_conflicts=True)


def remember_feeds_after_migrate(**_: object) -> None:
    """Do so after `migrate`, unless it has just removed the table."""
    if FeedState._meta.db_table in connection.introspection.table_names():
        remember_feeds()


def request(  # noqa: PLR0913 - what somebody may wish for a run, by keyword
    name: str,
    *,
    trigger: Trigger,
    by: str = "",
    limit: int | None = None,
    full: bool = False,
    wake_workers: bool = True,
) -> tuple[Run, bool]:
    """Queue a run of the feed, unless one is active; return the active run and whether it is new.

    The workers are woken after the caller's transaction commits. A broker that is down does not matter: dispatch
    finds the run.

    Args:
        limit: stop after this many records, and delete nothing.
        full: let a new run load every page, unchanged or not, and from the start.

    Raises:
        ConfigurationError: there is no such feed.
    """
    share, group = _first_share(name), feeds.get(name).group
    # A replay reads from nowhere.
    host = hosts.host_of(feeds.get(name).source) if trigger != Trigger.REPLAY else ""
    feed, _ = FeedState.objects.get_or_create(name=name)
    while True:
        try:
            with transaction.atomic():
                run = Run.objects.create(
                    feed=feed, group=group, host=host, trigger=trigger, requested_by=by, limit=limit, full=full
                )
                part = Part.objects.create(run=run, share=share)
        except IntegrityError as error:
            if sqlstates.constraint(error) != ONE_ACTIVE:
                raise
            if active := active_run(name):
                return active, False
            continue  # it ended between our INSERT and our SELECT
        if wake_workers:
            transaction.on_commit(partial(waking.wake, [part.pk]))
        return run, True


def active_run(name: str, *, is_backfill: bool = False) -> Run | None:
    """Return the feed's active run, or its active backfill."""
    active = Run.objects.select_related("feed").filter(feed__name=name, state__in=ACTIVE)
    backfills = Q(trigger=Trigger.BACKFILL)
    return active.filter(backfills if is_backfill else ~backfills).first()


def already_running(run: Run) -> str:
    """Say that the feed's run is active, in the words that everybody is told."""
    what = "backfill of " if run.trigger == Trigger.BACKFILL else ""
    return f"{what}{run.feed} is already running since {since(run)}: run {run.pk}"


def since(run: Run) -> str:
    """Return the time from which a run counts as running: its first take-up, or when it was asked for."""
    return f"{run.started_at or run.requested_at:%Y-%m-%d %H:%M:%S} UTC"


def _first_share(name: str) -> Share | None:
    """Return what the first part of a run covers: everything, or what is found out when the run is divided."""
    return {} if feeds.get(name).parts is None else None


def free_abandoned() -> int:
    """Free the parts whose owner was a process of this host that is gone, without waiting for their leases.

    They are due at once, but not when the owner before was lost as well: a part that kills its processes has to wait.
    """
    freed = 0
    for part in Part.objects.filter(state=State.RUNNING).order_by().only("run", "number", "epoch", "owner", "attempts"):
        if owners.is_gone(part.owner):
            with transaction.atomic():
                if part.attempts <= 1:
                    is_freed = bool(owned(part).update(state=State.QUEUED, owner="", leased_until=None, woken_at=None))
                else:
                    is_freed = _wait(part, _backoff(part.attempts - 1), f"process lost {part.attempts} times in a row")
                if is_freed:
                    close_attempts([part.pk], Outcome.LOST)
                freed += is_freed
    return freed


def claim(part_id: int, *, now: bool = False) -> Part:
    """Take the part over for this process by raising its epoch.

    Args:
        now: also take a part that waits for its next attempt or for its host, but never one that waits for its turn.

    Raises:
        PartTaken: it has ended, is not due, or is owned; or it has to wait, because its host has no room.
        GroupBusy: it is the turn of another run of the feed's group; the part says so.
    """
    try:
        return _claim(part_id, now=now)
    except GroupBusy as busy:
        exclusion.note(part_id, str(busy))
        raise


def _claim(part_id: int, *, now: bool) -> Part:
    allowed = waking.claimable() | Q(state=State.WAITING, next_attempt_at__isnull=False) if now else waking.claimable()
    with transaction.atomic():
        # A row that is locked belongs to the transaction of a chunk, whatever its lease says.
        free = Part.objects.select_for_update(skip_locked=True, no_key=True, of=("self",)).filter(allowed, pk=part_id)
        # With its run, not by values: for those Django locks the run as well.
        part = free.order_by().select_related("run__feed").first()
        if part is None:
            raise PartTaken(f"part {part_id} is not due or somebody else advances it")
        if now:
            return _take(part_id)
        why = _held_up(part)
        if why is None:
            return _take(part_id)
    raise PartTaken(f"part {part_id} waits for {why}")


def _held_up(part: Part) -> str | None:
    """Let a part that is due wait for what it lacks, and return what that is; None when it can begin."""
    if turns.is_held(part):
        return TURN
    if breakers.is_held_up(part):
        return f"its host {part.run.host}, which fails"
    if not hosts.has_room(part.run.host, part.run.feed.name):
        hosts.postpone(part.pk, part.run.host)
        return f"room at {part.run.host}"
    return None


def _take(part_id: int) -> Part:
    Part.objects.filter(pk=part_id).update(
        state=State.RUNNING,
        epoch=F("epoch") + 1,
        owner=owners.current(),
        leased_until=Now() + LEASE,
        attempts=F("attempts") + 1,
        next_attempt_at=None,
        waiting_for="",
        gave_turn=False,
    )
    part = Part.objects.select_related("run__feed").get(pk=part_id)
    exclusion.enter(part.run)
    close_attempts([part_id], Outcome.LOST)
    Attempt.objects.create(part=part, epoch=part.epoch, owner=part.owner, worker=owners.worker())
    return part


def claim_next(run_id: int) -> Part | None:
    """Claim the first part of the run that is due; None when there is none."""
    due = Part.objects.filter(waking.claimable(), run=run_id).order_by("number").values_list("pk", flat=True)
    for part_id in due:
        try:
            return claim(part_id)
        except PartTaken:
            continue
    return None


def request_and_claim(name: str, *, trigger: Trigger, by: str = "", limit: int | None = None) -> Part:
    """Start a run of the feed that this process advances; take an active one over when nobody else advances it.

    Raises:
        AlreadyRunning: somebody else advances the feed's active run, or another feed of its group has its turn.
        ConfigurationError: there is no such feed.
    """
    free_abandoned()
    with transaction.atomic():
        run, _ = request(name, trigger=trigger, by=by, limit=limit, wake_workers=False)
        active = run.parts.filter(state__in=ACTIVE).exclude(turns.HELD).order_by("number")
        part = active.filter(state=State.RUNNING, leased_until__gte=Now()).first() or active[0]
        try:
            return claim(part.pk, now=True)
        except GroupBusy as busy:
            raise AlreadyRunning(f"{name} {busy}") from None
        except PartTaken:
            part.refresh_from_db()
            raise AlreadyRunning(f"{already_running(run)}, advanced by {part.owner}") from None


def rehearse(name: str, *, by: str = "", limit: int | None = None) -> Part:
    """Start a run for a dry run, in the caller's transaction, which is rolled back.

    It does not stand in the way of real runs of the feed: its row never counts as active.

    Raises:
        ConfigurationError: there is no such feed.
    """
    share = _first_share(name)
    feed, _ = FeedState.objects.get_or_create(name=name)
    run = Run.objects.create(
        feed=feed, trigger=Trigger.COMMAND, requested_by=by, state=State.CANCELLED, started_at=Now(), finished_at=Now(),
        limit=limit,
    )  # fmt: skip
    part = Part.objects.create(
        run=run, state=State.RUNNING, epoch=1, owner=owners.current(), leased_until=Now() + LEASE, attempts=1,
        share=share,
    )  # fmt: skip
    return Part.objects.select_related("run__feed").get(pk=part.pk)


def renew(part: Part) -> None:
    """Keep the part; call it more often than every LEASE. Never waits for the transaction of a chunk.

    Raises:
        PartTaken: somebody else took it over, or it was cancelled.
    """
    with transaction.atomic():
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
    with transaction.atomic():
        if not owned(part).update(state=State.QUEUED, owner="", leased_until=None, attempts=blameless, woken_at=Now()):
            raise PartTaken(f"{part} was taken over or cancelled")
        close_attempts([part.pk], Outcome.RELEASED)


def retry_later(part: Part, *, reason: str, wait: timedelta | None, limit: int, blames: Blame = "") -> State:
    """Let the part wait for its next attempt, or end it when `limit` attempts brought no progress.

    Where its host is to blame, and fails again and again, the part waits for the host, and this was no attempt.

    Raises:
        PartTaken: somebody else took it over, or it was cancelled.
    """
    backoff = _backoff(part.attempts)
    with transaction.atomic():
        if not owned(part).select_for_update(no_key=True).order_by().values_list("pk").first():
            raise PartTaken(f"{part} was taken over or cancelled")
        until = breakers.note_failure(part, reason, blames)
        if until is not None:
            _wait_for_host(part, until, reason, wait)
        elif part.attempts >= limit:
            end(part, State.FAILED, error=f"{reason}; gave up after {part.attempts} attempts without progress")
            return State.FAILED
        else:
            _wait(part, max(backoff, wait or backoff), reason)
        close_attempts([part.pk], Outcome.WAITING, reason)
    return State.WAITING


def _backoff(attempts: int) -> timedelta:
    backoff: timedelta = min(BACKOFF * 2 ** (attempts - 1), BACKOFF_MAX)
    return backoff


def blame_host(part: Part, *, reason: str, blames: Blame) -> None:
    """Count a failed attempt against the part's host, where that is to blame; the part is left as it is."""
    with transaction.atomic():
        breakers.note_failure(part, reason, blames)


def _wait_for_host(part: Part, until: datetime, reason: str, wait: timedelta | None) -> None:
    """Let the part wait for its host, without an attempt; other parts probe the host before this one does again."""
    if wait is not None and wait > until - timezone.now():
        # It waits as long as it was asked to, whatever becomes of the host.
        _wait(part, wait, reason, keeps_turn=True)
    else:
        _wait(part, timedelta(0), breakers.text(reason), keeps_turn=True)
        Part.objects.filter(pk=part.pk).update(next_attempt_at=until)
    Part.objects.filter(pk=part.pk).update(attempts=Greatest(F("attempts") - 1, 0), woken_at=Now())


def _wait(part: Part, wait: timedelta, reason: str, *, keeps_turn: bool = False) -> bool:
    """Let the part wait, and its run when no other part is at work; False when the part is not ours any more.

    The next part has its turn meanwhile, unless the part keeps it.
    """
    waiting = owned(part).update(
        state=State.WAITING,
        owner="",
        leased_until=None,
        next_attempt_at=Now() + wait,
        waiting_for=reason,
        woken_at=None,
        gave_turn=not keeps_turn,
    )
    if waiting:
        # Locked, so that of two parts that begin to wait at once the second one sees the first.
        run = Run.objects.select_for_update(no_key=True).get(pk=part.run_id)
        turns.give_next(run)
        if not run.parts.filter(state__in=(State.QUEUED, State.RUNNING)).exists():
            Run.objects.filter(pk=run.pk).update(state=State.WAITING)
    return bool(waiting)


def end(part: Part, state: State, *, error: str = "") -> None:
    """End the part, and with the last active part the run; the next part has its turn. Joins the caller's transaction.

    Raises:
        PartTaken: somebody else took it over, or it was cancelled.
    """
    with transaction.atomic():
        if not owned(part).update(state=state, owner="", leased_until=None):
            raise PartTaken(f"{part} was taken over or cancelled")
        close_attempts([part.pk], Outcome(state), error)
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


def close_attempts(part_ids: Sequence[int], outcome: Outcome, detail: str = "") -> None:
    """Note in the history how the attempts at these parts ended, those that are still open."""
    Attempt.objects.filter(part__in=part_ids, ended_at=None).update(ended_at=Now(), outcome=outcome, detail=detail)


def interrupt(part: Part) -> None:
    """Cancel the part and those of its run that nobody advances.

    Raises:
        PartTaken: somebody else took it over.
    """
    with transaction.atomic():
        # Before any part, as whoever gives turns does.
        Run.objects.select_for_update(no_key=True).get(pk=part.run_id)
        others = Part.objects.filter(run=part.run_id, state__in=(State.QUEUED, State.WAITING))
        others.update(state=State.CANCELLED, next_attempt_at=None, waiting_for="")
        end(part, State.CANCELLED, error="interrupted")


def owned(part: Part) -> QuerySet[Part]:
    """Return the part as long as it is still ours: the fence of every write."""
    return Part.objects.filter(pk=part.pk, epoch=part.epoch, state=State.RUNNING)
