"""Windows of time, and those that hold more than the remote gives for one question."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from ingestion import division
from ingestion.errors import RunFailed
from ingestion.sources import FilteredSource, JsonApi, Source
from ingestion.types import Cursor, Page, Recall, Share


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows of time, `step` each, from `start` on; the last one of a run is open-ended.

    Args:
        since, until: what a window's start and end are sent as: query parameters, GraphQL variables and the like.
        start: a moment, or how long before the run's start.
        format: how moments are written, in the words of strftime and in UTC; None is ISO 8601.
        most: records that the remote gives for one question at most, however many it counts. A window that has so many
            is read in halves.
        smallest: no window is halved into shorter ones.
        lag: close the last window too, so long before the run's start; None leaves it open-ended.
    """

    since: str
    until: str
    step: timedelta
    start: datetime | timedelta
    format: str | None = None
    most: int | None = None
    smallest: timedelta = timedelta(seconds=1)
    lag: timedelta | None = None

    def plan(self, source: Source, *, now: datetime) -> Sequence[Share]:
        """Cut the time from the start to now."""
        start = now - self.start if isinstance(self.start, timedelta) else self.start
        shares = self.between(start, now - (self.lag or timedelta(0)))
        if self.lag is not None:
            return shares
        # Somebody's clock is behind, or records are dated ahead: what comes after now belongs to the last window.
        return [*shares[:-1], shares[-1] | {"until": None}] if shares else []

    def between(self, start: datetime, end: datetime) -> list[Share]:
        """Return the windows from `start` to before `end`, the last one shorter where they do not fit.

        Raises:
            RunFailed: `too_many_parts`.
        """
        count = -(-(end - start) // self.step)
        division.check(count)
        edges = [start.astimezone(UTC) + number * self.step for number in range(count)] + [end.astimezone(UTC)]
        return [{"since": since.isoformat(), "until": until.isoformat()} for since, until in pairwise(edges)]

    def beginning(self, start: datetime) -> "Windows":
        """Return the windows from another start on."""
        return replace(self, start=start)

    def bind(self, source: Source, share: Share) -> Source:
        """Return the source asked for the window."""
        if "since" not in share:
            raise division.misfit(self)
        if self.most is None:
            bound: Source = self.within(source, share["since"], share["until"])
            return bound
        assert isinstance(source, JsonApi), "a system check has looked"
        return Halved(windows=self, source=source, window=(share["since"], share["until"]), most=self.most)

    def within(self, source: Any, since: str, until: str | None) -> Any:
        """Return the source asked for a window."""
        window = {
            name: self._written(datetime.fromisoformat(moment))
            for name, moment in ((self.since, since), (self.until, until))
            if moment is not None
        }
        return source.with_values(window)

    def middle(self, since: str, until: str | None, now: datetime) -> str | None:
        """Return the moment where a window is halved, as it can be written; None when it is too short for that."""
        start, end = datetime.fromisoformat(since), datetime.fromisoformat(until) if until else now
        middle = start + (end - start) / 2
        if self.format:
            middle = self._read(self._written(middle))
        elif self.smallest >= timedelta(seconds=1):
            middle = middle.replace(microsecond=0)
        is_long = min(middle - start, end - middle) >= self.smallest
        return middle.isoformat() if is_long else None

    def problem(self, source: Source) -> str | None:
        """Ask for a source that can be asked for a period, and for lengths of time."""
        if not isinstance(source, FilteredSource):
            return "it cannot be asked for a period, which Windows need"
        if self.step <= timedelta(0):
            return "the step of Windows has to be longer than nothing"
        if self.lag is not None and self.lag < timedelta(0):
            return "the lag of Windows is less than nothing"
        if isinstance(self.start, datetime) and self.start.tzinfo is None:
            return "the start of Windows has no time zone"
        return self._problem_of_halving(source) if self.most is not None else None

    def _problem_of_halving(self, source: Source) -> str | None:
        if not isinstance(source, JsonApi) or not getattr(source.pagination, "tells_total", False):
            return "Windows(most=…) needs a JsonApi with a pagination that has total_header or total"
        if self.most is not None and self.most < 1:
            return "most of Windows is a number from 1 on"
        if self.smallest <= timedelta(0):
            return "the smallest window has to be longer than nothing"
        try:
            self._read(self._written(datetime.now(UTC)))
        except ValueError:
            return f"the format {self.format!r} of Windows cannot be read back, which halving needs"
        return None

    def _read(self, text: str) -> datetime:
        if not self.format:
            return datetime.fromisoformat(text)
        return datetime.strptime(text, self.format).replace(tzinfo=UTC)

    def _written(self, moment: datetime) -> str:
        return moment.strftime(self.format) if self.format else moment.isoformat()


@dataclass(frozen=True, kw_only=True)
class Halved:
    """A window that is read whole, or in halves where the remote has more records in it than it would give.

    The cursor has the windows that are left, the one that is being read first. What a window holds is known from the
    first page, before anything of it is loaded.
    """

    windows: Windows
    source: JsonApi
    window: tuple[str, str | None]
    most: int

    @property
    def concurrency(self) -> int:
        return self.source.concurrency

    def pages(self, cursor: Cursor | None) -> Iterator[Page]:
        with self.source.client() as client:
            yield from self._pages(cursor, lambda source, at: source.read(client, at))

    def pages_at_once(
        self, cursor: Cursor | None, recall: Recall | None, *, at_once: int, max_bytes: int
    ) -> Iterator[Page]:
        def read(source: JsonApi, at: Cursor | None) -> Iterator[Page]:
            return source.pages_at_once(at, None, at_once=at_once, max_bytes=max_bytes)

        return self._pages(cursor, read)

    def _pages(self, cursor: Cursor | None, read: Callable[[JsonApi, Cursor | None], Iterator[Page]]) -> Iterator[Page]:
        at: Cursor = cursor or {"pages": 0, "left": [list(self.window)], "at": None}
        while at["left"]:
            for page in read(self.windows.within(self.source, *at["left"][0]), at["at"]):
                if _total(page.following) >= self.most:
                    at = self._halved(at, page)
                    break
                left = at["left"] if page.following else at["left"][1:]
                at = {"pages": at["pages"] + 1, "left": left, "at": page.following}
                yield replace(page, number=at["pages"], following=at if left else None)

    def _halved(self, at: Cursor, page: Page) -> Cursor:
        """Return the cursor with two windows in place of the first one.

        Raises:
            RunFailed: `window_too_full`, it cannot be halved.
        """
        (since, until), *others = at["left"]
        said = f"the remote has {_total(page.following)} records from {since} to {until or 'now'}"
        if at["at"] is not None:
            raise RunFailed(
                "window_too_full", f"{said}, which were fewer than {self.most} when it began; the next run halves it"
            )
        middle = self.windows.middle(since, until, datetime.now(UTC))
        if middle is None:
            raise RunFailed(
                "window_too_full",
                f"{said}, of which it gives fewer than {self.most}, and the window cannot be halved into windows of "
                f"{self.windows.smallest} or more",
            )
        return at | {"left": [[since, middle], [middle, until], *others]}


def _total(following: Cursor | None) -> int:
    """Return what the remote counts; 0 behind the last page, which has ended as it should."""
    total: int = (following or {"at": {}})["at"].get("total") or 0
    return total
