"""Rows to lines of PostgreSQL's COPY text format: pure text, no I/O.

Follows https://www.postgresql.org/docs/current/sql-copy.html, "Text Format"; arrays and ranges follow the sections
"Array Input and Output Syntax" and "Range Input/Output" of the manual.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, Final

from ingestion.types import Row

NULL = r"\N"

# The backslash comes first: the others introduce backslashes of their own.
ESCAPES = {"\\": r"\\", "\n": r"\n", "\t": r"\t", "\r": r"\r"}


def escape(text: str) -> str:
    r"""Escape one value for COPY's text format.

    The backslash is always escaped, so that no value can read as `\N` (NULL) or `\.` (end of data).
    """
    # Guarded replaces beat str.translate: most values hold none of the characters, and `in` runs at memchr speed.
    if "\\" in text:
        text = text.replace("\\", r"\\")
    if "\n" in text:
        text = text.replace("\n", r"\n")
    if "\t" in text:
        text = text.replace("\t", r"\t")
    if "\r" in text:
        text = text.replace("\r", r"\r")
    return text


def unescape(text: str) -> str:
    """Undo `escape`."""
    return _ESCAPED.sub(lambda found: _PLAIN_OF[found[0]], text) if "\\" in text else text


_PLAIN_OF: Final = {escaped: plain for plain, escaped in ESCAPES.items()}
_ESCAPED: Final = re.compile("|".join(map(re.escape, _PLAIN_OF)))


def _boolean(value: bool) -> str:
    return "t" if value else "f"


def _duration(value: timedelta) -> str:
    """Write days and seconds apart, as Django does: PostgreSQL keeps them apart."""
    return f"{value.days} days {value.seconds}.{value.microseconds:06} seconds"


def _bytes(value: bytes) -> str:
    return rf"\x{value.hex()}"


def _array(members: list[Any]) -> str:
    return "{" + ",".join(map(_member, members)) + "}"


def _member(value: Any) -> str:
    if value is None:
        return "NULL"
    return _array(value) if type(value) is list else _quoted(value)


def _range(value: Any) -> str:
    if type(value) is str:
        return value  # the word `empty`
    lower, upper, (opening, closing) = value
    ends = ["" if end is None else _quoted(end) for end in (lower, upper)]
    return f"{opening}{ends[0]},{ends[1]}{closing}"


def _quoted(value: Any) -> str:
    """Quote a member: quoted, nothing in it is syntax but the quote and the backslash, and NULL and empty are text."""
    text = _BY_TYPE.get(type(value), str)(value)
    return '"' + text.replace("\\", r"\\").replace('"', r"\"") + '"'


_BY_TYPE: Final[dict[type, Callable[[Any], str]]] = {bool: _boolean, bytes: _bytes, timedelta: _duration}

# What PostgreSQL reads as a value of the kind, before COPY's own escapes. Values are as cleaning makes them: text, JSON
# and UUIDs are text by then, timestamps are in UTC; PostgreSQL reads Python's own text of numbers, dates and times.
LITERALS: Final[dict[str, Callable[[Any], str]]] = {
    "text": str,
    "json": str,
    "integer": str,
    "decimal": str,
    "float": str,
    "boolean": _boolean,
    "date": str,
    "time": str,
    "timestamp": str,
    "duration": _duration,
    "uuid": str,
    "address": str,
    "binary": _bytes,
    "array": _array,
    "range": _range,
}
# Their literals hold nothing that COPY would take for something else.
_PLAIN: Final = frozenset({"integer", "decimal", "float", "boolean", "date", "time", "timestamp", "duration", "uuid"})


def _encoder(kind: str) -> Callable[[Any], str]:
    literal = LITERALS[kind]
    if literal is str and kind not in _PLAIN:
        return lambda value: NULL if value is None else escape(str(value))
    if kind in _PLAIN:
        return lambda value: NULL if value is None else literal(value)
    return lambda value: NULL if value is None else escape(literal(value))


ENCODERS: Final[dict[str, Callable[[Any], str]]] = {kind: _encoder(kind) for kind in LITERALS}


def encode_lines(rows: Iterable[Row], kinds: Iterable[str]) -> Iterator[str]:
    """Encode each row as one newline-terminated line; holds one row.

    Args:
        rows: values in the order of `kinds`.
        kinds: the kind of each column, a key of ENCODERS.

    Raises:
        KeyError: a kind without an encoder; `manage.py check` refuses such feeds.
    """
    encoders = tuple(ENCODERS[kind] for kind in kinds)
    for row in rows:
        yield "\t".join([encode(value) for encode, value in zip(encoders, row, strict=True)]) + "\n"
