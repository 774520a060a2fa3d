"""JSON documents with a list of records: read whole where they are small, as a stream where they are not."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

import msgspec

from ingestion.errors import RunFailed
from ingestion.http import Response
from ingestion.sources.files.extras import needed
from ingestion.sources.files.formats import BOM, Block, Bytes, Facts, fill, refuse_other
from ingestion.sources.files.limits import MEBIBYTE, FileLimits
from ingestion.sources.splitting import split_records
from ingestion.types import Cursor, Record

_encode: Final = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(frozen=True, kw_only=True)
class Json:
    """Files that are one JSON document: a list of records, or an object with the list at `records`.

    Args:
        whole_bytes: documents up to this size are read into memory, where each record keeps its own bytes. Larger ones
            are read with ijson (the extra `big-json`), several times slower.
        page_records: records of one page.
    """

    records: tuple[str, ...] = ()
    whole_bytes: int = 32 * MEBIBYTE
    page_records: int = 1_000

    @property
    def ends_with_line(self) -> bool:
        return False

    def offset(self, at: Cursor | None) -> int:
        return 0

    def blocks(self, stream: Bytes, at: Cursor | None, facts: Facts, limits: FileLimits) -> Iterator[Block]:
        start, is_whole = fill(stream, b"", self.whole_bytes + 1)
        refuse_other(start, "UTF-8")
        found = self._whole(start) if is_whole else self._streamed(start.removeprefix(BOM), stream)
        number = at["record"] if at else 0
        next(islice(found, number, number), None)
        while True:
            taken = list(islice(found, self.page_records + 1))
            ready = taken[: self.page_records]
            number += len(ready)
            is_last = len(taken) <= self.page_records
            yield Block(
                records=ready,
                size_bytes=sum(map(len, ready)),
                following=None if is_last else {"record": number},
            )
            if is_last:
                return
            found = _joined(taken[-1], found)

    def _whole(self, document: bytes) -> Iterator[Record]:
        headers = {"content-type": "application/json"}
        return iter(split_records(Response(status=200, headers=headers, body=document), self.records))

    def _streamed(self, start: bytes, stream: Bytes) -> Iterator[Record]:
        ijson = needed("ijson", "big-json")
        path = ".".join((*self.records, "item"))
        is_found = False
        try:
            for record in ijson.items(_Joined(start, stream), path):
                is_found = True
                yield Record(_encode(record))
        except (ijson.JSONError, ValueError) as error:
            # One error stands for both, and only its text tells them apart.
            is_cut = "premature" in str(error) or "ncomplete" in str(error)
            raise RunFailed("incomplete" if is_cut else "not_json", f"{error}"[:300]) from error
        if not is_found:
            raise RunFailed("shape", f"there is no list of records at {path.removesuffix('item') or 'the top'}")


class _Joined:
    """Bytes that were read already, and the stream behind them."""

    def __init__(self, start: bytes, stream: Bytes) -> None:
        self._start, self._stream = start, stream

    def read(self, size: int = -1, /) -> bytes:
        if not self._start or size == 0:
            return self._stream.read(size) if size else b""
        taken, self._start = (self._start, b"") if size < 0 else (self._start[:size], self._start[size:])
        return taken


def _joined(first: Record, rest: Iterator[Record]) -> Iterator[Record]:
    yield first
    yield from rest
