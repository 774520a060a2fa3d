"""A key as text: by it a reject is shown, and found again when a good version of its record is loaded."""

import hashlib
import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

from ingestion.cleaning.decoding import LENIENT, MAX_RECORD_BYTES, value_at
from ingestion.cleaning.kinds import bind_value
from ingestion.cleaning.rows import compile_columns
from ingestion.cleaning.rules import UNSET, Column, RecordRule
from ingestion.cleaning.values import CleanValue
from ingestion.errors import RecordRejected, RecordSkipped
from ingestion.types import Record

# What a reject's row has room for. Of a longer key the start is kept, and a hash that tells it from others.
KEY_CHARACTERS: Final = 255
_HASH_CHARACTERS: Final = 32
_BETWEEN: Final = ", "

# None where the key cannot be known.
FindKey = Callable[[Record], str | None]


def key_text(key: Any) -> str:
    """Return a clean key, or the tuple of one of several columns, as text: equal keys have equal text."""
    if type(key) is int:
        return str(key)
    text = _BETWEEN.join(map(_part, key)) if type(key) is tuple else _plain(key)
    if len(text) <= KEY_CHARACTERS:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_CHARACTERS]
    return f"{text[: KEY_CHARACTERS - _HASH_CHARACTERS - 1]}…{digest}"


def _plain(value: Any) -> str:
    # 7.0 and 7 are one key.
    return f"{value.normalize():f}" if type(value) is Decimal else str(value)


def _part(value: Any) -> str:
    text = _plain(value)
    return json.dumps(text, ensure_ascii=False) if _BETWEEN in text or text.startswith('"') else text


def compile_key(columns: Sequence[Column], rules: Sequence[RecordRule] = ()) -> FindKey:
    """Return what finds the text of a record's key, also of one that is rejected.

    Where the key is clean it is the text of the clean key, so that a good version of the record, whose key may be
    written in another form, has the same; otherwise it is what the record has, to be shown.
    """
    key_columns = [column for column in columns if column.is_key]
    clean_key = compile_columns(key_columns, rules)
    cleaners = [bind_value(column, lambda rule: None) for column in key_columns]

    def find(raw: Record) -> str | None:
        if not key_columns or len(raw) > MAX_RECORD_BYTES:
            return None
        try:
            row = clean_key(raw)
        except RecordSkipped:
            return None
        except RecordRejected as rejected:
            # Which of two keys it is would be a guess.
            return None if rejected.reason == "ambiguous_key" else _shown(raw, key_columns, cleaners)
        return key_text(row[0] if len(row) == 1 else row)

    return find


def _shown(raw: Record, columns: Sequence[Column], cleaners: Sequence[CleanValue]) -> str | None:
    """Return the key of a record that is no JSON by the book, or whose key is not clean."""
    try:
        record = json.loads(str(raw, "utf-8", "replace"), **LENIENT)
    except (ValueError, RecursionError):
        return None
    values = [value_at(record, column.path) if column.path else column.constant for column in columns]
    if any(value is None or value is UNSET for value in values):
        return None
    key = tuple(_clean_or_raw(value, clean) for value, clean in zip(values, cleaners, strict=True))
    return key_text(key[0] if len(key) == 1 else key)


def _clean_or_raw(value: Any, clean: CleanValue) -> Any:
    try:
        return clean(value)
    except RecordRejected:
        return str(value)
