"""What is wrong with a division into parts: too many of them, or shares that do not fit the feed any more. No I/O."""

from typing import Final

from ingestion.errors import RunFailed

# More of them mean that each does nearly nothing.
MOST_PARTS: Final = 10_000


def check(parts: int) -> None:
    """Refuse a number of parts before they are made: a remote's total, or a person's dates, may lead to any number.

    Raises:
        RunFailed: `too_many_parts`.
    """
    if parts > MOST_PARTS:
        raise RunFailed("too_many_parts", f"{parts} parts, of at most {MOST_PARTS}: make them larger")


def misfit(parts: object) -> RunFailed:
    """Return why a share cannot be bound: the feed was divided by other parts than these when the run began."""
    return RunFailed("share", f"the run was divided before the feed had {type(parts).__name__}; start another run")
