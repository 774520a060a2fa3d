"""Dates in headers, and by whose clock they are read. Pure but for the clock, no I/O."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def http_date(text: str) -> datetime | None:
    """Read a date as HTTP writes it (RFC 9110, 5.6.7); None when it is none."""
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def any_date(text: str) -> datetime | None:
    """Read a date as HTTP writes it, or as ISO 8601 does, which is in no RFC of HTTP and sent nevertheless."""
    if (at := http_date(text)) is not None:
        return at
    try:
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def sent_at(headers: Mapping[str, str]) -> datetime:
    """Return when a response was sent, by the remote's own clock where it shows it (RFC 9110, 6.6.1), else by ours.

    The remote's dates are compared with this: its clock may be an hour off.
    """
    return http_date(headers.get("date", "")) or datetime.now(UTC)
