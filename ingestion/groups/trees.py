"""The structs that a group's records must fit, and their fields column by column. See Note [Fast groups]."""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from operator import attrgetter
from typing import Annotated, Any, Final, Literal

import msgspec

from ingestion.cleaning import UNSET, Column, MomentForm, absent_of, bind_value, noter
from ingestion.encoding import LITERALS
from ingestion.groups.closed import Field

# Stands for NULL until the backslashes are escaped; a group whose values hold it goes the slow way.
NULL_MARK: Final = "\x1d"
# What a JSON column's text is where the record has nothing.
_NOTHING: Final = msgspec.Raw(b"null")

# The values of one column, from the struct's to clean ones. It raises RecordRejected.
CleanAll = Callable[[list[Any]], list[Any]]


@dataclass(kw_only=True, slots=True)
class Taken:
    """A group's values as COPY text, one list for each column; `marks` of them are NULL_MARK.

    `kinds` are those of the values that optional fields of a closed struct have, UnsetType where a record has none.
    """

    values: list[list[str]] = field(default_factory=list)
    keys: list[Any] = field(default_factory=list)
    marks: int = 0


@dataclass(frozen=True, kw_only=True)
class _Leaf:
    """One column's field: where it is, how its values are cleaned and written. `branch` is its struct's number."""

    column: Column
    branch: int
    type_: Any
    default: Any
    clean_all: CleanAll | None
    literal: Callable[[Any], str] | None


@dataclass(kw_only=True)
class _Branch:
    """One object of the record: the struct for it, and where its own object is."""

    parent: int
    fields: list[tuple[str, Any, Any]] = field(default_factory=list)
    rename: dict[str, str] = field(default_factory=dict)
    struct: Any = None
    empty: Any = None


class Tree:
    """The columns' paths as structs inside one another, and how a list of the outermost becomes columns of text."""

    def __init__(self, leaves: Sequence[_Leaf | str | None], branches: Sequence[_Branch]) -> None:
        self._leaves = leaves
        self._branches = branches
        self.struct = branches[0].struct
        # What makes numbers of fields without a type of their own, exactly.
        has_untyped = any(isinstance(leaf, _Leaf) and leaf.type_ is Any for leaf in leaves)
        self.float_hook = Decimal if has_untyped else None
        self._is_key = [isinstance(leaf, _Leaf) and leaf.column.is_key for leaf in leaves]

    @property
    def fields(self) -> list[Field] | None:
        """The columns as fields of the record itself; None where one has to be cleaned or is elsewhere."""
        leaves = [leaf for leaf in self._leaves if isinstance(leaf, _Leaf) and leaf.clean_all is None]
        if len(leaves) < len(self._leaves) or len(self._branches) > 1:
            return None
        return [Field(column=leaf.column, type_=leaf.type_, default=leaf.default) for leaf in leaves]

    def take(self, structs: list[Any]) -> Taken:
        """Return the values of every column.

        Raises:
            RecordRejected: a value that only the slow way can say what is wrong with.
            OverflowError: a timestamp beyond what Python can hold in UTC.
        """
        objects = [structs]
        for number, branch in enumerate(self._branches[1:], start=1):
            inner = map(attrgetter(_branch_name(number)), objects[branch.parent])
            objects.append([found if found is not None else branch.empty for found in inner])
        taken = Taken()
        keys: list[list[Any]] = []
        for number, (leaf, is_key) in enumerate(zip(self._leaves, self._is_key, strict=True)):
            if not isinstance(leaf, _Leaf):
                _add(taken, [leaf] * len(structs))
                continue
            values = list(map(attrgetter(_leaf_name(number)), objects[leaf.branch]))
            if leaf.clean_all is not None:
                values = leaf.clean_all(values)
            if is_key:
                keys.append(values)
            _add(taken, _written(values, leaf.literal))
        taken.keys = keys[0] if len(keys) == 1 else list(zip(*keys, strict=True)) if keys else [()] * len(structs)
        return taken


def _add(taken: Taken, values: list[Any]) -> None:
    if None in values:
        taken.marks += values.count(None)
        values = [NULL_MARK if value is None else value for value in values]
    taken.values.append(values)


def _written(values: list[Any], literal: Callable[[Any], str] | None) -> list[Any]:
    if literal is None:
        return values
    return [None if value is None else literal(value) for value in values]


