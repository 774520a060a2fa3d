"""Which parts are due, and the wake-ups that tell the workers. Postgres knows what is due; a message may be lost."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import structlog
from django.conf import settings
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.utils.module_loading import import_string

from ingestion import exclusion
from ingestion.models import Part, Run, State
from ingestion.transactions import brief

log = structlog.get_logger(__name__)

# A part that was woken and not claimed is woken again after this long: its message may be lost. With a dispatch every
# 5 s that is within 7 s; a message that was not lost is there in milliseconds, unless all workers are busy.
WAKE_AGAIN: Final = timedelta(seconds=1.5)
# Parts woken by one dispatch, so that it ends soon; the next one wakes others.
MOST_AT_ONCE: Final = 1_000


def claimable() -> Q:
    """Parts that are due and unowned."""
    return (
        Q(state=State.QUEUED)
        | Q(state=State.WAITING, next_attempt_at__lte=Now())
        | Q(state=State.RUNNING, leased_until__lt=Now())
    )


def is_due() -> bool:
    """Whether any part is to be woken: the question that is asked every few seconds, mostly in vain."""
    # In order: for any single row, as `exists` asks, PostgreSQL likes to read the whole table until it meets one.
    return bool(_due(Part.objects.all(), again=True).order_by("woken_at", "pk").values_list("pk")[:1])


def due_parts(*, beside: int | None = None, again: bool = True) -> list[int]:
    """Return the parts to wake now, and note that they were; concurrent callers get different ones.

    Args:
        beside: only the other parts of this part's run, and those of other runs of its group.
        again: also those that were woken a while ago, and not claimed.
    """
    wanted = Part.objects.all() if beside is None else _beside(beside)
    longest_first = F("woken_at").asc(nulls_first=True)
    with brief():
        due_now = _due(wanted, again=again).filter(exclusion.admitted())
        # Without a join, whose other rows would be locked as well: a run's is locked with each commit of a chunk.
        locked = _due(Part.objects.filter(pk__in=due_now.values("pk")), again=again)
        locked = locked.select_for_update(skip_locked=True, no_key=True)
        due = list(locked.order_by(longest_first, "pk").values_list("pk", flat=True)[:MOST_AT_ONCE])
        Part.objects.filter(pk__in=due).update(woken_at=Now())
    return due


def _beside(part_id: int) -> QuerySet[Part]:
    run = Run.objects.get(parts=part_id)
    group = Q(run__group=run.group, run__state__in=(State.QUEUED, State.WAITING)) if run.group else Q()
    return Part.objects.filter(Q(run=run) | group).exclude(pk=part_id)


def _due(parts: QuerySet[Part], *, again: bool) -> QuerySet[Part]:
    quiet = Q(woken_at=None) | Q(woken_at__lt=Now() - WAKE_AGAIN) if again else Q(woken_at=None)
    return parts.filter(claimable(), quiet).order_by()


def wake(part_ids: Sequence[int]) -> None:
    """Ask the workers to go on with these parts; a failure is logged and left to dispatch."""
    if not part_ids:
        return
    send = import_string(settings.INGESTION_WAKE)
    # Before the messages are sent, so that dispatch does not send them as well.
    Part.objects.filter(pk__in=part_ids).update(woken_at=Now())
    for sent, part_id in enumerate(part_ids):
        try:
            send(part_id)
        except Exception as error:  # noqa: BLE001 - whatever the broker's client raises, the run is safe in Postgres
            log.warning(
                "could not wake a worker; dispatch will", part=part_id, error=f"{type(error).__name__}: {error}"
            )
            Part.objects.filter(pk__in=part_ids[sent:]).update(woken_at=None)
            return
