"""Records to rows: decides about every value before the database sees it. Pure Python, no I/O.

A feed declares rules; together with what the Django model knows they become columns; columns are compiled once
into a function that turns one record into one row or raises RecordRejected.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ingestion.errors import RecordRejected
from ingestion.types import Record, Row

# Deeper documents are nobody's data; the parser itself stops at Python's recursion limit.
MAX_DEPTH = 100
# PostgreSQL's own limit is 1 GB a field; a worker's memory ends long before.
MAX_RECORD_BYTES = 16 * 1024 * 1024

_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class _Unset:
    """No default was declared; None is a default of its own."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = _Unset()


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a feed says about one column. `path` is where the value is, or None for the whole record."""

    path: tuple[str, ...] | None
    kind: str | None = None
    default: Any = UNSET
    truncate: bool = False


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column, resolved: the feed's rule and what the model knows. `limits` are the integer type's bounds."""

    name: str
    kind: str
    path: tuple[str, ...] | None
    null: bool = False
    default: Any = UNSET
    max_length: int | None = None
    truncate: bool = False
    limits: tuple[int, int] | None = None
    choices: frozenset[Any] | None = None
    is_key: bool = False


def field(path: str) -> Rule:
    """Take the value at a dotted path, cleaned by the model's column type."""
    return Rule(path=tuple(path.split(".")))


def text(path: str, *, default: Any = UNSET, truncate: bool = False) -> Rule:
    """Take text at a dotted path.

    Args:
        default: what a missing or null value becomes.
        truncate: cut text longer than the column instead of rejecting the record.
    """
    return Rule(path=tuple(path.split(".")), kind="text", default=default, truncate=truncate)


whole_record: Final = Rule(path=None, kind="json")

# A value on its way to one column. It raises RecordRejected.
CleanValue = Callable[[Any], Any]
# A decoded record and its text; the value of one column.
TakeValue = Callable[[dict[str, Any], Record], Any]
CleanRecord = Callable[[Record], Row]


def compile_columns(columns: Sequence[Column]) -> CleanRecord:
    """Bind the columns' rules once; the function returned is called per record and holds nothing.

    It raises RecordRejected for a record that cannot become a row.
    """
    takers = tuple(_bind(column) for column in columns)

    def clean(raw: Record) -> Row:
        record = decode_record(raw)
        return tuple([take(record, raw) for take in takers])

    return clean


def decode_record(raw: Record) -> dict[str, Any]:
    """Decode one record.

    Raises:
        RecordRejected: it is too large, too deep, not valid JSON or not an object.
    """
    size = len(raw)
    if size > MAX_RECORD_BYTES:
        raise RecordRejected("field_too_large", detail=f"the record has {size} bytes, the limit is {MAX_RECORD_BYTES}")
    try:
        record = _decode(raw)
    except RecursionError:
        raise RecordRejected("too_deep", detail="nested beyond the parser's limit") from None
    except UnicodeDecodeError as error:
        raise RecordRejected("invalid_encoding", detail=f"not UTF-8: {error.reason} at byte {error.start}") from error
    except msgspec.MsgspecError as error:
        raise RecordRejected(_decode_reason(raw, error), detail=str(error)) from error
    if type(record) is not dict:
        raise RecordRejected("not_an_object", detail=f"expected an object, found {_json_type(record)}")
    # 100 levels need 200 brackets, so short records cannot be too deep.
    if size > 2 * MAX_DEPTH and _is_too_deep(record, raw):
        raise RecordRejected("too_deep", detail=f"nested more than {MAX_DEPTH} levels")
    return record


def _decode_reason(raw: Record, error: msgspec.MsgspecError) -> str:
    if isinstance(error, msgspec.ValidationError):
        return "out_of_range"  # the only check of an untyped decoder: a number no float holds
    return "lone_surrogate" if _LONE_SURROGATE.search(bytes(raw)) else "not_json"


