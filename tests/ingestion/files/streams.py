"""Formats read from bytes in memory, in pieces of any size, and begun again anywhere."""

import json
from typing import Any

from ingestion.sources import Facts, FileLimits


def rows_of(page: Any) -> list[list[Any]]:
    """Return the values of a page's records."""
    return [list(json.loads(bytes(raw)).values()) for raw in page.records]


class Stream:
    """Decompressed bytes that arrive `piece` at a time."""

    def __init__(self, content: bytes, *, at: int = 0, piece: int = 7) -> None:
        self.content, self.position, self.piece = content, at, piece
        self.largest = 0

    def read(self, size: int = -1, /) -> bytes:
        self.largest = max(self.largest, size)
        size = self.piece if size < 0 else min(size, self.piece)
        taken = self.content[self.position : self.position + size]
        self.position += len(taken)
        return taken

    def skip(self, offset: int) -> None:
        self.position = offset


def blocks(format_, content: bytes, at=None, *, facts: Facts | None = None, limits: FileLimits | None = None, piece=7):
    stream = Stream(content, at=format_.offset(at), piece=piece)
    return list(format_.blocks(stream, at, facts or Facts(), limits or FileLimits()))


def records(format_, content: bytes, **options: Any) -> list[Any]:
    """Return all records decoded; refused ones as their reason and bytes."""
    found: list[Any] = []
    for block in blocks(format_, content, **options):
        for position, raw in enumerate(block.records):
            refused = block.refused.get(position)
            found.append((refused.reason, bytes(raw)) if refused else json.loads(bytes(raw)))
    return found


def resumed_everywhere(format_, content: bytes, **options: Any) -> int:
    """Begin again after each block, and compare with what came in one go; return how many blocks there were."""
    whole = blocks(format_, content, **options)
    for number, block in enumerate(whole[:-1]):
        at = json.loads(json.dumps(block.following))
        rest = blocks(format_, content, at, **options)
        assert [list(map(bytes, b.records)) for b in rest] == [list(map(bytes, b.records)) for b in whole[number + 1 :]]
        assert [b.following for b in rest] == [b.following for b in whole[number + 1 :]]
    return len(whole)
