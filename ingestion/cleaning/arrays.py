"""Arrays and ranges: lists of one kind of value, and spans between two."""

import re
from collections.abc import Callable
from typing import Any, Final

from ingestion.cleaning.decoding import json_type
from ingestion.cleaning.rules import Column
from ingestion.cleaning.values import Absent, CleanValue, Note
from ingestion.errors import RecordRejected

BOUNDS: Final = ("[)", "[]", "()", "(]")
EMPTY: Final = "empty"
_RANGE: Final = re.compile(r'([\[(])\s*"?([^",]*?)"?\s*,\s*"?([^",]*?)"?\s*([\])])')


def clean_array(column: Column, clean_item: CleanValue) -> CleanValue:
    """Return a cleaner of lists; PostgreSQL's arrays are rectangular."""
    is_nested = column.item is not None and column.item.kind == "array"

    def clean(value: Any) -> list[Any]:
        if type(value) is tuple:
            value = list(value)
        if type(value) is not list:
            raise RecordRejected("wrong_type", field=column.name, detail=f"expected a list, found {json_type(value)}")
        if column.max_length is not None and len(value) > column.max_length:
            detail = f"{len(value)} members, the column has {column.max_length}"
            raise RecordRejected("too_long", field=column.name, detail=detail)
        members = [clean_item(member) for member in value]
        if is_nested and (None in members or [] in members or len(set(map(_shape, members))) > 1):
            raise RecordRejected("ragged_array", field=column.name, detail="the lists inside differ in length")
        return members

    return clean


def _shape(members: list[Any]) -> tuple[int, ...]:
    """Return the lengths of a rectangular list of lists, of every level."""
    inner = members[0] if members else None
    return (len(members), *(_shape(inner) if type(inner) is list else ()))


def clean_range(column: Column, clean_bound: CleanValue, absent: Absent, note: Note) -> CleanValue:
    """Return a cleaner of ranges: an object with `lower`, `upper` and `bounds`, a list of two, or PostgreSQL's text."""

    def clean(value: Any) -> Any:
        if type(value) is str and not value.strip():
            note("blank")
            return absent()
        if value == EMPTY:
            return EMPTY
        lower, upper, bounds = _ends(value, column)
        lower, upper = (None if end is None else clean_bound(end) for end in (lower, upper))
        if lower is not None and upper is not None and lower > upper:
            raise RecordRejected("invalid_range", field=column.name, detail="the lower bound is above the upper")
        return (lower, upper, bounds)

    return clean


def _ends(value: Any, column: Column) -> tuple[Any, Any, str]:
    found: tuple[Any, Any, Any] | None = None
    if type(value) is str and (match := _RANGE.fullmatch(value.strip())):
        found = (match[2] or None, match[3] or None, match[1] + match[4])
    elif type(value) is dict and not value.keys() - {"lower", "upper", "bounds"} and value:
        found = (value.get("lower"), value.get("upper"), value.get("bounds", "[)"))
    elif isinstance(value, list | tuple) and len(value) == 2:
        found = (*value, "[)")
    elif all(
        hasattr(value, name) for name in ("lower", "upper", "_bounds", "isempty")
    ):  # psycopg2's, a model's default
        found = (value.lower, value.upper, value._bounds)  # noqa: SLF001 - it has no public name
    if found is None or found[2] not in BOUNDS:
        detail = "expected lower, upper and bounds, a list of two, or a range as PostgreSQL writes it"
        raise RecordRejected("invalid_range", field=column.name, detail=detail)
    return found


def binder(bind: Callable[[Column, Note], CleanValue], kind: str) -> Callable[[Column, Absent, Note], CleanValue]:
    """Return the function that binds an array's or a range's column, given the one that binds any column."""

    def bind_array(column: Column, absent: Absent, note: Note) -> CleanValue:
        clean_item = bind(column.item or Column(name=column.name, kind="text", path=()), note)
        return clean_array(column, clean_item) if kind == "array" else clean_range(column, clean_item, absent, note)

    return bind_array
