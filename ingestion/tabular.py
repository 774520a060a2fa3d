"""Records that are rows of text under one header, as a CSV file has them, and JSON only where one is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, overload

import msgspec

from ingestion.types import Record

# One value for each name, None for null; or the bytes of what is no row.
TextRow = list[str] | list[str | None] | bytes

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class TextRecords(Sequence[Record]):
    """Rows of text, each of which is a JSON object when it is taken alone: names to text or null.

    What a source could not make a row of stands between them as its own bytes; see `Page.refused`.
    """

    names: tuple[str, ...]
    rows: Sequence[TextRow]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> "TextRecords": ...
    def __getitem__(self, index: int | slice) -> "Record | TextRecords":
        if isinstance(index, slice):
            return TextRecords(self.names, self.rows[index])
        row = self.rows[index]
        if isinstance(row, bytes):
            return Record(row)
        return Record(_encode(dict(zip(self.names, row, strict=True))))
