"""How parts wait until a time, and runs with them. No network, no Celery."""

from datetime import datetime

from django.db.models import QuerySet
from django.db.models.expressions import Combinable

from ingestion.models import Part, Run, State


def begin(parts: QuerySet[Part], until: datetime | Combinable, reason: str, *, gives_turn: bool = False) -> bool:
    """Let parts wait, owned by nobody; return whether there were any.

    Args:
        gives_turn: other parts of the run have their turn meanwhile.
    """
    return bool(
        parts.update(
            state=State.WAITING,
            owner="",
            leased_until=None,
            next_attempt_at=until,
            waiting_for=reason,
            woken_at=None,
            gave_turn=gives_turn,
        )
    )


def begin_run(run: Run) -> None:
    """Let a run wait when no part of it is at work. The caller holds the lock of its row.

    So of two parts that begin to wait at once the second one sees the first.
    """
    if not run.parts.filter(state__in=(State.QUEUED, State.RUNNING)).exists():
        Run.objects.filter(pk=run.pk).update(state=State.WAITING)
