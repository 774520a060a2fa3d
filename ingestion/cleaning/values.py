"""One value to one kind of column: what is loaded as it is, what is coerced by rule, what is rejected.

Every cleaner is bound to its column once. It takes a decoded value that is not None, numbers with a point or an
exponent as exact Decimal, and returns what the encoder of the same kind takes.
"""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from ingestion.cleaning.decoding import json_type
from ingestion.cleaning.rules import Column
from ingestion.errors import RecordRejected

# It raises RecordRejected.
CleanValue = Callable[[Any], Any]
# What a value that is not there becomes.
Absent = Callable[[], Any]

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,40}")
_BOOLEANS: Final = {"true": True, "t": True, "yes": True, "on": True, "1": True} | {
    "false": False, "f": False, "no": False, "off": False, "0": False
}  # fmt: skip


def _clean_text(column: Column, absent: Absent) -> CleanValue:
    name, longest, choices = column.name, column.max_length, column.choices
    is_cut = column.truncate and not column.is_key

    def clean(value: Any) -> str:
        text: str = value if type(value) is str else _text_of(value, column)
        if "\x00" in text:
            raise RecordRejected("nul_character", field=name, detail="text cannot hold U+0000")
        if longest is not None and len(text) > longest:
            if not is_cut:
                raise RecordRejected("too_long", field=name, detail=f"{len(text)} characters, the column has {longest}")
            text = text[:longest]
        if column.is_key and not text:
            raise RecordRejected("missing_key", field=name, detail="the key is empty")
        if choices is not None and text not in choices:
            raise RecordRejected("not_a_choice", field=name, detail=f"{text[:40]!r} is not among the choices")
        return text

    return clean


def _text_of(value: Any, column: Column) -> str:
    """Whole numbers have one text; fractions, booleans, lists and objects do not."""
    if type(value) is int:
        return str(value)
    _refuse_structure_as_key(value, column)
    raise RecordRejected("wrong_type", field=column.name, detail=f"expected text, found {json_type(value)}")


def _clean_integer(column: Column, absent: Absent) -> CleanValue:
    name, choices = column.name, column.choices
    low, high = column.limits or (-(2**63), 2**63 - 1)

    def clean(value: Any) -> int | None:
        if type(value) is not int:
            if type(value) is str and not value.strip():
                blank: int | None = absent()
                return blank
            value = _integer_of(value, column)
        number: int = value
        if not low <= number <= high:
            raise RecordRejected("out_of_range", field=name, detail=f"expected {low} to {high}")
        if choices is not None and number not in choices:
            raise RecordRejected("not_a_choice", field=name, detail=f"{number} is not among the choices")
        return number

    return clean


def _integer_of(value: Any, column: Column) -> int:
    """Coerce what is integral without doubt: `1.0`, `1e3`, `" 1 "`, `"+1"`."""
    if type(value) is str:
        if _INTEGER.fullmatch(stripped := value.strip()):
            return int(stripped)
    # Zero with a huge exponent must not be expanded; decoding bounds all others.
    elif type(value) is Decimal and (not value or value == value.to_integral_value()):
        return int(value) if value else 0
    _refuse_structure_as_key(value, column)
    raise RecordRejected("not_an_integer", field=column.name, detail=f"found {json_type(value)} {str(value)[:40]!r}")


def _refuse_structure_as_key(value: Any, column: Column) -> None:
    if column.is_key and isinstance(value, dict | list):
        raise RecordRejected("missing_key", field=column.name, detail=f"the key is {json_type(value)}")


def _clean_boolean(column: Column, absent: Absent) -> CleanValue:
    def clean(value: Any) -> bool:
        if type(value) is bool:
            return value
        known = _BOOLEANS.get(str(value).strip().lower()) if type(value) in (str, int) else None
        if known is None:
            raise RecordRejected(
                "not_a_boolean", field=column.name, detail=f"found {json_type(value)} {str(value)[:40]!r}"
            )
        return known

    return clean


# JSON is not here: it is taken from the record's own text, see `rows`.
CLEANERS: Final[dict[str, Callable[[Column, Absent], CleanValue]]] = {
    "text": _clean_text,
    "integer": _clean_integer,
    "boolean": _clean_boolean,
}
KINDS: Final = frozenset({*CLEANERS, "json"})
