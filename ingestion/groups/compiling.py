"""Groups of records to COPY text, most of it at C speed, where nothing in them needs a second look.

Note [Fast groups]: written as a struct, the columns let msgspec check types, lengths and ranges of a whole group of
records at once, and one format string per record makes its line. Columns of other kinds are cleaned column by column,
by the same cleaners as record by record. Whatever needs more than that (a bad value, a default for null, a name that is
there twice, a character to escape other than the backslash) makes the group fail as a whole; it then goes record by
record through `cleaning` and `encoding`, which alone know what to say about it. Tests hold both against each other.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ingestion.cleaning import MAX_DEPTH, MAX_RECORD_BYTES, Column, strings_in
from ingestion.drift import Watch
from ingestion.encoding import NULL
from ingestion.errors import RecordRejected
from ingestion.groups.closed import Closed, close, encode_lines
from ingestion.groups.trees import NULL_MARK, Taken, Tree, plant
from ingestion.types import Record

_split = msgspec.json.Decoder(list[Record]).decode

# Numbers so small that a float may make zero of them without an error.
_TINY: Final = re.compile(rb"[0-9][eE]-[0-9]{3}")
# Numbers that jsonb may not hold: zeros and fractions that are no matter for a float. So much may be in a string, too.
# One pattern for each letter, with a look at what follows: beginning with a set of both takes five times as long.
_LONG_EXPONENTS: Final = tuple(re.compile(letter + rb"(?=[+\-0-9])[+-]?[0-9]{4,}[\s,}\]]") for letter in (b"e", b"E"))
_LONG_FRACTION: Final = re.compile(rb"\.[0-9]{8000}")
# Strings are found as well, for brackets inside them are none.
_BRACKETS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')
_PLACE: Final = re.compile(r" - at `\$\[([0-9]+)\]")
_CONTROLS: Final = re.compile(rb"\\u00[01]")
# msgspec rounds what is finer than a microsecond; cleaning cuts it off, and counts it.
_NANOSECONDS: Final = re.compile(rb"[0-9]:[0-9]{2}\.[0-9]{7}")


@dataclass(kw_only=True, slots=True)
class Encoded:
    """A group of records as COPY text, their keys in its order, and what was coerced: see `compile_columns`."""

    lines: str
    keys: list[Any]
    coercions: Counter[str]


# A group's records, and their JSON as one list. None where the group needs a second look, the place of a record where
# this one does.
EncodeGroup = Callable[[Sequence[Record], bytes], Encoded | int | None]


def compile_groups(columns: Sequence[Column], watch: Watch) -> EncodeGroup | None:
    """Compile the columns into a function of a group, for one thread at a time; None for columns it does not know.

    A column that takes the whole record must be the last. The watch looks at all records of groups that are encoded.
    """
    noted: list[str] = []
    tree = plant([column for column in columns if column.path is not None], noted)
    if tree is None or any(column.path is None for column in columns[:-1]):
        return None
    if columns[-1].path is None and columns[-1].kind != "json":
        return None
    return _Groups(columns, tree, noted, watch)


class _Groups:
    """Encodes groups of records. See Note [Fast groups]."""

    def __init__(self, columns: Sequence[Column], tree: Tree, noted: list[str], watch: Watch) -> None:
        self._tree = tree
        self._watch = watch
        self._noted = noted
        self._width = len(columns)
        self._whole = columns[-1].path is None
        self._template = "\t".join(["%s"] * len(columns)) + "\n"
        self._has_json = any(column.kind == "json" for column in columns)
        self._decode = msgspec.json.Decoder(list[tree.struct], float_hook=tree.float_hook).decode  # type: ignore[name-defined]
        fields = tree.fields
        self._closed = close(fields, whole=self._whole, null=NULL, mark=NULL_MARK) if fields is not None else None
        if self._closed is not None:
            watch.expect(self._closed.expected)
        self._is_plain = _plainness(columns)

    def __call__(self, records: Sequence[Record], text: bytes) -> Encoded | int | None:
        if len(text) > MAX_RECORD_BYTES:
            return None
        encoded = self._encode_closed(self._closed, text, len(records)) if self._closed is not None else None
        if encoded is not None:
            return encoded
        if self._has_json and (b"\n" in text or b"\t" in text or b"\r" in text):
            # Line breaks and tabs between tokens would break the lines; JSON allows none inside its strings.
            try:
                text = msgspec.json.format(text, indent=-1)
                records = _split(text)
            except (msgspec.MsgspecError, RecursionError):
                return None
        return self._encode(records, text)

    def _encode_closed(self, closed: Closed, text: bytes, records: int) -> Encoded | int | None:
        """Encode records that have nothing besides the columns; None when one has, or they need a second look."""
        try:
            structs = closed.decode(text)
        except msgspec.ValidationError as error:
            # Another type or no value at all is refused by the open struct, too.
            return None if str(error).startswith("Object contains unknown field") else _place(error)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        optional = closed.optional(structs)
        kinds = tuple([frozenset(map(type, values)) for values in optional])
        if closed.strings(records, optional, kinds) != strings_in(text):
            return None
        # Records that fit have nothing besides the columns, so that only what those have can be new.
        if not self._watch.has_seen(kinds):
            self._watch.look(text)
        keys = closed.keys(structs)
        if b"\\" not in text:
            return Encoded(lines="".join(closed.plain(structs)), keys=keys, coercions=Counter())
        # Escapes of control characters: what jsonb refuses, and the mark itself.
        if b"\\u00" in text and _CONTROLS.search(text):
            return None
        texts = encode_lines(structs).decode().split("\n") if self._whole else ()
        lines = "".join(closed.careful(structs, texts))
        escaped = _escaped(lines, rows=records, columns=self._width, marks=lines.count(NULL_MARK))
        return Encoded(lines=escaped, keys=keys, coercions=Counter()) if escaped is not None else None

    def _encode(self, records: Sequence[Record], text: bytes) -> Encoded | int | None:
        """Encode any records; None when they need a second look."""
        self._noted.clear()
        taken = self._take(text, records)
        if taken is None or isinstance(taken, int):
            return taken
        if self._whole:
            taken.values.append([str(raw, "utf-8") for raw in records])
        lines = "".join([self._template % row for row in zip(*taken.values, strict=True)])
        escaped = _escaped(lines, rows=len(records), columns=self._width, marks=taken.marks)
        return Encoded(lines=escaped, keys=taken.keys, coercions=Counter(self._noted)) if escaped is not None else None

    def _take(self, text: bytes, records: Sequence[Record]) -> Taken | int | None:
        """Take records that have more than the columns; None when they need a second look."""
        if not self._is_plain(text, records):
            return None
        try:
            structs = self._decode(text)
        except msgspec.ValidationError as error:
            return _place(error)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        try:
            taken = self._tree.take(structs)
            strings = self._watch.look(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError, RecordRejected):
            return None
        return taken if strings == strings_in(text) else None


def _place(error: msgspec.ValidationError) -> int | None:
    """Return which record of a list msgspec found bad, where it says so."""
    found = _PLACE.search(str(error))
    return int(found[1]) if found else None


def _plainness(columns: Sequence[Column]) -> Callable[[bytes, Sequence[Record]], bool]:
    """Return what tells, from the text of a group alone, whether anything in it surely needs a second look."""
    kinds = {column.kind for column in columns}
    has_times = not kinds.isdisjoint({"timestamp", "time"})

    def is_plain(text: bytes, records: Sequence[Record]) -> bool:
        if len(text) > MAX_RECORD_BYTES or _has_long_numbers(text, records):
            return False
        # The list and each record have one bracket; a record deeper than the limit has that many more.
        if text.count(b"{") + text.count(b"[") >= len(records) + MAX_DEPTH and any(
            map(_is_too_deep, map(bytes, records))
        ):
            return False
        if "json" in kinds and b"\\u0000" in text:
            return False
        if "float" in kinds and (b"e-" in text or b"E-" in text) and _TINY.search(text):
            return False
        return not (has_times and (_NANOSECONDS.search(text) or b'"0001-01-01' in text or b'"9999-12-31' in text))

    return is_plain


def _has_long_numbers(text: bytes, records: Sequence[Record]) -> bool:
    """Whether there may be a number that jsonb cannot hold, though a float can."""
    if any(exponent.search(text) for exponent in _LONG_EXPONENTS):
        return True
    return max(map(len, records), default=0) > 8000 and _LONG_FRACTION.search(text) is not None


def _is_too_deep(record: bytes) -> bool:
    """Whether a record is nested deeper than the limit; counting its brackets first is what makes it cheap."""
    if record.count(b"{") + record.count(b"[") <= MAX_DEPTH:
        return False
    level = deepest = 0
    for token in _BRACKETS.findall(record):
        level += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(token, 0)
        deepest = max(deepest, level)
    return deepest > MAX_DEPTH


def _escaped(lines: str, *, rows: int, columns: int, marks: int) -> str | None:
    """Escape lines that hold values as they are; None when one needs another escape than that of the backslash."""
    # Whether a value holds a character that ends a column or a line, or stands for NULL.
    if lines.count("\n") != rows or lines.count("\t") != rows * (columns - 1):
        return None
    if lines.count(NULL_MARK) != marks or "\r" in lines or "\x00" in lines:
        return None
    # The other escapes were just ruled out, so this is all of `encoding.escape`.
    lines = lines.replace("\\", r"\\")
    return lines.replace(NULL_MARK, NULL) if marks else lines
