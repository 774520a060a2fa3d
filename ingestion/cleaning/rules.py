"""What a feed says about its columns, and what is known about each once its model was asked."""

from dataclasses import dataclass
from typing import Any, Final


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
    """One column, resolved: the feed's rule and what the model knows.

    `limits` are the integer type's bounds. `default` is clean already: see `clean_default`. A key has no default, is
    never NULL and never cut: each would make one row of different records.
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