def plant(columns: Sequence[Column], noted: list[str]) -> Tree | None:
    """Make the tree of columns that do not take the whole record; None for columns that only the slow way knows.

    Args:
        noted: filled with what was coerced, as `compile_columns` counts it.
    """
    branches = [_Branch(parent=0)]
    known: dict[tuple[str, ...], int] = {(): 0}
    leaves: list[_Leaf | str | None] = []
    paths = [column.path for column in columns if column.path]
    if len(set(paths)) < len(paths) or any(map(_is_slow, columns)):
        return None
    for number, column in enumerate(columns):
        if column.constant is not UNSET:
            leaves.append(None if column.constant is None else LITERALS[column.kind](column.constant))
            continue
        if not column.path or any(column.path[:length] in paths for length in range(1, len(column.path))):
            return None
        leaf = _leaf(column, _branch_of(column.path[:-1], known, branches), noted)
        branch = branches[leaf.branch]
        branch.fields.append((_leaf_name(number), leaf.type_, leaf.default))
        branch.rename[_leaf_name(number)] = column.path[-1]
        leaves.append(leaf)
    _make_structs(branches)
    return Tree(leaves, branches)


def _is_slow(column: Column) -> bool:
    return bool(column.others or column.compute or (column.kind == "json" and (column.check or column.mapping)))


def _branch_of(path: tuple[str, ...], known: dict[tuple[str, ...], int], branches: list[_Branch]) -> int:
    """Return the number of the branch for the object at `path`, made with its parents where it is new."""
    if path not in known:
        parent = _branch_of(path[:-1], known, branches)
        known[path] = len(branches)
        branches.append(_Branch(parent=parent))
        branches[parent].rename[_branch_name(known[path])] = path[-1]
    return known[path]


def _make_structs(branches: list[_Branch]) -> None:
    """Make the structs, the innermost first: parents come before their children."""
    for number in reversed(range(len(branches))):
        branch = branches[number]
        # msgspec wants fields without a default first; keyword-only fields may come in any order.
        branch.struct = msgspec.defstruct("Object", branch.fields, rename=branch.rename, kw_only=True, gc=False)
        if number == 0:
            continue
        # An object that is missing or null is like an empty one, where an empty one will do.
        is_optional = all(default is not msgspec.NODEFAULT for _, _, default in branch.fields)
        branch.empty = branch.struct() if is_optional else None
        type_ = branch.struct | None if is_optional else branch.struct
        default = None if is_optional else msgspec.NODEFAULT
        branches[branch.parent].fields.append((_branch_name(number), type_, default))


def _leaf(column: Column, branch: int, noted: list[str]) -> _Leaf:
    type_, clean_all, literal = _type_of(column), None, None
    default = column.default if column.default is not UNSET else None if column.null else msgspec.NODEFAULT
    if column.is_key:
        default = msgspec.NODEFAULT
    if type_ is None:
        type_, default = (msgspec.Raw, _NOTHING) if column.kind == "json" else (Any, None)
        clean_all = _bind_json(column) if column.kind == "json" else _bind_all(column, noted)
        literal = LITERALS[column.kind] if LITERALS[column.kind] is not str else None
    elif column.kind == "boolean":
        literal = LITERALS["boolean"]
    elif column.kind == "timestamp":
        clean_all = _in_utc
    if default is None and type_ is not Any:
        type_ = type_ | None
    return _Leaf(column=column, branch=branch, type_=type_, default=default, clean_all=clean_all, literal=literal)


def _type_of(column: Column) -> Any:
    """Return the type whose values need no cleaning, or None when they need it."""
    form = column.form
    if column.check or column.mapping is not None:
        return None
    if form is not None and not (isinstance(form, MomentForm) and not form.formats and not form.unit):
        return None
    if column.choices is not None:
        plain = {"text": str, "integer": int}.get(column.kind)
        fits = plain is not None and all(type(choice) is plain for choice in column.choices)
        return Literal[tuple(column.choices)] if fits and column.choices and not column.is_key else None
    if column.kind == "text":
        return Annotated[str, msgspec.Meta(min_length=int(column.is_key), max_length=column.max_length)]
    if column.kind == "integer":
        low, high = column.limits or (-(2**63), 2**63 - 1)
        return Annotated[int, msgspec.Meta(ge=low, le=high)]
    return _TYPES.get(column.kind)


_TYPES: Final[dict[str, Any]] = {
    "boolean": bool,
    "float": float,
    "date": dt.date,
    "time": Annotated[dt.time, msgspec.Meta(tz=False)],
    "timestamp": Annotated[dt.datetime, msgspec.Meta(tz=True)],
}


def _bind_all(column: Column, noted: list[str]) -> CleanAll:
    take = bind_value(column, noter(column, noted))
    return lambda values: [take(value) for value in values]


def _bind_json(column: Column) -> CleanAll:
    absent = absent_of(column)
    return lambda values: [absent() if text == "null" else text for text in [str(value, "utf-8") for value in values]]


def _in_utc(values: list[Any]) -> list[Any]:
    utc = dt.UTC
    return [value if value is None or value.tzinfo is utc else value.astimezone(utc) for value in values]


def _leaf_name(number: int) -> str:
    return f"column_{number}"


def _branch_name(number: int) -> str:
    return f"object_{number}"
