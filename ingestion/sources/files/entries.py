"""What a place with files can do, and what it says of a file. Protocols and values, no I/O."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from ingestion.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One file as its place lists it.

    `name` is for people, and what the file is remembered by; `handle` is what the place itself asks for. `version`
    changes with the content and is empty where the place says nothing of it. `problem` says why it cannot be read.
    """

    name: str
    handle: Any = field(repr=False)
    version: str
    size_bytes: int | None = None
    modified_at: datetime | None = None
    problem: str = ""


class ByteStream(Protocol):
    """Bytes in order. One with an `is_delimited` that is false cannot tell its end from that of the connection."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, at most `size`; none at the end."""
        ...

    def close(self) -> None: ...


class Session(Protocol):
    """An open connection to a place. Its methods raise TransientFailure for what may pass."""

    def find(self, pattern: str) -> Iterator[Entry]:
        """Yield the files whose names match a glob pattern, in any order."""
        ...

    def look(self, entry: Entry) -> Entry | None:
        """Return what the place says of the file now, or None when it is gone."""
        ...

    def open(self, entry: Entry, offset: int) -> ByteStream:
        """Open the file at a byte; a place that cannot begin there skips what comes before."""
        ...

    def move(self, entry: Entry, name: str) -> None:
        """Give the file another name in the same place, with the folders it takes; what has that name is replaced."""
        ...


class Place(Protocol):
    """Where files are."""

    def session(self) -> AbstractContextManager[Session]:
        """Connect; for use from one thread."""
        ...


def version_of(*facts: object) -> str:
    """Make a version out of what a place knows: a size, a time, a tag."""
    return "-".join(fact.isoformat() if isinstance(fact, datetime) else str(fact) for fact in facts if fact is not None)


def readable(name: str | bytes) -> str:
    """Return a name as text that can be stored and shown; what is no UTF-8 is written in escapes."""
    text = name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\x00", r"\x00")


def check_pattern(pattern: str) -> None:
    """Raise ConfigurationError for a pattern that leaves its place."""
    if not pattern or pattern.startswith("/") or ".." in pattern.split("/") or "\x00" in pattern:
        raise ConfigurationError(
            f"the pattern {pattern!r} cannot be used: it is relative to the place, without '..', as in 'out/*.csv'"
        )
