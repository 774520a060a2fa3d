"""How a process takes a part over, when that is due and lacks nothing. No network, no Celery."""

from django.db import OperationalError
from django.db.models import F, Q
from django.db.models.functions import Now

from ingestion import attempts, breakers, exclusion, hosts, loaders, owners, runs, sqlstates, turns, waking
from ingestion.errors import AlreadyRunning, GroupBusy, PartTaken
from ingestion.models import ACTIVE, TURN, Attempt, FeedState, Outcome, Part, Run, State, Trigger
from ingestion.transactions import brief


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
    except OperationalError as error:
        if sqlstates.sqlstate(error) != sqlstates.LOCK_NOT_AVAILABLE:
            raise
        raise PartTaken(f"part {part_id} waits for somebody who has its run or its host locked") from error


def _claim(part_id: int, *, now: bool) -> Part:
    allowed = waking.claimable() | Q(state=State.WAITING, next_attempt_at__isnull=False) if now else waking.claimable()
    with brief(lock_timeout=loaders.LOCK_TIMEOUT):
        # A row that is locked belongs to the transaction of a chunk, whatever its lease says.
        free = Part.objects.select_for_update(skip_locked=True, no_key=True, of=("self",)).filter(allowed, pk=part_id)
        # With its run, not by values: for those Django locks the run as well.
        part = free.order_by().select_related("run__feed").first()
        if part is None:
            raise PartTaken(f"part {part_id} is not due or somebody else advances it")
        # Before anything that waits for a lock: an owner whose lease has ended may hold it.
        attempts.end_sessions([part])
        attempts.close([part_id], Outcome.LOST)
        why = None if now else _held_up(part)
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
        leased_until=Now() + attempts.LEASE,
        attempts=F("attempts") + 1,
        next_attempt_at=None,
        waiting_for="",
        gave_turn=False,
    )
    part = Part.objects.select_related("run__feed").get(pk=part_id)
    exclusion.enter(part.run)
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
        AlreadyRunning: somebody else advances the feed's active run, or has just ended it, or another feed of its group
            has its turn.
        ConfigurationError: there is no such feed.
    """
    attempts.free_abandoned()
    with brief():
        run, _ = runs.request(name, trigger=trigger, by=by, limit=limit, wake_workers=False)
        active = run.parts.filter(state__in=ACTIVE).exclude(turns.HELD).order_by("number")
        part = active.filter(state=State.RUNNING, leased_until__gte=Now()).first() or active.first()
        if part is None:
            raise AlreadyRunning(f"run {run.pk} of {name} has ended just now; start another one")
        try:
            return claim(part.pk, now=True)
        except GroupBusy as busy:
            raise AlreadyRunning(f"{name} {busy}") from None
        except PartTaken:
            part.refresh_from_db()
            raise AlreadyRunning(f"{runs.already_running(run)}, advanced by {part.owner}") from None


def rehearse(name: str, *, by: str = "", limit: int | None = None) -> Part:
    """Start a run for a dry run, in the caller's transaction, which is rolled back.

    It does not stand in the way of real runs of the feed: its row never counts as active.

    Raises:
        ConfigurationError: there is no such feed.
    """
    share = runs.first_share(name)
    feed, _ = FeedState.objects.get_or_create(name=name)
    run = Run.objects.create(
        feed=feed, trigger=Trigger.COMMAND, requested_by=by, state=State.CANCELLED, started_at=Now(), finished_at=Now(),
        limit=limit,
    )  # fmt: skip
    part = Part.objects.create(
        run=run, state=State.RUNNING, epoch=1, owner=owners.current(), leased_until=Now() + attempts.LEASE, attempts=1,
        share=share,
    )  # fmt: skip
    return Part.objects.select_related("run__feed").get(pk=part.pk)
