"""A page to COPY text: records cleaned and encoded, in groups where possible, one by one where not. Pure, no I/O."""

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, MutableSequence, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final

import msgspec

from ingestion.cleaning import (
    MAX_RECORD_BYTES,
    Column,
    RecordRule,
    compile_columns,
    compile_key,
    compile_repeats,
    strings_in,
)
from ingestion.drift import Watch
from ingestion.encoding import encode_lines
from ingestion.errors import RecordRejected, RecordSkipped, RunFailed
from ingestion.groups import Encoded, compile_groups, compile_texts
from ingestion.tabular import MixedRecords, TextRecords
from ingestion.types import Cursor, LoadedFile, Page, Record, Records, Rejection
from ingestion.unchanged import Remembered

# A page that fails as a whole is tried in halves, down to this many records: one bad record sends so many the slow way.
GROUP: Final = 16
# So many groups in a row that fail mean that the rest of the page will, too. One bad record makes seven at most fail
# in a page of 1,000 before the first one succeeds.
MISSES: Final = 10
# Rejects of a page are kept in memory until it is loaded, a kilobyte and their bytes each.
MOST_REJECTS: Final = 10_000
# Rejects keep the start of the record; its size and hash tell about the rest.
RAW_BYTES: Final = 64 * 1024


@dataclass(kw_only=True, slots=True)
class Prepared:
    """A page ready for COPY. Each row has a line in `lines`, and its key and its record's number beside it.

    `skipped` records were left out by the feed's rules; `coercions` counts `column:rule`. `shape` is what the records
    of this page and those before it look like, as it is stored, where this one has something new. An `unchanged` page
    has no lines: its rows are in the table.
    """

    number: int
    records: Sequence[Record]
    received_bytes: int
    following: Cursor | None
    refused: Mapping[int, RecordRejected] = field(default_factory=dict)
    file: LoadedFile | None = None
    warning: str = ""
    digest: bytes = b""
    note: str = ""
    unchanged: Remembered | None = None
    reread: Callable[[], Page] | None = None
    lines: list[str] = field(default_factory=list)
    keys: MutableSequence[Any] = field(default_factory=list)
    positions: Sequence[int] = ()
    rejections: list[Rejection] = field(default_factory=list)
    skipped: int = 0
    coercions: Counter[str] = field(default_factory=Counter)
    shape: dict[str, Any] | None = None
    # Of an incremental feed: the highest watermark of its good records.
    highest: datetime | int | None = None
    # Makes the lines again, where that gives the same lines for sure.
    remake: Callable[[], list[str]] | None = None

    @property
    def read(self) -> int:
        """How many records are accounted for: all but those that the feed's rules left out."""
        received = len(self.records) if self.unchanged is None else self.unchanged.records
        return received - self.skipped

    def give_lines(self) -> Iterator[str]:
        """Give the lines, and their memory free where they can be made again, for whoever asks a second time."""
        lines = self.lines
        if self.remake is not None:
            lines = lines or self.remake()
            self.lines = []
        yield from lines

    @property
    def text_bytes(self) -> int:
        """What the lines take in memory, roughly."""
        return sum(map(len, self.lines))


