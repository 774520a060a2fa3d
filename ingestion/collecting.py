"""Chunks while they come together: consecutive pages that are ready, and those that become ready while COPY reads."""

import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ingestion.allowances import Allowance
from ingestion.feeds import Plan
from ingestion.prefetch import Prefetcher
from ingestion.preparation import Prepared, Preparer
from ingestion.skipping import Recollection
from ingestion.types import Cursor, LoadedFile, Rejection

# How long a growing chunk waits for its next page: what cleaning one takes, but no remote that is far away.
PATIENCE_SECONDS: Final = 0.01

# Unchanged pages are waited for and committed together, so many or for so long at most: there is nothing to load in
# them, and a commit for each would cost more than all the rest.
SKIPPED_TOGETHER: Final = 1_000
SKIPPED_SECONDS: Final = 1.0

# Whether a page with these keys may join a chunk that is being loaded.
Accept = Callable[[Sequence[Any]], bool]
# Takes the next page, when there is room for it, and it is ready and accepted.
Take = Callable[[Accept], Prepared | None]


def _nothing(accept: Accept) -> None:
    return None


@dataclass(kw_only=True)
class Chunk:
    """Consecutive pages, committed together, and the keys of their lines. It grows while `growing_lines` is read.

    `loading` are the pages that are to be loaded: all but those that are unchanged.
    """

    pages: list[Prepared]
    take: Take = _nothing
    keys: MutableSequence[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loading = [page for page in self.pages if page.unchanged is None]
        if all(isinstance(page.keys, array) for page in self.loading):
            self.keys = array("q")
        for page in self.loading:
            self.keys.extend(page.keys)

    @property
    def following(self) -> Cursor | None:
        return self.pages[-1].following

    @property
    def rejections(self) -> list[Rejection]:
        return [rejection for page in self.pages for rejection in page.rejections]

    @property
    def read(self) -> int:
        return sum(page.read for page in self.pages)

    @property
    def skipped(self) -> int:
        return sum(page.skipped for page in self.pages)

    @property
    def shape(self) -> dict[str, Any] | None:
        """What all records up to the last page look like, when any of these pages has something new."""
        return next((page.shape for page in reversed(self.pages) if page.shape is not None), None)

    @property
    def files(self) -> list[LoadedFile]:
        return [page.file for page in self.pages if page.file is not None]

    @property
    def warnings(self) -> list[str]:
        return [page.warning for page in self.pages if page.warning]

    @property
    def coercions(self) -> Counter[str]:
        return sum((page.coercions for page in self.pages), start=Counter())

    def _grow(self, accept: Accept) -> bool:
        """Take the next page, if there is one that may join, and its keys are accepted; whether it was."""
        page = self.take(lambda keys: self._can_hold(keys) and accept(keys)) if self.following is not None else None
        if page is None:
            return False
        self.pages.append(page)
        self.loading.append(page)
        self.keys.extend(page.keys)
        return True

    def _can_hold(self, keys: Sequence[Any]) -> bool:
        # An array takes no other keys than those it was made for.
        return not isinstance(self.keys, array) or isinstance(keys, array) or not keys

    def lines(self) -> Iterator[str]:
        """Give the lines of the pages that are there; each page's text is free once it was given."""
        for page in self.loading:
            yield from page.give_lines()

    def growing_lines(self, accept: Accept) -> Iterator[str]:
        """Give the lines of the pages that are there and of those that join meanwhile."""
        number = 0
        while number < len(self.loading) or self._grow(accept):
            yield from self.loading[number].give_lines()
            number += 1


def collect(first: Prepared, ahead: Prefetcher[Prepared], plan: Plan, memory: Recollection | None = None) -> Chunk:
    """Make a chunk of the first page and those that are ready behind it, up to the feed's limits.

    Behind pages that are skipped the next one is waited for. An unchanged page that may not be skipped behind those
    before it is prepared here.
    """
    room = _Room(ahead, Allowance.of(plan.feed))
    pages: list[Prepared] = []

    def settle(page: Prepared) -> None:
        pages.append(_settled(page, pages, plan, memory))
        room.fill(pages[-1])
        if pages[-1] is not page:
            ahead.hold(pages[-1])

    settle(first)
    ends_at = time.monotonic() + SKIPPED_SECONDS
    while pages[-1].following is not None and len(pages) < SKIPPED_TOGETHER:
        page = room.take(wait_seconds=ends_at - time.monotonic() if room.is_empty else 0)
        if page is None:
            break
        settle(page)
    if plan.relations:  # they are looked up for a chunk as it is
        for page in pages:
            page.remake = None
        return Chunk(pages=pages)
    return Chunk(pages=pages, take=room.join)


def _settled(page: Prepared, before: Sequence[Prepared], plan: Plan, memory: Recollection | None) -> Prepared:
    """Let go of an unchanged page's body, or prepare it where it may no longer be skipped."""
    # What was not even sent was looked at before it was asked for: see Note [Not modified].
    if page.unchanged is None or memory is None or page.reread is None:
        return page
    if not memory.still_holds(page.unchanged, before):
        return Preparer(plan.columns, plan.feed.rules)(page.reread())
    page.reread = None
    return page


class _Room:
    """What a transaction may take, as far as it is not taken: see Note [One chunk]. Beside nothing anything fits."""

    def __init__(self, ahead: Prefetcher[Prepared], allowance: Allowance) -> None:
        self._ahead = ahead
        self._allowance = allowance
        self._filled = 0
        self._heaviest = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to load so far."""
        return not self._filled

    def fill(self, page: Prepared) -> None:
        """Count a page that belongs to the chunk."""
        weight = self._allowance.loading(page)
        self._filled += weight
        self._heaviest = max(self._heaviest, weight)

    def take(self, *, wait_seconds: float, accept: Callable[[Prepared], bool] | None = None) -> Prepared | None:
        """Return the next page when it is there already, or in time, and fits, and is accepted."""

        def fits(page: Prepared) -> bool:
            return self._has_room(self._allowance.weigh(page)) and (accept is None or accept(page))

        # For one that is as heavy as others, and would not fit, nobody waits.
        patience = wait_seconds if self._has_room(self._heaviest) else 0
        return self._ahead.take_ready(timeout_seconds=patience, accept=fits)

    def join(self, accept: Accept) -> Prepared | None:
        """Take a page while the chunk is being loaded; one that may be skipped is looked at between two chunks."""
        page = self.take(
            wait_seconds=PATIENCE_SECONDS, accept=lambda page: page.unchanged is None and accept(page.keys)
        )
        if page is not None:
            self.fill(page)
        return page

    def _has_room(self, weight: int) -> bool:
        return not self._filled or self._filled + weight <= self._allowance.transaction
