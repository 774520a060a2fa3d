"""The parts of a run: its division, and whose turn it is, as many at once as the feed allows. No network, no Celery.

Note [Turns]: of the parts that have not ended, `parts_at_once` are queued, running or waiting for their host. The
others wait without a time, so that nobody is woken in vain, however many there are; whoever ends a part gives its turn
to the next one, in the same transaction, with the run's row locked. So does whoever lets a part wait for another
attempt: when that time has come, the part takes the next turn. The limit holds by itself: nothing is counted when
another part is claimed.
"""

from collections.abc import Sequence
from typing import Final

from django.db.models import Q

from ingestion.errors import PartTaken
from ingestion.models import ACTIVE, TURN, Part, Run, State
from ingestion.transactions import brief
from ingestion.types import Share

# Rows of one INSERT.
_BATCH: Final = 1_000

# The parts that wait for their turn.
HELD: Final = Q(state=State.WAITING, next_attempt_at=None)
# Those that are not at work, and have left their turn to others.
_WITHOUT_TURN: Final = HELD | Q(gave_turn=True)


def divide(part: Part, shares: Sequence[Share], *, at_once: int) -> list[int]:
    """Give a run's only part the first of the shares, and make a part for each other one; all of it or nothing.

    Returns the new parts whose turn it is.

    Raises:
        PartTaken: somebody else took the part over, and may have divided the run.
    """
    with brief():
        mine = Part.objects.filter(pk=part.pk, epoch=part.epoch, state=State.RUNNING, share__isnull=True)
        if not mine.update(share=shares[0]):
            raise PartTaken(f"{part} was taken over")
        added = Part.objects.bulk_create(
            (_waiting(part, number, share) for number, share in enumerate(shares[1:], start=part.number + 1)),
            batch_size=_BATCH,
        )
        turn = [new.pk for new in added[: at_once - 1]]
        _give(turn)
        Run.objects.filter(pk=part.run_id).update(parts_at_once=at_once)
    part.share = shares[0]
    return turn


def begin(run: Run, shares: Sequence[Share]) -> list[int]:
    """Make the parts of a new run in the caller's transaction; return those whose turn it is."""
    first = Part(run=run, number=0)
    Part.objects.bulk_create(
        (_waiting(first, number, share) for number, share in enumerate(shares, start=1)), batch_size=_BATCH
    )
    give_next(run)
    return list(run.parts.filter(state=State.QUEUED).values_list("pk", flat=True))


def give_next(run: Run) -> None:
    """Let as many parts have their turn as the run may have at once. The caller holds the lock of the run's row."""
    active = run.parts.filter(state__in=ACTIVE)
    free = run.parts_at_once - active.exclude(_WITHOUT_TURN).count()
    if free > 0:
        _give(list(active.filter(HELD).order_by("number").values_list("pk", flat=True)[:free]))


def is_held(part: Part) -> bool:
    """Whether a part whose wait is over has to wait for its turn, because others have taken all; then it does so.

    Joins the caller's transaction, which has locked the part.
    """
    if not part.gave_turn:
        return False
    run = Run.objects.select_for_update(no_key=True).get(pk=part.run_id)
    if run.parts.filter(state__in=ACTIVE).exclude(_WITHOUT_TURN).count() < run.parts_at_once:
        return False
    Part.objects.filter(pk=part.pk).update(next_attempt_at=None, waiting_for=TURN)
    return True


def end_unread(part: Part) -> None:
    """End the parts of the run that nobody has begun: it has as many records as were asked for.

    Raises:
        PartTaken: somebody else took the part over.
    """
    with brief():
        if not Part.objects.filter(pk=part.pk, epoch=part.epoch, state=State.RUNNING).exists():
            raise PartTaken(f"{part} was taken over")
        waiting = Part.objects.filter(run=part.run_id, state__in=(State.QUEUED, State.WAITING), cursor=None)
        waiting.update(state=State.SUCCEEDED, next_attempt_at=None, waiting_for="")


def _waiting(part: Part, number: int, share: Share) -> Part:
    return Part(run_id=part.run_id, number=number, share=share, state=State.WAITING, waiting_for=TURN)


def _give(parts: Sequence[int]) -> None:
    Part.objects.filter(HELD, pk__in=parts).update(state=State.QUEUED, waiting_for="", woken_at=None, gave_turn=False)
