"""What a source's records look like: the fields of their objects and the JSON types of each.

A shape only grows: shapes that several workers have learned are merged in any order, with one result.
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

import msgspec

# Names that are followed in one object. An object with more of them has data for names: dates, ids, languages.
MAX_NAMES: Final = 500
# Names that are followed in all; beyond it only those at the top are.
MAX_FIELDS: Final = 2_000
# How deep objects are followed: `a.b.c.d` is, what is inside of it is not. Lists are not looked into.
LEVELS: Final = 4

# The words for what a decoded value is.
TYPES: Final[dict[type, str]] = {
    type(None): "null", bool: "boolean", int: "number", float: "number", Decimal: "number", str: "text", list: "list",
    dict: "object",
}  # fmt: skip
# msgspec's structs cannot have them, nor can jsonb all of them.
_UNWATCHED: Final = re.compile(r'["\\\x00-\x1f\x7f]')


class Shape(msgspec.Struct, omit_defaults=True):
    """A value's JSON types, each with the page it was first seen on, and the fields it has where it is an object.

    An open one has fields that are not followed.
    """

    types: dict[str, int] = {}
    fields: dict[str, "Shape"] = {}
    is_open: bool = False


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """One field that differs from what was known: it is `new`, of another `type`, or `vanished`."""

    field: str
    change: str
    before: tuple[str, ...] = ()
    now: tuple[str, ...] = ()
    page: int | None = None


def learn(shape: Shape, record: dict[str, Any], *, page: int) -> bool:
    """Add what a decoded record has to the shape of records; return whether anything of it was new."""
    changed = _learn(shape, record, page, LEVELS)
    if changed:
        _bound(shape)
    return changed


def _learn(shape: Shape, found: dict[str, Any], page: int, levels: int) -> bool:
    if shape.is_open:
        return False
    changed = False
    for name, value in found.items():
        field = shape.fields.get(name)
        if field is None:
            if _UNWATCHED.search(name):
                continue
            if len(shape.fields) >= MAX_NAMES:
                _open(shape)
                return True
            field = shape.fields[name] = Shape(is_open=levels == 1)
            changed = True
        kind = TYPES[type(value)]
        if kind not in field.types:
            field.types[kind] = page
            changed = True
        if kind == "object":
            changed |= _learn(field, value, page, levels - 1)
    return changed


def merge(shape: Shape, other: Shape) -> bool:
    """Add to a shape what another one has; return whether anything of it was new."""
    changed = _merge(shape, other)
    _bound(shape)
    return changed


def _merge(shape: Shape, other: Shape) -> bool:
    changed = False
    for kind, page in other.types.items():
        changed |= kind not in shape.types
        shape.types[kind] = min(page, shape.types.get(kind, page))
    if shape.is_open:
        return changed
    if other.is_open:
        _open(shape)
        return True
    for name, field in other.fields.items():
        if name not in shape.fields:
            shape.fields[name] = Shape()
            changed = True
        changed |= _merge(shape.fields[name], field)
    if len(shape.fields) > MAX_NAMES:
        _open(shape)
    return changed


def _open(shape: Shape) -> None:
    shape.fields, shape.is_open = {}, True


def _bound(shape: Shape) -> None:
    if _size(shape) > MAX_FIELDS:
        for field in shape.fields.values():
            _open(field)


def _size(shape: Shape) -> int:
    return len(shape.fields) + sum(map(_size, shape.fields.values()))


def changes(known: Shape, seen: Shape, path: tuple[str, ...] = ()) -> Iterator[Change]:
    """Yield the fields that are new and those with a type they did not have; of a new object the object alone.

    Null is no type of its own: it fits every field, and a field that was always null may become anything.
    """
    if known.is_open:
        return
    for name, field in seen.fields.items():
        where = (*path, name)
        before = known.fields.get(name)
        if before is None:
            page = min(field.types.values(), default=None)
            yield Change(field=".".join(where), change="new", now=_kinds(field), page=page)
            continue
        added = {kind: page for kind, page in field.types.items() if kind not in before.types and kind != "null"}
        if added and _kinds(before) not in ((), ("null",)):
            page = min(added.values())
            yield Change(
                field=".".join(where), change="type", before=_kinds(before), now=tuple(sorted(added)), page=page
            )
        if "object" in before.types:
            yield from changes(before, field, where)


def drop_vanished(known: Shape, seen: Shape, path: tuple[str, ...] = ()) -> Iterator[Change]:
    """Take the fields that were not seen out of what is known, and yield them; of an object the object alone."""
    if seen.is_open:
        return
    for name, before in list(known.fields.items()):
        where = (*path, name)
        field = seen.fields.get(name)
        if field is None:
            del known.fields[name]
            yield Change(field=".".join(where), change="vanished", before=_kinds(before))
        elif "object" in field.types:
            yield from drop_vanished(before, field, where)


def _kinds(field: Shape) -> tuple[str, ...]:
    return tuple(sorted(field.types))


def describe(change: Change) -> str:
    """Return a change as one phrase for people."""
    now, before = " or ".join(change.now), " or ".join(change.before)
    if change.change == "vanished":
        return f"{change.field} vanished, was {before}"
    page = f" (page {change.page})"
    return (
        f"{change.field} is new, {now}{page}"
        if change.change == "new"
        else f"{change.field} is {now}, was {before}{page}"
    )


def outline(shape: Shape, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield a line for each field: its path and its JSON types."""
    for name, field in sorted(shape.fields.items()):
        where = (*path, name)
        yield f"{'.'.join(where)}: {', '.join(_kinds(field))}"
        yield from outline(field, where)


def to_json(value: Shape | Change) -> dict[str, Any]:
    """Return what is stored of a shape or a change."""
    plain: dict[str, Any] = msgspec.to_builtins(value)
    return plain


def from_json(stored: dict[str, Any]) -> Shape:
    """Read a shape that was stored; nothing stored is a shape without fields."""
    return msgspec.convert(stored, Shape)


def change_from_json(stored: dict[str, Any]) -> Change:
    """Read a change that was stored."""
    return msgspec.convert(stored, Change)


def struct_of(shape: Shape) -> Any:
    """Make the struct that records fit which have nothing besides the shape's fields and types."""
    fields = [(f"field_{n}", _type_of(field), msgspec.UNSET) for n, field in enumerate(shape.fields.values())]
    rename = {f"field_{n}": name for n, name in enumerate(shape.fields)}
    return msgspec.defstruct("Object", fields, rename=rename, kw_only=True, gc=False, forbid_unknown_fields=True)


def _type_of(field: Shape) -> Any:
    union: Any = None | msgspec.UnsetType
    for kind in field.types:
        if kind == "object":
            union |= dict if field.is_open else struct_of(field)
        elif kind != "null":
            union |= _JSON_TYPES[kind]
    return union


_JSON_TYPES: Final[dict[str, Any]] = {"boolean": bool, "number": int | float, "text": str, "list": list}
