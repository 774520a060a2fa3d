"""Groups of text rows to COPY text, column by column.

The values of a column that need nothing but a check (text that fits, numbers and dates as PostgreSQL writes them
itself) are checked all at once and taken as they are. All other columns are cleaned value by value, by the cleaners
that go record by record. A value that is refused makes the group fail as a whole: see Note [Fast groups].
"""

import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Final

import msgspec

from ingestion.cleaning import MAX_RECORD_BYTES, UNSET, Column, absent_of, bind_value, noter
from ingestion.drift import Watch
from ingestion.encoding import ENCODERS, escape
from ingestion.errors import RecordRejected
from ingestion.groups.compiling import Encoded
from ingestion.tabular import TextRecords

# None where the group needs a second look.
EncodeTexts = Callable[[TextRecords], Encoded | None]
Values = Sequence[Any]

# A character may take six in a record's JSON text, whose size is what is limited.
_LONGEST: Final = MAX_RECORD_BYTES // 6
# What COPY or JSON would escape. Looking for one after the other beats a regular expression by far.
_SPECIAL: Final = ("\\", '"', *map(chr, range(32)))
# Without a fraction finer than microseconds, without 24:00 and with a zone: what cleaning takes as it is.
_MOMENTS: Final = re.compile(
    r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}[T ](?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?"
    r"(?:Z|[+-][0-9]{2}:[0-9]{2})\n)*"
)
# Python writes smaller numbers with an exponent.
_PLACES: Final = 6
_to_json: Final = msgspec.json.Encoder().encode


@dataclass(kw_only=True, slots=True)
class _Taken:
    """One column's clean values, and the same as COPY text."""

    values: Values
    texts: Values
    coerced: str = ""


# None where the values need their own cleaner. The flag says that nothing in them is to be escaped.
_Take = Callable[[Values, bool], _Taken | None]


def compile_texts(columns: Sequence[Column], watch: Watch) -> EncodeTexts | None:
    """Compile the columns into a function of a group of text rows, for one thread at a time; None for some columns.

    It returns None for a group that needs a second look. The watch is shown what groups that are encoded have.
    """
    if any(column.others or column.compute or len(column.path or ()) > 1 for column in columns):
        return None
    if any(column.kind == "json" and column.path for column in columns):
        return None
    if any(column.path is None and (column.kind != "json" or column is not columns[-1]) for column in columns):
        return None
    return _Texts(columns, watch)


class _Texts:
    """Encodes groups of text rows."""

    def __init__(self, columns: Sequence[Column], watch: Watch) -> None:
        self._watch = watch
        self._shown: set[tuple[Any, ...]] = set()
        self._noted: list[str] = []
        self._whole = columns[-1].path is None
        self._columns = [_Column(column, self._noted) for column in columns if column.path is not None]

    def __call__(self, records: TextRecords) -> Encoded | None:
        count = len(records)
        if not count:
            return None
        self._noted.clear()
        by_name: dict[str, Values] = records.by_name
        is_plain = not any(None in values for values in by_name.values()) and not _is_special(
            "".join(map("".join, by_name.values()))
        )
        coercions: Counter[str] = Counter()
        taken: list[_Taken] = []
        try:
            for column in self._columns:
                found = column.take(by_name, count, is_plain=is_plain)
                coercions[found.coerced] += count
                taken.append(found)
        except RecordRejected:
            return None
        del coercions[""]
        pieces = _separated([found.texts for found in taken], "\t")
        if self._whole:
            if not is_plain and any("\x00" in _together(values) for values in by_name.values()):
                return None
            pieces += [repeat("\t")] * bool(pieces) + _as_json(by_name, is_plain=is_plain)
        lines = "".join(map("".join, zip(*pieces, repeat("\n", count), strict=False)))
        if len(lines) > _LONGEST:
            return None
        self._show(records, by_name)
        return Encoded(lines=lines, keys=self._keys(taken, count), coercions=coercions + Counter(self._noted))

    def _show(self, records: TextRecords, by_name: dict[str, Values]) -> None:
        """Show the watch the rows, once for each combination of names and of columns with nulls."""
        nulls = tuple(map(_nulls, by_name.values()))
        if (records.names, nulls) not in self._shown:
            self._watch.look(b"[" + b",".join(records if any(nulls) else records[:1]) + b"]")
            self._shown.add((records.names, nulls))

    def _keys(self, taken: list[_Taken], rows: int) -> list[Any]:
        keys = [found.values for column, found in zip(self._columns, taken, strict=True) if column.is_key]
        if len(keys) == 1:
            return list(keys[0])
        return list(zip(*keys, strict=True)) if keys else [()] * rows


class _Column:
    """One column of the feed: how its values are taken out of the rows."""

    def __init__(self, column: Column, noted: list[str]) -> None:
        self.is_key = column.is_key
        self._column = column
        self._name = (column.path or ("",))[0]
        self._at_once = _at_once(column)
        # A constant is clean already, and of JSON there is no cleaner.
        self._clean = bind_value(column, noter(column, noted)) if column.constant is UNSET else _as_it_is
        self._absent = absent_of(column)
        self._encode = ENCODERS[column.kind]

    def take(self, by_name: dict[str, Values], rows: int, *, is_plain: bool) -> _Taken:
        """Return the column's values; `is_plain` says that nothing in any of them is to be escaped.

        Raises:
            RecordRejected: one of them cannot be loaded.
        """
        if self._column.constant is not UNSET:
            return self._same(self._column.constant, rows)
        values = by_name.get(self._name)
        if values is None:
            return self._same(self._absent(), rows)
        if self._at_once is not None and None not in values:
            taken = self._at_once(values, is_plain)
            if taken is not None:
                return taken
        cleaned = list(map(self._clean, values))
        return _Taken(values=cleaned, texts=list(map(self._encode, cleaned)))

    def _same(self, value: Any, rows: int) -> _Taken:
        return _Taken(values=[value] * rows, texts=[self._encode(value)] * rows)


