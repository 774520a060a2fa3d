"""How values are shown: times in UTC, durations, numbers, states, JSON and raw bytes."""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from ingestion.models import State

NOTHING: Final = "–"
# A line of a list. The whole text is on the row's own page.
SHORT: Final = 100
# What a browser renders without effort; the stored bytes may be more.
RAW_SHOWN_BYTES: Final = 16 * 1024


def badge(state: str) -> SafeString:
    """Return a state as a coloured badge; each state has its colours in admin.css."""
    return format_html('<span class="state state-{}">{}</span>', state, State(state).label.lower())


def moment(at: datetime | None) -> str:
    """Return a time in UTC to the second."""
    if at is None:
        return NOTHING
    return format_html('<time datetime="{}">{}</time>', at.isoformat(), f"{at:%Y-%m-%d %H:%M:%S}")


def duration(length: timedelta | None) -> str:
    """Return a duration in the two units that matter."""
    if length is None:
        return NOTHING
    seconds = max(length.total_seconds(), 0.0)
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    (high, low), units = (divmod(whole, 60), "min s") if whole < 3600 else (divmod(whole // 60, 60), "h min")
    unit, small_unit = units.split()
    return f"{high} {unit} {low:02} {small_unit}" if low else f"{high} {unit}"


def number(value: int | None) -> str:
    """Return a count with its thousands separated."""
    return NOTHING if value is None else f"{value:,}"


def short(text: str, length: int = SHORT) -> str:
    """Return the first line of a text, cut to a list's width; the whole text is its tooltip."""
    line = text.strip().partition("\n")[0]
    cut = line if len(line) <= length else line[: length - 1].rstrip() + "…"
    return cut if cut == text else format_html('<span title="{}">{}</span>', text[:1000], cut)


def two_lines(first: str, second: str) -> SafeString:
    """Return a cell's two lines, the second one less prominent."""
    return format_html('{}<br><span class="quiet">{}</span>', first, second)


def verbatim(text: str) -> str:
    """Return a text with its own line breaks."""
    return _pre(text) if text else NOTHING


def table(heads: Iterable[str], rows: Iterable[Iterable[str]], *, kind: str) -> SafeString:
    """Return a small table; `kind` is its class in admin.css."""
    head = format_html_join("", '<th scope="col">{}</th>', ((text,) for text in heads))
    cells = (format_html_join("", "<td>{}</td>", ((cell,) for cell in row)) for row in rows)
    body = format_html_join("", "<tr>{}</tr>", ((row,) for row in cells))
    return format_html('<table class="{}"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>', kind, head, body)


def json_block(value: Any) -> str:
    """Return a JSON value, indented."""
    return NOTHING if value is None else verbatim(json.dumps(value, indent=2, ensure_ascii=False))


def raw_block(raw: bytes, *, limit: int = RAW_SHOWN_BYTES) -> SafeString:
    """Return the first bytes of a record as text.

    What is not UTF-8, not printable or could reorder the line (bidirectional marks) becomes an escape that is marked,
    so that it can be told from the same characters in the record.
    """
    text = raw[:limit].decode("utf-8", "surrogateescape")
    pieces = format_html_join("", "{}", ((_piece(text[start:end]),) for start, end in _stretches(text)))
    return _pre(pieces)


def _pre(text: str) -> SafeString:
    # HTML drops the first line break of a <pre>: this one, so that a text's own stays.
    return format_html('<pre class="verbatim">\n{}</pre>', text)


def _stretches(text: str) -> list[tuple[int, int]]:
    """Cut a text where it changes between what is shown as it is and what is escaped."""
    cuts = [0, *(at for at in range(1, len(text)) if _is_plain(text[at]) != _is_plain(text[at - 1])), len(text)]
    return list(pairwise(cuts))


def _piece(text: str) -> str:
    if not text or _is_plain(text[0]):
        return text
    return format_html('<span class="escape">{}</span>', "".join(map(_escaped, text)))


def _is_plain(character: str) -> bool:
    return character in "\n\t" or character.isprintable()


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that is not UTF-8, as surrogateescape keeps it (PEP 383)
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
