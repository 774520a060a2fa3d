"""Columns to one function per feed that turns a record into a row."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any, Final

import msgspec

from ingestion.cleaning.decoding import decode_record, holds_nul, quoted, text_at, value_at
from ingestion.cleaning.kinds import absent_of, bind_value
from ingestion.cleaning.repeats import is_repeated
from ingestion.cleaning.rules import UNSET, Column, JsonForm, RecordRule
from ingestion.cleaning.values import Note
from ingestion.errors import ConfigurationError, RecordRejected, RecordSkipped
from ingestion.types import Record, Row

# A decoded record and its text; the value of one column.
TakeValue = Callable[[dict[str, Any], Record], Any]
CleanRecord = Callable[[Record], Row]

# Numbers are exact when they are decoded, and stay so.
_to_json: Final = msgspec.json.Encoder(decimal_format="number").encode
# Every backslash of JSON begins an escape: read in turn, none is taken for the second half of another.
_ESCAPES: Final = re.compile(r"\\(?:u0000|.)")


def compile_columns(
    columns: Sequence[Column], rules: Sequence[RecordRule] = (), coercions: Counter[str] | None = None
) -> CleanRecord:
    """Bind the columns' rules once; the function returned is called per record, by one thread at a time.

    It raises RecordRejected for a record that cannot become a row, and RecordSkipped for one that a rule leaves out.

    Args:
        rules: called on each decoded record, one after the other, before anything else.
        coercions: counts `column:rule` for each value that was coerced, of the records that became rows.

    Raises:
        ConfigurationError: a column takes the whole record and is neither JSON nor text.
    """
    noted: list[str] = []
    takers = tuple(_bind(column, noter(column, noted), is_changed=bool(rules)) for column in columns)
    check_key = _bind_key_check(columns)

    def clean(raw: Record) -> Row:
        noted.clear()
        record = decode_record(raw)
        check_key(raw)
        for rule in rules:
            record = _apply(rule, record)
        row = tuple([take(record, raw) for take in takers])
        if noted and coercions is not None:
            coercions.update(noted)
        return row

    return clean


def noter(column: Column, noted: list[str]) -> Note:
    """Return a function that notes one coercion of the column in a list."""
    prefix = f"{column.name}:"
    return lambda rule: noted.append(prefix + rule)


def _apply(rule: RecordRule, record: dict[str, Any]) -> dict[str, Any]:
    try:
        changed = rule(record)
    except (RecordRejected, RecordSkipped):
        raise
    except Exception as error:  # the feed's own code, on data that nobody has foreseen
        raise RecordRejected("rule_failed", detail=f"{_name_of(rule)}: {type(error).__name__}: {error}") from error
    if changed is None:
        raise RecordSkipped
    if type(changed) is not dict:
        raise RecordRejected("rule_failed", detail=f"{_name_of(rule)} returned {type(changed).__name__}, not a record")
    return changed


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _bind(column: Column, note: Note, *, is_changed: bool) -> TakeValue:
    if column.path is None:
        return _bind_whole(column, note)
    if column.constant is not UNSET:
        return lambda record, raw: column.constant
    find = _finder(column, column.path)
    if column.kind == "json":
        is_text_known = not (is_changed or column.others or column.compute)
        return _bind_json(column, note, find, column.path if is_text_known else None)
    take = bind_value(column, note)
    if find is None:
        top = column.path[0]
        return lambda record, raw: take(record.get(top))
    return lambda record, raw: take(find(record))


def _finder(column: Column, path: tuple[str, ...]) -> Callable[[dict[str, Any]], Any] | None:
    """Return the function that finds a column's value in a record; None for a plain name."""
    if column.compute is not None:
        return _computer(column, column.compute)
    if column.others:
        return _first_finder((path, *column.others))
    return None if len(path) == 1 else lambda record: value_at(record, path)


