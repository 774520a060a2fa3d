"""Names that an object has twice: of their values the last one counts, as in jsonb. Each column it concerns counts it.

Note [Strings]: a JSON text has as many strings as what was decoded of it, unless something was lost on the way: the
values of a name that is there again. Quotes are counted at C speed, so that nobody has to look for the names.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from ingestion.cleaning.decoding import LENIENT
from ingestion.cleaning.rules import UNSET, Column
from ingestion.errors import RecordRejected
from ingestion.types import Record

# The name of the rule, behind that of the column.
RULE: Final = "repeated_name"

# What was coerced in a record that becomes a row, as `compile_columns` counts it.
FindRepeats = Callable[[Record], list[str]]


def strings_in(text: bytes) -> int:
    """Return how many strings a JSON text has, names included. See Note [Strings]."""
    quotes = text.count(b'"')
    if b"\\" in text:
        # Without escaped backslashes, every backslash before a quote escapes it.
        quotes -= text.replace(b"\\\\", b"").count(b'\\"')
    return quotes // 2


class _Pairs(list[tuple[str, Any]]):
    """An object with every name it has, also those that are there twice."""


def _pairs_of(raw: bytes) -> Any:
    return json.loads(raw, object_pairs_hook=_Pairs, **LENIENT)


def is_repeated(raw: bytes, path: tuple[str, ...]) -> bool:
    """Whether any name on the way to `path` is there twice in a record that was decoded."""
    level = _pairs_of(raw)
    for key in path:
        inner = [value for name, value in level if name == key] if type(level) is _Pairs else []
        if len(inner) != 1:
            return len(inner) > 1
        level = inner[0]
    return False


def compile_repeats(columns: Sequence[Column]) -> FindRepeats:
    """Return what finds the columns of a record whose value was chosen among several of one name.

    It raises RecordRejected `ambiguous_key` where one of them is a key, and finds nothing in what is no JSON.
    """
    paths = [
        (column, path)
        for column in columns
        if column.constant is UNSET and not (column.path is None and column.kind == "text")
        for path in (column.path or (), *column.others)
    ]

    def find(raw: Record) -> list[str]:
        try:
            repeated = set(_repeated(_pairs_of(bytes(raw)), ()))
        except (ValueError, RecursionError):
            return []
        concerned = {column.name: column for column, path in paths if any(_concerns(where, path) for where in repeated)}
        for column in concerned.values():
            if column.is_key:
                raise RecordRejected("ambiguous_key", field=column.name, detail="the key is there twice")
        return [f"{name}:{RULE}" for name in concerned]

    return find


def _concerns(repeated: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """Whether a name that is there twice is on the way to a column's value, or inside of it."""
    return all(one == other for one, other in zip(repeated, path, strict=False))


def _repeated(value: Any, where: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the paths of names that are there twice; what is inside a list is at the list's own path."""
    if type(value) is _Pairs:
        times = Counter(name for name, _ in value)
        for name, inner in value:
            if times[name] > 1:
                yield (*where, name)
            yield from _repeated(inner, (*where, name))
    elif type(value) is list:
        for inner in value:
            yield from _repeated(inner, where)
