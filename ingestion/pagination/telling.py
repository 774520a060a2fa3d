"""What responses say about the collection: whether there is more, and how much there is in all."""

from collections.abc import Mapping
from typing import Any, Final

from ingestion.errors import RunFailed
from ingestion.pagination.protocols import Path, Received

# More records than anybody has; Python refuses to read numbers of thousands of digits.
_TOTAL_DIGITS: Final = 18
_TRUTHS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def has_more(received: Received, path: Path) -> bool | None:
    """Return whether the response says that more follows; None where it does not say.

    Raises:
        RunFailed: `has_more`, it says something that is neither yes nor no.
    """
    told = received.value(path) if path else None
    if told is None or isinstance(told, bool):
        return told
    truth = _TRUTHS.get(str(told).strip().lower()) if isinstance(told, str | int) else None
    if truth is None:
        raise RunFailed("has_more", f"{'.'.join(path)} is {told!r:.40}, expected true or false")
    return truth


def total_in_header(headers: Mapping[str, str], name: str) -> int | None:
    """Return the number in a header, None where there is no such header.

    Raises:
        RunFailed: `total`, it is no number.
    """
    text = headers.get(name.lower())
    return None if text is None else _total(name, text)


def total_in_body(received: Received, path: Path) -> int | None:
    """Return the number at a path of the body, a text of digits as well; None where it is missing or null.

    Raises:
        RunFailed: `total`, it is no number, or negative.
    """
    told = received.value(path)
    if told is None:
        return None
    if isinstance(told, str):
        told = told.strip()
    return _total(".".join(path), told if isinstance(told, str) else _digits(told))


def _digits(told: Any) -> str:
    is_whole = isinstance(told, int | float) and not isinstance(told, bool) and told == told // 1
    return f"{told:.0f}" if is_whole else str(told)[:60]


def _total(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _TOTAL_DIGITS):
        raise RunFailed("total", f"{name} is {text[:40]!r}, expected a number of records")
    return int(text)
