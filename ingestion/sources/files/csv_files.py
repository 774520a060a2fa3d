"""CSV files: the dialect and the encoding are declared, never guessed (RFC 4180 where nothing else is said)."""

import codecs
import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from ingestion.errors import ConfigurationError, RunFailed
from ingestion.sources.files.csv_text import Dialect, Parsed, Rows
from ingestion.sources.files.formats import BOM, Block, Bytes, Facts, fill, refuse_other
from ingestion.sources.files.headers import names_of
from ingestion.sources.files.limits import FileLimits
from ingestion.sources.files.transcoding import Transcoded, is_utf8
from ingestion.types import Cursor

# The header, and what is before it, are looked for in so many bytes.
_HEAD_BYTES: Final = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class Csv:
    """CSV files. Every value is text, or null where `nulls` says so; an empty value is empty text, quoted or not.

    Args:
        names: of the columns, for files without a header.
        rename: header to name, where the header's own cannot be used: it differs in case, or holds a dot.
        skip_lines: lines before the header, or before the first record where there is none.
        skip_footer: lines at the end that are no records.
        skip_repeated_header: leave out a header that comes again, as in files that were put together.
        page_bytes: about so many bytes are one page.
    """

    delimiter: str = ","
    quote: str = '"'
    escape: str | None = None
    encoding: str = "utf-8"
    names: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    skip_lines: int = 0
    skip_footer: int = 0
    skip_repeated_header: bool = False
    nulls: tuple[str, ...] = ()
    page_bytes: int = 128 * 1024

    def __post_init__(self) -> None:
        try:
            codecs.lookup(self.encoding)
            self._dialect.reader(iter(()))
        except (LookupError, TypeError, ValueError, csv.Error) as error:
            raise ConfigurationError(f"this is no way to write CSV: {error}") from error
        given: tuple[object, ...] = (self.nulls, self.names)  # one text alone is text, whatever the annotation says
        if any(isinstance(texts, str) for texts in given):
            raise ConfigurationError("nulls and names of Csv are tuples of texts")

    @cached_property
    def _dialect(self) -> Dialect:
        return Dialect(delimiter=self.delimiter, quote=self.quote, escape=self.escape)

    @property
    def ends_with_line(self) -> bool:
        return True

    def offset(self, at: Cursor | None) -> int:
        """Of other encodings offsets count bytes of UTF-8: such a file is read from its start."""
        return at["offset"] if at and is_utf8(self.encoding) else 0

    def blocks(self, stream: Bytes, at: Cursor | None, facts: Facts, limits: FileLimits) -> Iterator[Block]:
        if not is_utf8(self.encoding):
            stream = Transcoded(stream, self.encoding)
            stream.skip(at["offset"] if at else 0)
        text, is_last = b"", False
        if at is None:
            text, is_last = fill(stream, b"", max(self.page_bytes, _HEAD_BYTES))
            at = self._head(text, facts)
            text = text[at["offset"] :]
        rows = Rows(
            dialect=self._dialect,
            names=tuple(at["names"]),
            header=at["header"],
            skips_header=self.skip_repeated_header,
            nulls=self.nulls,
        )
        window = self.page_bytes
        while True:
            if not is_last and len(text) <= window:
                # One byte more tells whether the file ends here, so that blocks end alike wherever reading began.
                text, is_last = fill(stream, text, window + 1)
            is_end = is_last and len(text) <= window
            end = self._end(text[:window], is_end=is_end)
            parsed = rows.parse(text[:end], line=at["line"], is_last=is_end)
            if not parsed.used and not is_end:
                _refuse_too_large(text[:window], at["line"], limits)
                window += self.page_bytes
                continue
            window = self.page_bytes
            text = text[parsed.used :]
            at = at | {"offset": at["offset"] + parsed.used, "line": at["line"] + parsed.lines}
            yield _block(parsed, at, is_end=is_end)
            if is_end:
                return

    def _end(self, text: bytes, *, is_end: bool) -> int:
        """Return where the lines end that can be parsed now: before a line that goes on, and before the footer."""
        end = len(text)
        if not is_end:
            # Carriage returns alone end the lines of old files; the last one may be half of a pair.
            end = text.rfind(b"\n") + 1 or text.rfind(b"\r", 0, max(len(text) - 1, 0)) + 1
        elif self.skip_footer:
            end = len(text.rstrip(b"\r\n"))
        for _ in range(self.skip_footer):
            end = text.rfind(b"\n", 0, max(end - 1, 0)) + 1
        return end

    def _head(self, text: bytes, facts: Facts) -> Cursor:
        """Read what is before the first record; return where that begins, and what the columns are."""
        if is_utf8(self.encoding):
            refuse_other(text, self.encoding)
        offset = len(BOM) if text.startswith(BOM) else 0
        for _ in range(self.skip_lines):
            offset = text.find(b"\n", offset) + 1 or len(text)
        if self.names:
            first, _ = self._first_row(text[offset:], self.skip_lines)
            if len(first) != len(self.names):
                names_of(first, {}, Facts(), self.delimiter)
            names = names_of(self.names, {}, facts)
            return {"offset": offset, "line": self.skip_lines, "names": names, "header": []}
        header, lines = self._first_row(text[offset:], self.skip_lines)
        if not header:
            return {"offset": len(text), "line": self.skip_lines, "names": [], "header": []}
        names = names_of(header, self.rename, facts, self.delimiter)
        used = len("".join(lines).encode("utf-8", "surrogateescape"))
        return {"offset": offset + used, "line": self.skip_lines + len(lines), "names": names, "header": header}

    def _first_row(self, text: bytes, line: int) -> tuple[list[str], list[str]]:
        """Return the first row that is not empty, and the lines it took; none when there is none."""
        lines = list(io.StringIO(text.decode("utf-8", "surrogateescape"), newline=""))
        reader = self._dialect.reader(iter(lines))
        try:
            row: list[str] = next((row for row in reader if row), [])
        except csv.Error as error:
            raise RunFailed("unterminated_quote", f"the header in line {line + 1}: {error}") from error
        return row, lines[: reader.line_num]


def _block(parsed: Parsed, at: Cursor, *, is_end: bool) -> Block:
    return Block(
        records=parsed.records,
        size_bytes=parsed.used,
        following=None if is_end else at,
        refused=parsed.refused,
    )


def _refuse_too_large(text: bytes, line: int, limits: FileLimits) -> None:
    """Refuse to read on for the end of one record: quotes that are never closed would take the whole file."""
    if len(text) <= limits.record_bytes:
        return
    message = f"the record that begins in line {line + 1} has more than {limits.record_bytes} bytes"
    if b"\n" in text:
        raise RunFailed("unterminated_quote", f"{message}, over several lines: its quotes are never closed")
    raise RunFailed("record_too_large", message)
