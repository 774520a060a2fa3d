"""What is remembered of a page that was loaded whole, and which keys it can have. Pure values, no I/O.

Note [Order of pages]: the last record of a key wins, so a page may be skipped only while no page before it in the same
run has written a row that it, too, could have. Which keys a page can have is told by its span, from the lowest to the
highest. Pages that are ordered by key have spans apart, and a change in one leaves the others to be skipped; where the
order is another one, the pages after a changed one are loaded again.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec

# The lowest and the highest key; of a key of several columns its first column's. Empty: no key. None: it could be any.
Span: TypeAlias = tuple[Any, ...] | None

NO_KEYS: Final[Span] = ()
# Longer ones are not kept beside a page.
_LONGEST: Final = 100


class Remembered(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A page that was loaded whole: nothing of it was rejected, and no key came twice.

    `note` is the source's own, given back to it when the page is skipped. `skipped` records were left out by the feed's
    rules; `coercions` counts `column:rule`.
    """

    number: int
    digest: bytes
    note: str
    records: int
    skipped: int
    coercions: dict[str, int]
    low: int | str | None
    high: int | str | None

    @property
    def span(self) -> Span:
        if self.records == self.skipped:
            return NO_KEYS
        return None if self.low is None else (self.low, self.high)


def span_of(keys: Sequence[Any]) -> Span:
    """Return the span of the keys of a page's rows."""
    if not keys:
        return NO_KEYS
    firsts = [key[0] for key in keys] if type(keys[0]) is tuple else keys
    if type(firsts[0]) is int:
        return min(firsts), max(firsts)
    # As text these are in another order, but equal ones stay equal; decimals, for one, do not.
    texts = firsts if type(firsts[0]) is str else [str(key) for key in firsts] if _has_one_text(firsts[0]) else []
    if not texts or len(low := min(texts)) > _LONGEST or len(high := max(texts)) > _LONGEST:
        return None
    return low, high


def _has_one_text(key: Any) -> bool:
    return isinstance(key, UUID) or (isinstance(key, date) and not isinstance(key, datetime))


def joined(one: Span, other: Span) -> Span:
    """Return the span that holds both."""
    if one is None or other is None:
        return None
    if not one or not other:
        return one or other
    return min(one[0], other[0]), max(one[1], other[1])


def overlap(one: Span, other: Span) -> bool:
    """Whether one key could be in both."""
    if NO_KEYS in (one, other):
        return False
    if one is None or other is None:
        return True
    return bool(one[0] <= other[1] and other[0] <= one[1])