def _as_it_is(value: Any) -> Any:
    return value


def _nulls(values: Values) -> int:
    """Tell columns without nulls, with some and with nothing else apart: 0, 1 or 2."""
    return 0 if None not in values else 1 + (values.count(None) == len(values))


def _together(values: Values) -> str:
    return "".join(filter(None, values))


def _has_special(values: Values) -> bool:
    if None in values:
        return True
    return _is_special("".join(values))


def _is_special(text: str) -> bool:
    return any(character in text for character in _SPECIAL)


def _separated(columns: list[Values], separator: str) -> list[Iterable[str]]:
    """Return the columns with the separator between them, to be joined row by row."""
    pieces: list[Iterable[str]] = []
    for column in columns:
        pieces += [repeat(separator), column]
    return pieces[1:]


def _as_json(by_name: dict[str, Values], *, is_plain: bool) -> list[Iterable[str]]:
    """Return the pieces of the rows as escaped JSON objects."""
    pieces: list[Iterable[str]] = []
    opening = "{"
    for name, values in by_name.items():
        pieces.append(repeat(f"{opening}{_copied_json(name)}:" + '"' * is_plain))
        pieces.append(values if is_plain else [_copied_json(value) for value in values])
        opening = '",' if is_plain else ","
    return [*pieces, repeat('"}' if is_plain else "}")]


def _copied_json(value: str | None) -> str:
    # JSON text holds no control characters, so the backslash alone needs COPY's escape.
    return _to_json(value).decode().replace("\\", r"\\")


def _at_once(column: Column) -> _Take | None:
    """Return what checks all values of a column at once; None for columns whose values need more than a check."""
    if column.form is not None or column.check is not None or column.mapping is not None:
        return None
    if column.choices is not None and column.kind != "text":
        return None
    make = _MAKERS.get(column.kind)
    return make(column) if make else None


def _texts(column: Column) -> _Take:
    longest, is_key, choices = column.max_length, column.is_key, column.choices

    def take(values: Values, is_plain: bool) -> _Taken | None:
        if longest is not None and max(map(len, values)) > longest:
            return None
        if (is_key and "" in values) or (choices is not None and not choices.issuperset(values)):
            return None
        if is_plain or not _has_special(values):
            return _Taken(values=values, texts=values)
        if any("\x00" in value for value in values):
            return None
        return _Taken(values=values, texts=list(map(escape, values)))

    return take


def _integers(column: Column) -> _Take | None:
    low, high = column.limits or (-(2**63), 2**63 - 1)
    coerced = f"{column.name}:text"
    # One digit less than the limits have: whatever fits it is within them.
    digits = len(str(high)) - 1
    if digits < 1 or (low < 0 and len(str(-low)) <= digits):
        return None
    sign = "-?" if low < 0 else ""
    numbers = re.compile(rf"(?:(?:0|{sign}[1-9][0-9]{{0,{digits - 1}}})\n)*")

    def take(values: Values, is_plain: bool) -> _Taken | None:
        if not _match_all(numbers, values):
            return None
        return _Taken(values=list(map(int, values)) if column.is_key else (), texts=values, coerced=coerced)

    return take


def _match_all(pattern: re.Pattern[str], values: Values) -> bool:
    """Whether each value, a newline behind it, is one round of the pattern."""
    lines = "\n".join(values) + "\n"
    return pattern.fullmatch(lines) is not None and lines.count("\n") == len(values)


def _decimals(column: Column) -> _Take | None:
    if column.max_digits is None or column.decimal_places is None or column.decimal_places > _PLACES or column.is_key:
        return None
    whole = column.max_digits - column.decimal_places
    if whole < 1:
        return None
    decimals = rf"(?:\.[0-9]{{1,{column.decimal_places}}})?" if column.decimal_places else ""
    numbers = re.compile(rf"(?:-?(?:0|[1-9][0-9]{{0,{whole - 1}}}){decimals}\n)*")

    def take(values: Values, is_plain: bool) -> _Taken | None:
        return _Taken(values=values, texts=values) if _match_all(numbers, values) else None

    return take


def _dates(column: Column) -> _Take:
    def take(values: Values, is_plain: bool) -> _Taken | None:
        try:
            dates = list(map(dt.date.fromisoformat, values))
        except ValueError:
            return None
        return _Taken(values=dates, texts=values) if list(map(str, dates)) == list(values) else None

    return take


def _moments(column: Column) -> _Take:
    def take(values: Values, is_plain: bool) -> _Taken | None:
        if not _match_all(_MOMENTS, values):
            return None
        try:
            moments = [dt.datetime.fromisoformat(value).astimezone(dt.UTC) for value in values]
        except (ValueError, OverflowError):
            return None
        return _Taken(values=moments, texts=list(map(str, moments)))

    return take


_MAKERS: Final[dict[str, Callable[[Column], _Take | None]]] = {
    "text": _texts,
    "integer": _integers,
    "decimal": _decimals,
    "date": _dates,
    "timestamp": _moments,
}
