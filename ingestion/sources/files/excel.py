"""Excel files (xlsx, xls, ods): the rows of one sheet. The whole sheet is held in memory."""

import datetime as dt
import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from ingestion.errors import RunFailed
from ingestion.sources.files.extras import needed
from ingestion.sources.files.formats import MAGICS, Block, Bytes, Facts, fill
from ingestion.sources.files.headers import names_of
from ingestion.sources.files.limits import MEBIBYTE, FileLimits
from ingestion.types import Cursor, Record

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, kw_only=True)
class Excel:
    """Excel files. Numbers, dates, times and booleans of cells stay what they are; an empty cell is null.

    Args:
        sheet: its name; the first one when None.
        skip_rows: rows before the header.
        rename: header to name, as of `Csv`.
        file_bytes: of a file, and of what is compressed in it; both are held in memory.
        page_records: records of one page.
    """

    sheet: str | None = None
    skip_rows: int = 0
    rename: Mapping[str, str] = field(default_factory=dict)
    file_bytes: int = 64 * MEBIBYTE
    page_records: int = 1_000

    @property
    def ends_with_line(self) -> bool:
        return False

    def offset(self, at: Cursor | None) -> int:
        return 0

    def blocks(self, stream: Bytes, at: Cursor | None, facts: Facts, limits: FileLimits) -> Iterator[Block]:
        content, is_whole = fill(stream, b"", self.file_bytes + 1)
        if not is_whole:
            raise RunFailed("file_too_large", f"more than the {self.file_bytes} bytes that an Excel file may have")
        _refuse_bomb(content, self.file_bytes)
        rows = self._rows(content)[self.skip_rows :]
        names = names_of([str(cell) for cell in rows[0]], self.rename, facts) if rows else []
        number = at["record"] if at else 0
        records = [row for row in rows[1:] if any(cell != "" for cell in row)]
        while True:
            ready = [_record(names, row) for row in records[number : number + self.page_records]]
            number += len(ready)
            is_last = number >= len(records)
            yield Block(
                records=ready, size_bytes=sum(map(len, ready)), following=None if is_last else {"record": number}
            )
            if is_last:
                return

    def _rows(self, content: bytes) -> Sequence[Sequence[Any]]:
        calamine = needed("python_calamine", "excel")
        try:
            book = calamine.CalamineWorkbook.from_filelike(io.BytesIO(content))
            if self.sheet is not None and self.sheet not in book.sheet_names:
                shown = ", ".join(map(repr, book.sheet_names[:10]))
                raise RunFailed("sheet", f"there is no sheet {self.sheet!r}; there are {shown}")
            sheet = book.get_sheet_by_name(self.sheet) if self.sheet is not None else book.get_sheet_by_index(0)
            rows: Sequence[Sequence[Any]] = sheet.to_python(skip_empty_area=False)
        except calamine.CalamineError as error:
            raise RunFailed("not_excel", f"it cannot be read: {error}"[:300]) from error
        return rows


def _record(names: Sequence[str], row: Sequence[Any]) -> Record:
    return Record(_encode({name: _value(cell) for name, cell in zip(names, row, strict=True)}))


def _value(cell: Any) -> Any:
    if cell == "":
        return None
    # Excel knows no whole numbers.
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    return str(cell) if isinstance(cell, dt.timedelta) else cell


def _refuse_bomb(content: bytes, limit: int) -> None:
    """Refuse a file whose parts are too large, decompressed: an xlsx or ods file is a zip file."""
    if not content.startswith(MAGICS["zip"]):
        return
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(info.file_size for info in archive.infolist())
    except zipfile.BadZipFile as error:
        raise RunFailed("not_excel", f"it is cut or damaged: {error}") from error
    if size > limit:
        raise RunFailed("file_too_large", f"{size} bytes, decompressed; an Excel file may have {limit}")