class Preparer:
    """Turn pages into COPY text; compiled once per feed, called per page, by one thread at a time.

    With rules for whole records every record is decoded: groups are not tried. A watch, where one is given, looks at
    every record as it was before any rule.

    Args:
        most_rejects: a page with more of them fails the run.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        rules: Sequence[RecordRule] = (),
        watch: Watch | None = None,
        *,
        most_rejects: int = MOST_REJECTS,
    ) -> None:
        self._most_rejects = most_rejects
        self._columns = columns
        self._has_rules = bool(rules)
        self._is_told = watch is not None
        self._watch = watch or Watch()
        self._kinds = tuple(column.kind for column in columns)
        self._key = [index for index, column in enumerate(columns) if column.is_key]
        self._coercions: Counter[str] = Counter()
        self._misses = 0
        self._positions: list[int] = []
        self._clean = compile_columns(columns, rules, self._coercions)
        self._find_key = compile_key(columns, rules)
        self._find_repeats = compile_repeats(columns)
        self._encode_group = None if rules else compile_groups(columns, self._watch)
        self._encode_texts = None if rules else compile_texts(columns, self._watch)

    def __call__(self, page: Page) -> Prepared:
        """Prepare a page; its bad records become rejections.

        Raises:
            RunFailed: `reject_limit`: they are more than memory is meant for.
        """
        prepared = Prepared(
            number=page.number,
            records=page.records,
            received_bytes=page.size_bytes,
            following=page.following,
            refused=page.refused,
            file=page.file,
            warning=page.warning,
            digest=page.digest,
            note=page.note,
            unchanged=page.unchanged,
            reread=page.reread,
        )
        if page.unchanged is not None:
            prepared.skipped = page.unchanged.skipped
            prepared.coercions.update(page.unchanged.coercions)
            return prepared
        is_text = isinstance(page.records, TextRecords | MixedRecords)
        has_encoder = (self._encode_texts if is_text else self._encode_group) is not None
        self._misses = 0 if has_encoder else MISSES
        self._positions = []
        self._watch.turn_to(page.number)
        self._add(prepared, 0, len(page.records))
        if self._is_told:
            prepared.shape = self._watch.take_shape()
        prepared.coercions += self._coercions
        self._coercions.clear()
        if not self._has_rules:  # which are functions that may say something else the next time
            prepared.remake = partial(_lines_of, self._columns, page, self._most_rejects)
        # They rise: as many as there are records are all of them.
        is_whole = len(self._positions) == len(page.records)
        prepared.positions = range(len(page.records)) if is_whole else self._positions
        prepared.keys = _packed(prepared.keys)
        if isinstance(page.records, Records):
            page.records.fold()
        return prepared

    def _add(self, prepared: Prepared, start: int, end: int) -> None:
        """Add the records from `start` to `end`: at once, around a bad one, in halves, or the last few one by one."""
        while start < end and self._misses < MISSES:
            # Records that their source refused may be good JSON for all that.
            has_refused = prepared.refused and not prepared.refused.keys().isdisjoint(range(start, end))
            encoded = None if has_refused else self._encode(_between(prepared.records, start, end))
            if isinstance(encoded, Encoded):
                self._add_group(prepared, encoded, start, end)
                self._misses = 0
                return
            self._misses += 1
            if encoded is None:
                break
            # Those before the bad one are good as far as that one tells.
            self._add(prepared, start, start + encoded)
            self._add_each(prepared, start + encoded, start + encoded + 1)
            start += encoded + 1
        if self._misses < MISSES and end - start > GROUP:
            middle = (start + end) // 2
            self._add(prepared, start, middle)
            self._add(prepared, middle, end)
            return
        self._add_each(prepared, start, end)

    def _add_each(self, prepared: Prepared, start: int, end: int) -> None:
        """Add the records from `start` to `end` one by one."""
        if start < end:
            may_repeat = self._look(_between(prepared.records, start, end))
            for position in range(start, end):
                self._add_one(prepared, position, may_repeat=may_repeat)

    def _look(self, records: Sequence[Record]) -> bool:
        """Have records looked at, at once or one by one; return whether any of them may have a name twice."""
        if sum(map(len, records)) <= MAX_RECORD_BYTES:
            repeats = self._try_look(_text_of(records))
            if repeats is not None:
                return repeats
        for record in records:
            if len(record) <= MAX_RECORD_BYTES:
                self._try_look(_text_of([record]))
        return True

    def _try_look(self, text: bytes) -> bool | None:
        """Return whether any record of a JSON list has a name twice; None when one of them cannot be decoded."""
        try:
            return self._watch.look(text) != strings_in(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    def _add_group(self, prepared: Prepared, encoded: Encoded, start: int, end: int) -> None:
        prepared.lines.append(encoded.lines)
        prepared.keys += encoded.keys
        prepared.coercions += encoded.coercions
        self._positions += range(start, end)

    def _encode(self, records: Sequence[Record]) -> Encoded | int | None:
        if isinstance(records, MixedRecords):
            return None
        if isinstance(records, TextRecords):
            return self._encode_texts(records) if self._encode_texts else None
        return self._encode_group(records, _text_of(records)) if self._encode_group else None

    def _add_one(self, prepared: Prepared, position: int, *, may_repeat: bool) -> None:
        raw = prepared.records[position]
        try:
            if position in prepared.refused:
                raise prepared.refused[position]
            repeats = self._find_repeats(raw) if may_repeat else ()
            row = self._clean(raw)
        except RecordSkipped:
            prepared.skipped += 1
            return
        except RecordRejected as rejected:
            # Which of two keys it is would be a guess.
            key = self._find_key(raw) if rejected.reason != "ambiguous_key" else None
            prepared.rejections.append(reject(rejected, page=prepared.number, position=position, raw=raw, key=key))
            if len(prepared.rejections) > self._most_rejects:
                many = f"more than {self._most_rejects:,} records of page {prepared.number} were rejected"
                raise RunFailed("reject_limit", f"{many}, the last one for {rejected}") from rejected
            return
        if repeats:
            prepared.coercions.update(repeats)
        prepared.lines += encode_lines((row,), self._kinds)
        prepared.keys.append(row[self._key[0]] if len(self._key) == 1 else tuple(row[index] for index in self._key))
        self._positions.append(position)


def _packed(keys: MutableSequence[Any]) -> MutableSequence[Any]:
    """Return whole numbers of 64 bits as an array, a fifth of a list in memory; other keys as they are."""
    try:
        return array("q", keys) if keys and type(keys[0]) is int else keys
    except (OverflowError, TypeError):
        return keys


def _between(records: Sequence[Record], start: int, end: int) -> Sequence[Record]:
    # All of them know their text.
    return records if len(records) == end - start else records[start:end]


def _text_of(records: Sequence[Record]) -> bytes:
    """Return the records as one JSON list."""
    return records.text if isinstance(records, Records) else b"[" + b",".join(records) + b"]"


def _lines_of(columns: Sequence[Column], page: Page, most_rejects: int) -> list[str]:
    return Preparer(columns, most_rejects=most_rejects)(page).lines


def reject(rejected: RecordRejected, *, page: int, position: int, raw: Record, key: str | None) -> Rejection:
    """Return the rejection of one record: why, where it was, its key where that is known, and its bytes."""
    received = bytes(raw)
    return Rejection(
        reason=rejected.reason,
        field=rejected.field,
        detail=rejected.detail,
        page=page,
        position=position,
        key=key,
        raw=received[:RAW_BYTES],
        size_bytes=len(received),
        digest=hashlib.sha256(received).hexdigest(),
    )
