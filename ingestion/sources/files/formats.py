"""What is common to the formats of files: blocks of records, where the next one begins, what the feed asks for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from ingestion.errors import RecordRejected, RunFailed
from ingestion.sources.files.limits import FileLimits
from ingestion.types import Cursor, Record

BOM: Final = b"\xef\xbb\xbf"
MAGICS: Final = {"gzip": b"\x1f\x8b", "zip": b"PK\x03\x04"}


class Bytes(Protocol):
    """Decompressed bytes, and how far they were read."""

    position: int

    def read(self, size: int = -1, /) -> bytes: ...

    def skip(self, offset: int) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a source may know of its feed.

    Args:
        fields: the names that every record has to have.
        takes_whole: whether a column takes the whole record.
        is_keyed: whether a record that is read again finds its row.
        loaded: the files that were loaded before, and in which version.
        frees_worker: whether a long wait is better raised than slept through.
        key: of this part of this run, the same for each of its attempts; empty where there is no run.
    """

    fields: frozenset[str] = frozenset()
    takes_whole: bool = False
    is_keyed: bool = True
    loaded: Mapping[str, str] = field(default_factory=dict)
    frees_worker: bool = False
    key: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Consecutive records of a file. `following` is where the next block begins, None after the last one."""

    records: Sequence[Record]
    size_bytes: int
    following: Cursor | None
    refused: Mapping[int, RecordRejected] = field(default_factory=dict)


class Format(Protocol):
    """How records are written in a file."""

    @property
    def ends_with_line(self) -> bool:
        """Whether nothing in a file but the line break at its end tells that it is whole."""
        ...

    def offset(self, at: Cursor | None) -> int:
        """Return the decompressed byte at which reading begins to go on at `at`."""
        ...

    def blocks(self, stream: Bytes, at: Cursor | None, facts: Facts, limits: FileLimits) -> Iterator[Block]:
        """Yield the records from `at` on; holds one block. The stream is at `offset(at)`.

        Raises:
            RunFailed: the file is not in this format.
        """
        ...


def fill(stream: Bytes, start: bytes, size: int) -> tuple[bytes, bool]:
    """Read on until there are `size` bytes, or as many more; return them, and whether the file ends with them."""
    if len(start) >= size:
        size += len(start)
    pieces, length = [start], len(start)
    while length < size:
        received = stream.read(size - length)
        if not received:
            return b"".join(pieces), True
        pieces.append(received)
        length += len(received)
    return b"".join(pieces), False


def refuse_other(start: bytes, encoding: str) -> None:
    """Refuse what is surely not text in an encoding like ASCII: compressed data, UTF-16 and UTF-32.

    Raises:
        RunFailed: `compression`, `encoding`.
    """
    for name, magic in MAGICS.items():
        if start.startswith(magic):
            raise RunFailed("compression", f"this is a {name} file, read as plain text; declare compression={name!r}")
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in start[:2]:
        raise RunFailed("encoding", f"this looks like UTF-16, and was read as {encoding}; declare encoding='utf-16'")
