"""The files that are in a place, as far as they match: connected to, listed within limits, their names looked at."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from ingestion.errors import RecordRejected, RunFailed
from ingestion.http import Retry
from ingestion.sources.files.entries import Entry, Place, Session
from ingestion.sources.patience import patiently
from ingestion.types import Cursor, Page, Record

# Names are remembered in an indexed column; S3 allows no longer ones either.
_NAME_BYTES: Final = 1024


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What is listed of a place.

    Args:
        most: files that may match.
        but: a folder whose files are left out.
    """

    place: Place
    pattern: str
    retry: Retry
    most: int
    but: str | None

    @contextmanager
    def connected(self) -> Iterator[Session]:
        """Connect to the place.

        Raises:
            RetryLater: it cannot be reached.
        """
        with ExitStack() as stack:
            yield patiently(self.retry, lambda: stack.enter_context(self.place.session()))

    @contextmanager
    def listed(self) -> Iterator[tuple[Session, list[Entry]]]:
        """Connect and list the files, in any order; the listing is held, up to the limit.

        Raises:
            RetryLater: the place cannot be reached.
            RunFailed: `too_many_files`.
        """
        with ExitStack() as stack:
            yield patiently(self.retry, lambda: self._list(stack))

    def _list(self, stack: ExitStack) -> tuple[Session, list[Entry]]:
        session = stack.enter_context(self.place.session())
        found = list(islice(session.find(self.pattern), self.most + 1))
        if len(found) > self.most:
            raise RunFailed("too_many_files", f"more than {self.most} files match {self.pattern!r}")
        return session, [_checked(entry) for entry in found if not self._is_left_out(entry)]

    def _is_left_out(self, entry: Entry) -> bool:
        return self.but is not None and entry.name.startswith(f"{self.but}/")


def _checked(entry: Entry) -> Entry:
    if not entry.problem and len(entry.name.encode()) > _NAME_BYTES:
        return replace(entry, problem=f"its name has more than {_NAME_BYTES} bytes")
    return entry


def refusals(entries: list[Entry], following: Cursor | None) -> Page:
    """Return a page of files that cannot be read, each of which is a reject with its name."""
    return Page(
        number=1,
        records=[Record(entry.name.encode()) for entry in entries],
        size_bytes=sum(len(entry.name) for entry in entries),
        following=following,
        refused={
            position: RecordRejected("unsafe_name", detail=f"the file was not read: {entry.problem}")
            for position, entry in enumerate(entries)
        },
    )
