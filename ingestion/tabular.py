"""Records that are rows of text under one header, as a CSV file has them, and JSON only where one is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, overload

import msgspec

from ingestion.types import Record

# One value for each name, None for null; or the bytes of what is no row.
TextRow = list[str] | list[str | None] | bytes
# The values of one name, in the order of the rows.
TextColumn = Sequence[str | None]

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class TextRecords(Sequence[Record]):
    """Rows of text, each of which is a JSON object when it is taken alone: names to text or null.

    They are held column by column: a list for each row would be one more thing for Python to keep track of.
    """

    names: tuple[str, ...]
    columns: Sequence[TextColumn]

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> "TextRecords": ...
    def __getitem__(self, index: int | slice) -> "Record | TextRecords":
        if isinstance(index, slice):
            return TextRecords(self.names, [values[index] for values in self.columns])
        if not self.columns:
            raise IndexError(index)  # an empty file has no columns, and whoever walks through it waits for this
        return Record(_encode({name: values[index] for name, values in zip(self.names, self.columns, strict=True)}))

    @property
    def by_name(self) -> dict[str, TextColumn]:
        """Return the values of each name."""
        return dict(zip(self.names, self.columns, strict=True))


@dataclass(frozen=True, slots=True)
class MixedRecords(Sequence[Record]):
    """Rows of text among which there is something else, as its own bytes; see `Page.refused`."""

    names: tuple[str, ...]
    lines: Sequence[TextRow]

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> "TextRecords | MixedRecords": ...
    def __getitem__(self, index: int | slice) -> "Record | TextRecords | MixedRecords":
        if isinstance(index, slice):
            return text_records(self.names, self.lines[index])
        row = self.lines[index]
        if isinstance(row, bytes):
            return Record(row)
        return Record(_encode(dict(zip(self.names, row, strict=True))))


def text_records(names: tuple[str, ...], lines: Sequence[TextRow]) -> TextRecords | MixedRecords:
    """Return rows of text as records."""
    if any(isinstance(row, bytes) for row in lines):
        return MixedRecords(names, lines)
    # Without a row there are columns nevertheless.
    return TextRecords(names, list(zip(*lines, strict=True)) or [()] * len(names))
