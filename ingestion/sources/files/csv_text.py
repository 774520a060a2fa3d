"""Blocks of CSV text to rows, at C speed where the text is what it should be. Pure, no I/O."""

import csv
import io
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Final

from ingestion.errors import RecordRejected, RunFailed
from ingestion.tabular import TextRow

# The csv module has one limit for all of its users, 131,072 characters. Here a record's size is limited before it.
FIELD_CHARACTERS: Final = 2**31 - 1
# What csv says of text that ends inside quotes.
_UNEXPECTED_END: Final = "unexpected end of data"


@dataclass(kw_only=True, slots=True)
class Parsed:
    """The rows of a block. `used` bytes and `lines` lines of it are in them; the rest is the start of a record."""

    rows: list[TextRow]
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
        header: the file's own header, which is not taken for a row when it comes again.
        skips_header: leave a header that comes again out, instead of rejecting it.
        nulls: texts that stand for null.
    """

    dialect: Dialect
    width: int
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
        if parsed is None:
            parsed = self._one_by_one(block, line=line, is_last=is_last)
        if self.nulls and not set(self.nulls).isdisjoint(chain.from_iterable(parsed.rows)):
            parsed.rows = [row if isinstance(row, bytes) else self._with_nulls(row) for row in parsed.rows]
        return parsed

    def _with_nulls(self, row: list[Any]) -> list[str | None]:
        return [None if value in self.nulls else value for value in row]

    def _at_once(self, block: bytes, *, is_last: bool) -> Parsed | None:
        """Parse a block without anything unusual in it; None when there is."""
        try:
            text = block.decode()
        except UnicodeDecodeError:
            return None
        rows: list[list[str]] = []
        used = len(block)
        if self.dialect.escape or (self.dialect.quote and self.dialect.quote in text):
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
            lines = reader.line_num
        else:
            # Without quotes it is no more than that, several times as fast.
            found = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
            delimiter = self.dialect.delimiter
            rows = [one.split(delimiter) for one in found if one]
            lines = len(found) - 1
        if [] in rows:
            rows = [row for row in rows if row]
        if (rows and set(map(len, rows)) != {self.width}) or (self.header and self.header in rows):
            return None
        return Parsed(rows=rows, used=used, lines=lines)  # type: ignore[arg-type]  # lists of text are rows

    def _one_by_one(self, block: bytes, *, line: int, is_last: bool) -> Parsed:
        """Parse a block row by row, and say of each that is none why not."""
        lines = list(io.StringIO(block.decode("utf-8", "surrogateescape"), newline=""))
        reader = self.dialect.reader(iter(lines))
        parsed = Parsed(rows=[], used=0, lines=0)
        while parsed.lines < len(lines):
            row, wrong = _next_row(reader)
            text = lines[parsed.lines : reader.line_num]
            if wrong.startswith(_UNEXPECTED_END) and not is_last:
                break
            if wrong and (len(text) > 1 or wrong.startswith(_UNEXPECTED_END)):
                raise RunFailed(
                    "unterminated_quote", f"the record that begins in line {line + parsed.lines + 1}: {wrong}"
                )
            raw = "".join(text).encode("utf-8", "surrogateescape")
            parsed.used += len(raw)
            parsed.lines = reader.line_num
            if row or wrong:
                self._add(parsed, row, raw, wrong)
        return parsed

    def _add(self, parsed: Parsed, row: list[str], raw: bytes, wrong: str) -> None:
        if self.header and row == self.header and self.skips_header:
            return
        refusal = RecordRejected("malformed_quotes", detail=wrong) if wrong else self._refusal(row, raw)
        if refusal is None:
            parsed.rows.append(row)
            return
        parsed.refused[len(parsed.rows)] = refusal
        parsed.rows.append(raw.rstrip(b"\r\n"))

    def _refusal(self, row: list[str], raw: bytes) -> RecordRejected | None:
        if self.header and row == self.header:
            return RecordRejected("repeated_header", detail="the header is there again")
        if len(row) != self.width:
            return RecordRejected("column_count", detail=f"{len(row)} values, expected {self.width}")
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
