"""Columns to one function per feed that turns a record into a row."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec

from ingestion.cleaning.decoding import decode_record, holds_nul, is_repeated, quoted, text_at, value_at
from ingestion.cleaning.rules import UNSET, Column
from ingestion.cleaning.values import CLEANERS
from ingestion.errors import ConfigurationError, RecordRejected
from ingestion.types import Record, Row

# A decoded record and its text; the value of one column.
TakeValue = Callable[[dict[str, Any], Record], Any]
CleanRecord = Callable[[Record], Row]


def compile_columns(columns: Sequence[Column]) -> CleanRecord:
    """Bind the columns' rules once; the function returned is called per record and holds nothing.

    It raises RecordRejected for a record that cannot become a row.

    Raises:
        ConfigurationError: a column takes the whole record and is neither JSON nor text.
    """
    takers = tuple(_bind(column) for column in columns)
    check_key = _bind_key_check(columns)

    def clean(raw: Record) -> Row:
        record = decode_record(raw)
        check_key(raw)
        return tuple([take(record, raw) for take in takers])

    return clean


def _bind(column: Column) -> TakeValue:
    if column.path is None:
        return _bind_whole(column)
    if column.kind == "json":
        return _bind_json(column, column.path)
    return _bind_value(column, column.path)


def _bind_value(column: Column, path: tuple[str, ...]) -> TakeValue:
    absent = _absent(column)
    clean = CLEANERS[column.kind](column, absent)

    def take(record: dict[str, Any], raw: Record) -> Any:
        value = value_at(record, path)
        if type(value) is float:
            value = Decimal(text_at(raw, path))  # a float has lost digits, or gained them
        return absent() if value is None else clean(value)

    def take_top(record: dict[str, Any], raw: Record) -> Any:
        value = record.get(top)
        if type(value) is float:
            value = Decimal(text_at(raw, path))
        return absent() if value is None else clean(value)

    top = path[0]
    return take_top if len(path) == 1 else take


def _bind_json(column: Column, path: tuple[str, ...]) -> TakeValue:
    absent = _absent(column)

    def take(record: dict[str, Any], raw: Record) -> Any:
        value = value_at(record, path)
        # The text as received: encoding the decoded value would round its numbers.
        return absent() if value is None else _storable(text_at(raw, path), value, column)

    return take


def _bind_whole(column: Column) -> TakeValue:
    if column.kind == "json":
        return lambda record, raw: _storable(str(raw, "utf-8"), record, column)
    if column.kind == "text":
        clean = CLEANERS["text"](column, _absent(column))
        return lambda record, raw: clean(str(raw, "utf-8"))
    raise ConfigurationError(f"column {column.name!r}: the whole record needs a JSON or text column")


def _storable(text: str, value: Any, column: Column) -> str:
    if "\\u0000" in text and holds_nul(value):
        raise RecordRejected("nul_character", field=column.name, detail="jsonb cannot hold U+0000")
    return text


def _absent(column: Column) -> Callable[[], Any]:
    """Say what a missing or null value becomes: the default, NULL where allowed, else a rejection."""
    reason, detail = "missing_value", "missing or null, and the column is NOT NULL"
    if column.is_key:
        reason, detail = "missing_key", "the key is missing or null"
    elif column.default is not UNSET:
        return lambda: column.default
    elif column.null:
        return lambda: None

    def reject() -> Any:
        raise RecordRejected(reason, field=column.name, detail=detail)

    return reject


def clean_default(column: Column, default: Any) -> Any:
    """Clean a default like any value, so that nothing reaches the encoder that it does not know.

    Raises:
        ConfigurationError: the column cannot hold it.
    """
    if isinstance(default, Enum):
        default = default.value
    # Django allows a default that is not among the choices, as every blank one.
    column = replace(column, choices=None, truncate=False, default=UNSET)
    try:
        if default is None:
            return _absent(column)()
        if column.kind == "json":
            return _storable(msgspec.json.encode(default).decode(), default, column)
        return CLEANERS[column.kind](column, _absent(column))(default)
    except (RecordRejected, TypeError) as error:
        raise ConfigurationError(f"column {column.name!r} cannot have the default {default!r}: {error}") from error


def _bind_key_check(columns: Sequence[Column]) -> Callable[[Record], None]:
    """Refuse records with a key twice: which of the two it is would be a guess.

    Counting the quoted names first is what makes it cheap. A twin that is spelled with escapes is not seen.
    """
    names = [
        (quoted(name), column.path, column.name)
        for column in columns
        if column.is_key and column.path
        for name in column.path
    ]

    def check(raw: Record) -> None:
        text = bytes(raw)
        for name, path, column_name in names:
            if text.count(name) > 1 and is_repeated(text, path):
                raise RecordRejected("ambiguous_key", field=column_name, detail="the key is there twice")

    return check
