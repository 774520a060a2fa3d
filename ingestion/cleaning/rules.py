"""What is known about each column once its model was asked, and what a feed may say about it: see `declaring`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

# A record-level rule: the decoded record, numbers with a point as exact Decimal, to the record that is cleaned, or to
# None for one that is left out. It may change the record it is given.
RecordRule: TypeAlias = "Callable[[dict[str, Any]], dict[str, Any] | None]"


class _Unset:
    """No default was declared; None is a default of its own."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = _Unset()


@dataclass(frozen=True, kw_only=True)
class TextForm:
    """What is done to a text before its length is looked at, in this order but for `empty_is_null`."""

    remove_nul: bool = False
    normalise: str | None = None
    strip: bool = False
    collapse: bool = False
    empty_is_null: bool = False


@dataclass(frozen=True, kw_only=True)
class NumberForm:
    """How numbers are written as text, and what becomes of more decimals than the column has."""

    comma: bool = False
    thousands: str = ""
    rounding: str | None = None


@dataclass(frozen=True, kw_only=True)
class BooleanForm:
    """The words for true and false, in lower case."""

    true: tuple[str, ...]
    false: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class MomentForm:
    """How dates and times are written, the unit of numbers, and the zone of what names none."""

    formats: tuple[str, ...] = ()
    unit: str | None = None
    zone: str | None = None


@dataclass(frozen=True, kw_only=True)
class BinaryForm:
    """How bytes are written as text."""

    encoding: str


@dataclass(frozen=True, kw_only=True)
class JsonForm:
    """What is done to JSON that jsonb could not hold."""

    remove_nul: bool


Form: TypeAlias = TextForm | NumberForm | BooleanForm | MomentForm | BinaryForm | JsonForm


@dataclass(frozen=True, kw_only=True)
class RelationForm:
    """By what fields of its model a related row is found, one rule for each, and what becomes of a missing one.

    `defaults` fill the other fields of a row that is made.
    """

    by: tuple[str, ...]
    parts: tuple["Rule", ...]
    missing: str = "reject"
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a feed says about one column.

    `path` is where the value is: None for the whole record, empty where `compute`, `constant` or `relation` gives it.
    `others` are tried in turn where there is nothing at `path`.
    """

    path: tuple[str, ...] | None
    kind: str | None = None
    default: Any = UNSET
    truncate: bool = False
    others: tuple[tuple[str, ...], ...] = ()
    compute: Callable[[dict[str, Any]], Any] | None = None
    constant: Any = UNSET
    mapping: Mapping[str, Any] | None = None
    form: Form | None = None
    relation: RelationForm | None = None


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column, resolved: the feed's rule and what the model knows.

    `limits` are the integer type's bounds, `max_length` is of characters, bytes or members. `default` and `constant`
    are clean already: see `clean_default`. A key has no default, is never NULL and never cut: each would make one row
    of different records. `check` raises RecordRejected for a clean value that the model's validators refuse. `item` is
    what the members of an array and the bounds of a range are.
    """

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
    others: tuple[tuple[str, ...], ...] = ()
    compute: Callable[[dict[str, Any]], Any] | None = None
    constant: Any = UNSET
    mapping: Mapping[str, Any] | None = None
    form: Form | None = None
    max_digits: int | None = None
    decimal_places: int | None = None
    item: "Column | None" = None
    check: Callable[[Any], None] | None = field(default=None, compare=False)
