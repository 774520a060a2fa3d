"""Rows to lines of PostgreSQL's COPY text format: pure text, no I/O.

Follows https://www.postgresql.org/docs/current/sql-copy.html, "Text Format".
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

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


def _text(value: Any) -> str:
    return NULL if value is None else escape(value)


def _number(value: Any) -> str:
    return NULL if value is None else str(value)


def _boolean(value: Any) -> str:
    return NULL if value is None else "t" if value else "f"


# JSON values are JSON text by the time they get here: cleaning decides what that text is.
ENCODERS: dict[str, Callable[[Any], str]] = {
    "text": _text,
    "json": _text,
    "integer": _number,
    "boolean": _boolean,
}


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