def _computer(column: Column, compute: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    def find(record: dict[str, Any]) -> Any:
        try:
            value = compute(record)
        except RecordRejected:
            raise
        except Exception as error:  # the feed's own code, on data that nobody has foreseen
            detail = f"{_name_of(compute)}: {type(error).__name__}: {error}"
            raise RecordRejected("rule_failed", field=column.name, detail=detail) from error
        return value.value if isinstance(value, Enum) else value

    return find


def _first_finder(paths: Sequence[tuple[str, ...]]) -> Callable[[dict[str, Any]], Any]:
    def find(record: dict[str, Any]) -> Any:
        empty = None
        for path in paths:
            value = value_at(record, path)
            if value == "":
                empty = value
            elif value is not None:
                return value
        return empty

    return find


def _bind_json(
    column: Column, note: Note, find: Callable[[dict[str, Any]], Any] | None, text_path: tuple[str, ...] | None
) -> TakeValue:
    """Bind a JSON column; `text_path` is where the record's text has the value, None where it has not."""
    absent = absent_of(column)

    def take(record: dict[str, Any], raw: Record) -> Any:
        value = find(record) if find else record.get((column.path or ("",))[0])
        if value is None:
            return absent()
        if column.check is not None:
            column.check(value)
        # The text as received where that is possible: duplicate names and the digits of numbers stay.
        text = text_at(raw, text_path) if text_path else _encoded(value, column)
        return storable(text, value, column, note)

    return take


def _encoded(value: Any, column: Column) -> str:
    try:
        return _to_json(value).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise RecordRejected("wrong_type", field=column.name, detail=f"no JSON: {error}") from error


def _bind_whole(column: Column, note: Note) -> TakeValue:
    if column.kind == "json":
        return lambda record, raw: storable(str(raw, "utf-8"), record, column, note)
    if column.kind == "text":
        take = bind_value(column, note)
        return lambda record, raw: take(str(raw, "utf-8"))
    raise ConfigurationError(f"column {column.name!r}: the whole record needs a JSON or text column")


def storable(text: str, value: Any, column: Column, note: Note) -> str:
    """Return JSON text that jsonb can store.

    Raises:
        RecordRejected: it holds U+0000, and the feed does not say that it is to be removed.
    """
    if "\\u0000" not in text or not holds_nul(value):
        return text
    if not isinstance(column.form, JsonForm):
        raise RecordRejected("nul_character", field=column.name, detail="jsonb cannot hold U+0000")
    note("remove_nul")
    return _ESCAPES.sub(lambda found: "" if found[0] == r"\u0000" else found[0], text)


def clean_default(column: Column, default: Any) -> Any:
    """Clean a default like any value, so that nothing reaches the encoder that it does not know.

    Raises:
        ConfigurationError: the column cannot hold it.
    """
    if isinstance(default, Enum):
        default = default.value
    # Django allows a default that is not among the choices, as every blank one; and a default is a stored value.
    column = replace(column, choices=None, truncate=False, default=UNSET, mapping=None, check=None)
    try:
        if default is None:
            return absent_of(column)()
        if column.kind == "json":
            return storable(_to_json(default).decode(), default, column, lambda rule: None)
        return bind_value(column, lambda rule: None)(default)
    except (RecordRejected, TypeError) as error:
        raise ConfigurationError(f"column {column.name!r} cannot have the default {default!r}: {error}") from error


def _bind_key_check(columns: Sequence[Column]) -> Callable[[Record], None]:
    """Refuse records with a key twice: which of the two it is would be a guess.

    Counting the quoted names first is what makes it cheap. A twin that is spelled with escapes is not seen.
    """
    names = [
        (quoted(name), path, column.name)
        for column in columns
        if column.is_key and column.path
        for path in (column.path, *column.others)
        for name in path
    ]

    def check(raw: Record) -> None:
        text = bytes(raw)
        for name, path, column_name in names:
            if text.count(name) > 1 and is_repeated(text, path):
                raise RecordRejected("ambiguous_key", field=column_name, detail="the key is there twice")

    return check
