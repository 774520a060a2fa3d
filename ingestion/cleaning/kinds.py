"""Every kind of column and its cleaner, and what is common to all of them: absence, mappings, choices, validators."""

from collections.abc import Callable
from typing import Any, Final

from ingestion.cleaning import arrays, identifiers, moments, numbers, values
from ingestion.cleaning.declaring import lookup_text
from ingestion.cleaning.rules import UNSET, Column
from ingestion.cleaning.values import Absent, CleanValue, Note
from ingestion.errors import RecordRejected


def bind_value(column: Column, note: Note) -> CleanValue:
    """Bind a column's rules into a function from a decoded value, None where there is none, to a clean one.

    It raises RecordRejected for a value that the column cannot take.
    """
    absent = absent_of(column)
    clean = CLEANERS[column.kind](column, absent, note)
    if column.choices is not None and column.kind not in _KNOW_CHOICES:
        clean = _with_choices(clean, column)
    if column.check is not None:
        clean = _with_check(clean, column.check)
    if column.mapping is not None:
        clean = _with_mapping(clean, column, absent)

    def take(value: Any) -> Any:
        return absent() if value is None else clean(value)

    return take


def absent_of(column: Column) -> Absent:
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


def _with_choices(clean: CleanValue, column: Column) -> CleanValue:
    def choose(value: Any) -> Any:
        chosen = clean(value)
        if chosen is not None and chosen not in (column.choices or ()):
            detail = f"{str(chosen)[:40]!r} is not among the choices"
            raise RecordRejected("not_a_choice", field=column.name, detail=detail)
        return chosen

    return choose


def _with_check(clean: CleanValue, check: Callable[[Any], None]) -> CleanValue:
    def checked(value: Any) -> Any:
        cleaned = clean(value)
        if cleaned not in (None, "", [], b""):  # as Django's own: what is empty is not validated
            check(cleaned)
        return cleaned

    return checked


def _with_mapping(clean: CleanValue, column: Column, absent: Absent) -> CleanValue:
    known = column.mapping or {}

    def look_up(value: Any) -> Any:
        text = lookup_text(value)
        stored = known.get(text, known.get(text.strip(), UNSET))
        if stored is UNSET:
            raise RecordRejected("not_a_choice", field=column.name, detail=f"{text[:40]!r} is not among the values")
        return absent() if stored is None else clean(stored)

    return look_up


_KNOW_CHOICES: Final = frozenset({"text", "integer", "array", "range"})
# JSON is not here: it is taken from the record's own text, see `rows`.
CLEANERS: Final[dict[str, Callable[[Column, Absent, Note], CleanValue]]] = {
    "text": values.clean_text,
    "boolean": values.clean_boolean,
    "integer": numbers.clean_integer,
    "decimal": numbers.clean_decimal,
    "float": numbers.clean_float,
    "date": moments.clean_date,
    "time": moments.clean_time,
    "timestamp": moments.clean_timestamp,
    "duration": moments.clean_duration,
    "uuid": identifiers.clean_uuid,
    "address": identifiers.clean_address,
    "binary": identifiers.clean_binary,
    "array": arrays.binder(bind_value, "array"),
    "range": arrays.binder(bind_value, "range"),
}
KINDS: Final = frozenset({*CLEANERS, "json"})
