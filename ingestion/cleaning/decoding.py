"""One record's JSON text to Python values, or the reason why not; what PostgreSQL's jsonb refuses is refused here."""

import json
import math
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from ingestion.errors import RecordRejected
from ingestion.types import Record

# Deeper documents are nobody's data; the parser itself stops at Python's recursion limit.
MAX_DEPTH: Final = 100
# PostgreSQL's own limit is 1 GB a field; a worker's memory ends long before.
MAX_RECORD_BYTES: Final = 16 * 1024 * 1024
# PostgreSQL's numeric, which jsonb is made of, holds this many digits after the point, and exponents below 2**30.
FRACTION_DIGITS: Final = 16_383
HIGHEST_EXPONENT: Final = 131_071


def _number(text: str) -> Decimal:
    """Read a number with a point or an exponent exactly, if both Python's floats and jsonb can hold it."""
    # The short cut covers all but a few: without an exponent, 300 characters are in range either way.
    if len(text) <= 300 and "e" not in text and "E" not in text:
        return Decimal(text)
    magnitude = _magnitude(text)
    if math.isinf(float(text)) or magnitude > HIGHEST_EXPONENT or magnitude - len(text) < -FRACTION_DIGITS:
        raise ValueError(f"the number {text[:40]} is out of range")  # msgspec makes a ValidationError of it
    return Decimal(text)


def _magnitude(text: str) -> int:
    try:
        return Decimal(text).adjusted()
    except InvalidOperation:  # an exponent of 19 digits or more
        return HIGHEST_EXPONENT + 1


# Decodes any JSON text. It raises msgspec.ValidationError for a number that Python or jsonb cannot hold.
decode_json: Final = msgspec.json.Decoder(float_hook=_number).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, Record]).decode
# Finds out what is wrong with a record, and what can be known of it. Numbers stay text: they have no limits then.
LENIENT: Final[dict[str, Any]] = {"strict": False, "parse_int": str, "parse_float": str}


def decode_record(raw: Record) -> dict[str, Any]:
    """Decode one record; of a name that is there twice the last value counts.

    Raises:
        RecordRejected: it is too large, too deep, not valid JSON, not an object or holds what jsonb cannot hold.
    """
    size = len(raw)
    if size > MAX_RECORD_BYTES:
        raise RecordRejected("field_too_large", detail=f"the record has {size} bytes, the limit is {MAX_RECORD_BYTES}")
    try:
        record = decode_json(raw)
    except RecursionError:
        raise RecordRejected("too_deep", detail="nested beyond the parser's limit") from None
    except UnicodeDecodeError as error:
        raise RecordRejected("invalid_encoding", detail=f"not UTF-8: {error.reason} at byte {error.start}") from error
    except msgspec.ValidationError as error:  # of an untyped decoder: numbers, also integers of over 4,300 digits
        raise RecordRejected("out_of_range", detail=str(error)) from error
    except msgspec.DecodeError as error:
        raise RecordRejected(_why_not_json(raw), detail=str(error)) from error
    if type(record) is not dict:
        raise RecordRejected("not_an_object", detail=f"expected an object, found {json_type(record)}")
    # 100 levels need 200 brackets, so short records cannot be too deep.
    if size > 2 * MAX_DEPTH and _is_too_deep(record, raw):
        raise RecordRejected("too_deep", detail=f"nested more than {MAX_DEPTH} levels")
    return record


def _why_not_json(raw: Record) -> str:
    """Name what the strict parser stumbled over, for what is known to be in the wild."""
    text = str(raw, "utf-8", "replace")
    constants: list[str] = []
    try:
        found = json.loads(text, parse_constant=constants.append, **LENIENT)
    except (ValueError, RecursionError):
        return "not_json"
    if constants:
        return "non_finite_number"
    if "\x00" in text:
        return "nul_character"
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "lone_surrogate"
    return "not_json"


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


def value_at(record: Any, path: tuple[str, ...]) -> Any:
    """Return the decoded value at `path`, or None when there is none."""
    for key in path:
        record = record.get(key) if type(record) is dict else None
    return record


def text_at(raw: Record, path: tuple[str, ...]) -> str:
    """Return the JSON text at `path` of a record that was decoded and has a value there."""
    for key in path:
        raw = _decode_members(raw)[key]
    return str(raw, "utf-8")


def quoted(name: str) -> bytes:
    """Return a name as records have it, unless they spell it with escapes."""
    return json.dumps(name, ensure_ascii=False).encode()


def holds_nul(value: Any) -> bool:
    """Whether any text inside a decoded JSON value holds U+0000; its depth was checked when it was decoded."""
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any("\x00" in key or holds_nul(inner) for key, inner in value.items())
    return isinstance(value, list) and any(holds_nul(inner) for inner in value)


def json_type(value: Any) -> str:
    """Return what a decoded value is, in the words of messages."""
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
