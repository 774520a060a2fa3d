"""Blocks of CSV text to rows, at C speed where the text is what it should be. Pure, no I/O."""

import csv
import io
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, repeat
from typing import Any, Final

from ingestion.errors import RecordRejected, RunFailed
from ingestion.tabular import MixedRecords, TextColumn, TextRecords, TextRow, text_records

# The csv module has one limit for all of its users, 131,072 characters. Here a record's size is limited before it.
FIELD_CHARACTERS: Final = 2**31 - 1
# What csv says of text that ends inside quotes.
_UNEXPECTED_END: Final = "unexpected end of data"


@dataclass(kw_only=True, slots=True)
class Parsed:
    """The records of a block. `used` bytes and `lines` lines of it are in them; the rest is the start of a record."""

    records: TextRecords | MixedRecords
    used: int
    lines: int
    refused: dict[int, RecordRejected] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How CSV text is written."""

    delimiter: str
    quote: str
    escape: str | None

    @property
    def options(self) -> dict[str, Any]:
        """Return the arguments for Python's csv reader."""
        quoting = csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE
        return {
            "delimiter": self.delimiter, "quotechar": self.quote or None, "escapechar": self.escape,
            "quoting": quoting, "strict": True,
        }  # fmt: skip

    def reader(self, lines: Iterator[str]) -> Any:
        """Return Python's reader of lines, which have their line ends."""
        csv.field_size_limit(FIELD_CHARACTERS)
        return csv.reader(lines, **self.options)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What is known of the rows of one file.

    Args:
        names: of the columns.
        header: the file's own header, which is not taken for a row when it comes again.
        skips_header: leave a header that comes again out, instead of rejecting it.
        nulls: texts that stand for null.
    """

    dialect: Dialect
    names: tuple[str, ...]
    header: list[str]
    skips_header: bool
    nulls: Collection[str]

    def parse(self, block: bytes, *, line: int, is_last: bool) -> Parsed:
        """Parse text that ends with a line, or with the file.

        Args:
            block: UTF-8, or what should be.
            line: how many lines are before it.
            is_last: whether the file ends with it.

        Raises:
            RunFailed: `unterminated_quote`.
        """
        parsed = self._at_once(block, is_last=is_last)
        return self._one_by_one(block, line=line, is_last=is_last) if parsed is None else parsed

    def _at_once(self, block: bytes, *, is_last: bool) -> Parsed | None:
        """Parse a block without anything unusual in it; None when there is."""
        try:
            text = block.decode()
        except UnicodeDecodeError:
            return None
        if self.dialect.escape or (self.dialect.quote and self.dialect.quote in text):
            return self._quoted(text, len(block), is_last=is_last)
        # Without quotes a block is nothing but lines and delimiters.
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        rows = list(filter(None, lines))
        delimiter, width = self.dialect.delimiter, len(self.names)
        if rows and set(map(str.count, rows, repeat(delimiter))) != {width - 1}:
            return None
        if self.header and delimiter.join(self.header) in rows:
            return None
        values = delimiter.join(rows).split(delimiter) if rows else []
        columns = [self._with_nulls(values[place::width]) for place in range(width)]
        return Parsed(records=TextRecords(self.names, columns), used=len(block), lines=len(lines) - 1)

    def _quoted(self, text: str, used: int, *, is_last: bool) -> Parsed | None:
        rows: list[list[str]] = []
        reader = self.dialect.reader(io.StringIO(text, newline=""))
        try:
            rows.extend(reader)
        except csv.Error as error:
            if is_last or not str(error).startswith(_UNEXPECTED_END):
                return None
            # What was read of the last record is begun again with the next block.
            reader = self.dialect.reader(io.StringIO(text, newline=""))
            deque(islice(reader, len(rows)), maxlen=0)
            used = len("".join(islice(io.StringIO(text, newline=""), reader.line_num)).encode())
        rows = list(filter(None, rows))
        if (rows and set(map(len, rows)) != {len(self.names)}) or (self.header and self.header in rows):
            return None
        columns = list(map(self._with_nulls, zip(*rows, strict=True))) or [()] * len(self.names)
        return Parsed(records=TextRecords(self.names, columns), used=used, lines=reader.line_num)

    def _with_nulls(self, values: Sequence[str]) -> TextColumn:
        if not self.nulls or all(null not in values for null in self.nulls):
            return values
        return [None if value in self.nulls else value for value in values]

    def _one_by_one(self, block: bytes, *, line: int, is_last: bool) -> Parsed:
        """Parse a block row by row, and say of each that is none why not."""
        lines = list(io.StringIO(block.decode("utf-8", "surrogateescape"), newline=""))
        reader = self.dialect.reader(iter(lines))
        rows: list[TextRow] = []
        refused: dict[int, RecordRejected] = {}
        used = taken = 0
        while taken < len(lines):
            row, wrong = _next_row(reader)
            text = lines[taken : reader.line_num]
            if wrong.startswith(_UNEXPECTED_END) and not is_last:
                break
            if wrong and (len(text) > 1 or wrong.startswith(_UNEXPECTED_END)):
                raise RunFailed("unterminated_quote", f"the record that begins in line {line + taken + 1}: {wrong}")
            raw = "".join(text).encode("utf-8", "surrogateescape")
            used += len(raw)
            taken = reader.line_num
            if not (row or wrong) or (self.header and row == self.header and self.skips_header):
                continue
            refusal = RecordRejected("malformed_quotes", detail=wrong) if wrong else self._refusal(row, raw)
            if refusal is not None:
                refused[len(rows)] = refusal
            rows.append(list(self._with_nulls(row)) if refusal is None else raw.rstrip(b"\r\n"))
        return Parsed(records=text_records(self.names, rows), used=used, lines=taken, refused=refused)

    def _refusal(self, row: list[str], raw: bytes) -> RecordRejected | None:
        if self.header and row == self.header:
            return RecordRejected("repeated_header", detail="the header is there again")
        if len(row) != len(self.names):
            return RecordRejected("column_count", detail=f"{len(row)} values, expected {len(self.names)}")
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            return RecordRejected("invalid_encoding", detail=f"not in the declared encoding: {error.reason}")
        return None


def _next_row(reader: Any) -> tuple[list[str], str]:
    """Return the next row, or what is wrong with it; the reader goes on behind it."""
    try:
        return next(reader, []), ""
    except csv.Error as error:
        return [], str(error)
