"""One value to one kind of column: what is loaded as it is, coerced by rule, or rejected; here text and booleans.

Every cleaner is bound to its column once. It takes a decoded value that is not None, numbers with a point or an
exponent as exact Decimal, or a Python value of the column's own type, and returns what the encoder of the same kind
takes. Each coercion is noted by the name of its rule.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import Any, Final

from ingestion.cleaning.decoding import json_type
from ingestion.cleaning.rules import BooleanForm, Column, TextForm
from ingestion.errors import RecordRejected

# It raises RecordRejected.
CleanValue = Callable[[Any], Any]
# What a value that is not there becomes.
Absent = Callable[[], Any]
# Counts one coercion of the column by the rule's name.
Note = Callable[[str], None]

_BOOLEANS: Final = {"true": True, "t": True, "yes": True, "on": True, "1": True} | {
    "false": False, "f": False, "no": False, "off": False, "0": False
}  # fmt: skip
_SPACES: Final = re.compile(r"\s+")


def clean_text(column: Column, absent: Absent, note: Note) -> CleanValue:
    name, longest, choices = column.name, column.max_length, column.choices
    is_cut = column.truncate and not column.is_key
    form = column.form if isinstance(column.form, TextForm) else None

    def clean(value: Any) -> str | None:
        text: str = value if type(value) is str else _text_of(value, column, note)
        if form is not None:
            text = _formed(text, form, note)
            if form.empty_is_null and not text:
                note("empty")
                empty: str | None = absent()
                return empty
        if "\x00" in text:
            raise RecordRejected("nul_character", field=name, detail="text cannot hold U+0000")
        if longest is not None and len(text) > longest:
            if not is_cut:
                raise RecordRejected("too_long", field=name, detail=f"{len(text)} characters, the column has {longest}")
            note("truncate")
            text = text[:longest]
        if column.is_key and not text:
            raise RecordRejected("missing_key", field=name, detail="the key is empty")
        if choices is not None and text not in choices:
            raise RecordRejected("not_a_choice", field=name, detail=f"{text[:40]!r} is not among the choices")
        return text

    return clean


def _formed(text: str, form: TextForm, note: Note) -> str:
    if form.remove_nul and "\x00" in text:
        note("remove_nul")
        text = text.replace("\x00", "")
    if form.normalise and not unicodedata.is_normalized(form.normalise, text):  # type: ignore[arg-type]  # checked
        note("normalise")
        text = unicodedata.normalize(form.normalise, text)  # type: ignore[arg-type]  # `problem_of` looks at it
    if form.strip and (stripped := text.strip()) != text:
        note("strip")
        text = stripped
    if form.collapse and (collapsed := _SPACES.sub(" ", text).strip()) != text:
        note("collapse")
        text = collapsed
    return text


def _text_of(value: Any, column: Column, note: Note) -> str:
    """Whole numbers have one text; fractions, booleans, lists and objects do not."""
    if type(value) is int:
        note("number")
        return str(value)
    refuse_structure_as_key(value, column)
    raise RecordRejected("wrong_type", field=column.name, detail=f"expected text, found {json_type(value)}")


def refuse_structure_as_key(value: Any, column: Column) -> None:
    """Raise RecordRejected `missing_key` where a list or an object stands for a key."""
    if column.is_key and isinstance(value, dict | list):
        raise RecordRejected("missing_key", field=column.name, detail=f"the key is {json_type(value)}")


def clean_boolean(column: Column, absent: Absent, note: Note) -> CleanValue:
    words = _BOOLEANS
    if isinstance(column.form, BooleanForm):
        words = dict.fromkeys(column.form.true, True) | dict.fromkeys(column.form.false, False)

    def clean(value: Any) -> bool:
        if type(value) is bool:
            return value
        known = words.get(str(value).strip().lower()) if type(value) in (str, int) else None
        if known is None:
            raise RecordRejected(
                "not_a_boolean", field=column.name, detail=f"found {json_type(value)} {str(value)[:40]!r}"
            )
        note("text" if type(value) is str else "number")
        return known

    return clean
