"""What a run may have received and not committed yet: one chunk of its feed.

Note [One chunk]: a process that is killed loses what it has received and not committed, and the next one fetches it
again. So the feed's chunk bounds all of that: the pages of the transaction, those that are ready behind them, and the
one that is on its way, which is taken to weigh as much as the heaviest so far. One transaction takes three fifths at
most; the rest, and what it leaves, is read ahead. One page is loaded and one read ahead however much they weigh: where
pages weigh more than half of a chunk, the two are the bound.

Pages that are skipped as unchanged have nothing to load, and weigh nothing once they are taken.
"""

from dataclasses import dataclass
from typing import Final, Self

from ingestion.feeds import Feed
from ingestion.preparation import Prepared

# Of a chunk: what one transaction takes, and what a source that asks for several pages at once holds itself.
LOADED: Final = (3, 5)
HELD: Final = (1, 4)


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowance:
    """A chunk in numbers: weights are whole, a record weighs as many as there may be bytes, a byte as many as records.

    Args:
        held_bytes: what the source may hold of it, before anything else sees that.
    """

    rows: int
    size_bytes: int
    held_bytes: int = 0

    @classmethod
    def of(cls, feed: Feed) -> Self:
        several = getattr(feed.source, "concurrency", 1) > 1
        held_bytes = feed.chunk_bytes * HELD[0] // HELD[1] if several else 0
        return cls(rows=feed.chunk_rows, size_bytes=feed.chunk_bytes, held_bytes=held_bytes)

    @property
    def open(self) -> int:
        """What pages may weigh together that were received and are not committed."""
        return self.rows * (self.size_bytes - self.held_bytes)

    @property
    def transaction(self) -> int:
        """What those of them may weigh that are committed together."""
        return self.rows * self.size_bytes * LOADED[0] // LOADED[1]

    def weigh(self, page: Prepared) -> int:
        """Return what a page weighs if it is to be loaded."""
        return max((page.read + page.skipped) * self.size_bytes, page.received_bytes * self.rows)

    def ahead(self, page: Prepared) -> int:
        """Return what a page weighs until it is taken: its text, as long in memory, by half of what bytes weigh."""
        return self.weigh(page) + page.text_bytes * self.rows // 2

    def loading(self, page: Prepared) -> int:
        """Return what a page weighs from then on until it is committed."""
        return 0 if page.unchanged is not None else self.weigh(page)
