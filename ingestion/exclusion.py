"""Groups of feeds that must not run together: their runs take turns, the oldest one first.

Note [Groups]: a run holds its group while its state is running, from the claim of its first part until it ends or waits
for another attempt; an index with room for one running run of a group keeps all others out, whoever forgets to ask.
They stay queued and say whom they wait for. A run that is refused keeps no lock, and whoever is let in waits for
nobody: there is nothing to deadlock over. The oldest goes first, so that none is overtaken for ever.
"""

from typing import Final

from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Coalesce, Now

from ingestion import sqlstates
from ingestion.errors import GroupBusy
from ingestion.models import Part, Run, State

ONE_RUNNING: Final = "ingestion_run_one_running_per_group"

# A run whose part could be claimed, were it not for its group.
_READY: Final = Q(parts__state=State.QUEUED) | Q(parts__state=State.WAITING, parts__next_attempt_at__lte=Now())


def admitted() -> Q:
    """Parts whose group, if they have one, is theirs or free for them."""
    group = Run.objects.filter(group=OuterRef("run__group"))
    ahead = group.filter(Q(state=State.RUNNING) | Q(_READY, pk__lt=OuterRef("run")))
    return Q(run__group="") | Q(run__state=State.RUNNING) | Q(~Exists(ahead))


def enter(run: Run) -> None:
    """Let the run be running; for one that belongs to a group, when it is its turn. Joins the caller's transaction.

    Raises:
        GroupBusy: it is another run's turn; the caller's transaction must not commit.
    """
    # Of many parts only the first has anything to say here, and only it waits for the run's row.
    starting = Run.objects.filter(pk=run.pk, state__in=(State.QUEUED, State.WAITING))
    if not run.group:
        starting.update(state=State.RUNNING, started_at=Coalesce("started_at", Now()))
    elif run.state != State.RUNNING:
        _refuse_out_of_turn(run)
        try:
            with transaction.atomic():
                starting.update(state=State.RUNNING, started_at=Coalesce("started_at", Now()))
        except IntegrityError as error:
            if sqlstates.constraint(error) != ONE_RUNNING:
                raise
            raise GroupBusy(f"waits for its turn in group {run.group}: another run was faster") from error


def note(part_id: int, why: str) -> None:
    """Let a part that was refused say whom it waits for; its next message is sent when its turn has come."""
    refused = Part.objects.filter(pk=part_id, state__in=(State.QUEUED, State.WAITING))
    refused.update(waiting_for=why, woken_at=None)


def _refuse_out_of_turn(run: Run) -> None:
    group = Run.objects.filter(group=run.group).exclude(pk=run.pk).select_related("feed")
    if holder := group.filter(state=State.RUNNING).first():
        raise GroupBusy(f"waits for its turn in group {run.group}: run {holder.pk} of {holder.feed} is running")
    if older := group.filter(_READY, pk__lt=run.pk).order_by("pk").first():
        raise GroupBusy(f"waits for its turn in group {run.group}: run {older.pk} of {older.feed} was asked for before")