def _is_too_deep(record: dict[str, Any], raw: Record) -> bool:
    text = bytes(raw)
    if text.count(b"{") + text.count(b"[") <= MAX_DEPTH:
        return False
    level: list[Any] = [record]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _members(outer) if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def _members(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value


def key_text(raw: Record, columns: Sequence[Column]) -> str | None:
    """Return a record's key as text, as far as it can be known: for showing rejects, not for loading."""
    try:
        record = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    values = [_at(record, column.path) for column in columns if column.is_key and column.path]
    known = [str(value) for value in values if value is not None]
    return ", ".join(known) if known and len(known) == len(values) else None


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = value.get(key) if type(value) is dict else None
    return value


def _bind(column: Column) -> TakeValue:
    if column.path is None:
        return _bind_whole(column)
    clean = _CLEANERS[column.kind](column)
    absent = _absent(column)
    path = column.path

    def take(record: dict[str, Any], raw: Record) -> Any:
        value = _at(record, path)
        return absent() if value is None else clean(value)

    def take_top(record: dict[str, Any], raw: Record) -> Any:
        value = record.get(top)
        return absent() if value is None else clean(value)

    top = path[0]
    return take_top if len(path) == 1 else take


def _bind_whole(column: Column) -> TakeValue:
    name = column.name

    def take(record: dict[str, Any], raw: Record) -> str:
        text = str(raw, "utf-8")
        if "\\u0000" in text and _holds_nul(record):
            raise RecordRejected("nul_character", field=name, detail="jsonb cannot hold U+0000")
        return text

    return take


def _absent(column: Column) -> Callable[[], Any]:
    """Say what a missing or null value becomes: the default, NULL where allowed, else a rejection."""
    if column.default is not UNSET:
        return lambda: column.default
    if column.null:
        return lambda: None

    def reject() -> Any:
        if column.is_key:
            raise RecordRejected("missing_key", field=column.name, detail="the key is missing or null")
        raise RecordRejected("missing_value", field=column.name, detail="missing or null, and the column is NOT NULL")

    return reject


def _clean_text(column: Column) -> CleanValue:
    name, longest, choices = column.name, column.max_length, column.choices

    def clean(value: Any) -> str:
        if type(value) is not str:
            value = _text_of(value, name)
        if "\x00" in value:
            raise RecordRejected("nul_character", field=name, detail="text cannot hold U+0000")
        if longest is not None and len(value) > longest:
            if not column.truncate:
                raise RecordRejected(
                    "too_long", field=name, detail=f"{len(value)} characters, the column holds {longest}"
                )
            value = value[:longest]
        if column.is_key and not value:
            raise RecordRejected("missing_key", field=name, detail="the key is empty")
        if choices is not None and value not in choices:
            raise RecordRejected("not_a_choice", field=name, detail=f"{value[:40]!r} is not among the choices")
        return str(value)

    return clean


def _text_of(value: Any, name: str) -> str:
    """Numbers have one text; booleans, lists and objects do not."""
    if type(value) is int:
        return str(value)
    raise RecordRejected("wrong_type", field=name, detail=f"expected text, found {_json_type(value)}")


def _clean_integer(column: Column) -> CleanValue:
    name, choices = column.name, column.choices
    low, high = column.limits or (-(2**63), 2**63 - 1)

    def clean(value: Any) -> int | None:
        if type(value) is not int:
            value = _integer_of(value, column)
            if value is None:
                return None
        if not low <= value <= high:
            raise RecordRejected("out_of_range", field=name, detail=f"expected {low} to {high}")
        if choices is not None and value not in choices:
            raise RecordRejected("not_a_choice", field=name, detail=f"{value} is not among the choices")
        return int(value)

    return clean


def _integer_of(value: Any, column: Column) -> int | None:
    """Coerce what is integral without doubt: `1.0`, `" 1 "`, `"+1"`; an empty text is NULL."""
    if type(value) is str:
        stripped = value.strip()
        if not stripped:
            absent: int | None = _absent(column)()
            return absent
        if _INTEGER.fullmatch(stripped):
            return int(stripped)
    elif type(value) is float and value.is_integer():
        return int(value)
    if column.is_key and isinstance(value, dict | list):
        raise RecordRejected("missing_key", field=column.name, detail=f"the key is {_json_type(value)}")
    raise RecordRejected("not_an_integer", field=column.name, detail=f"found {_json_type(value)} {str(value)[:40]!r}")


def _clean_boolean(column: Column) -> CleanValue:
    words = {"true": True, "false": False, "t": True, "f": False, "yes": True, "no": False}
    words |= {"on": True, "off": False, "1": True, "0": False}

    def clean(value: Any) -> bool:
        if type(value) is bool:
            return value
        known = words.get(str(value).strip().lower()) if type(value) in (str, int) else None
        if known is None:
            raise RecordRejected(
                "not_a_boolean", field=column.name, detail=f"found {_json_type(value)} {str(value)[:40]!r}"
            )
        return known

    return clean


def _clean_json(column: Column) -> CleanValue:
    def clean(value: Any) -> str:
        if _holds_nul(value):
            raise RecordRejected("nul_character", field=column.name, detail="jsonb cannot hold U+0000")
        return _encode(value).decode()

    return clean


def _holds_nul(value: Any) -> bool:
    """Whether any text inside a decoded JSON value holds U+0000; its depth was checked when it was decoded."""
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any("\x00" in key or _holds_nul(inner) for key, inner in value.items())
    return isinstance(value, list) and any(_holds_nul(inner) for inner in value)


def _json_type(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")


_CLEANERS: Final[dict[str, Callable[[Column], CleanValue]]] = {
    "text": _clean_text,
    "integer": _clean_integer,
    "boolean": _clean_boolean,
    "json": _clean_json,
}
KINDS: Final = frozenset(_CLEANERS)
