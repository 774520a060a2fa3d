"""NDJSON: one JSON document a line (https://github.com/ndjson/ndjson-spec)."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from ingestion.errors import RunFailed
from ingestion.sources.files.formats import BOM, Block, Bytes, Facts, fill, refuse_other
from ingestion.sources.files.limits import FileLimits
from ingestion.types import Cursor, Record

_validate: Final = msgspec.json.Decoder().decode


@dataclass(frozen=True, kw_only=True)
class Ndjson:
    """Files with one JSON object a line, in UTF-8; blank lines are nothing.

    Args:
        page_bytes: about so many bytes are one page.
    """

    page_bytes: int = 128 * 1024

    @property
    def ends_with_line(self) -> bool:
        return True

    def offset(self, at: Cursor | None) -> int:
        return at["offset"] if at else 0

    def blocks(self, stream: Bytes, at: Cursor | None, facts: Facts, limits: FileLimits) -> Iterator[Block]:
        offset, carried, is_first = self.offset(at), b"", at is None
        while True:
            text, is_last = fill(stream, carried, self.page_bytes)
            start = len(BOM) if is_first and text.startswith(BOM) else 0
            if is_first:
                refuse_other(text, "UTF-8")
                is_first = False
            end = len(text) if is_last else text.rfind(b"\n") + 1
            if is_last:
                _refuse_half_line(text[start:])
            elif not end and len(text) > limits.record_bytes:
                raise RunFailed(
                    "record_too_large", f"the line at byte {offset} has more than {limits.record_bytes} bytes"
                )
            if end or is_last:
                offset += end
                yield Block(
                    records=_lines(text[start:end]),
                    size_bytes=end,
                    following=None if is_last else {"offset": offset},
                )
            if is_last:
                return
            carried = text[end:]


def _lines(text: bytes) -> list[Record]:
    # Carriage returns are white space in JSON, but lines with them take the slow way.
    return [Record(line) for line in text.replace(b"\r\n", b"\n").split(b"\n") if line and not line.isspace()]


def _refuse_half_line(text: bytes) -> None:
    """Refuse a last line without a line break that is not all there."""
    last = text[text.rfind(b"\n") + 1 :]
    if not last.strip():
        return
    try:
        _validate(last)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        if _is_whole(last):
            return
        raise RunFailed("incomplete", f"the last line has no line break and is no JSON: {error}") from error


def _is_whole(line: bytes) -> bool:
    """Whether a line that is no valid JSON is nevertheless all there: a bad record, not a cut file."""
    try:
        json.loads(line.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return False
    return True
