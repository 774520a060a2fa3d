"""How long to wait before a request is tried again. Pure, no I/O."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from ingestion.http.values import TransientFailure

# A remote that asks for more than this is waited for without a worker.
LONGEST_SLEEP: Final = timedelta(minutes=1)
# The longest that a remote is believed; mistaken clocks and dates in the year 9999 are common.
LONGEST_WAIT: Final = timedelta(days=1)


def backoff(error: Exception) -> bool | timedelta:
    """Tell stamina whether to try again, and when the remote said so, how long to wait."""
    if not isinstance(error, TransientFailure):
        return False
    if not error.wait:  # a Retry-After of 0 s is no reason to hammer
        return True
    return error.wait if error.wait <= LONGEST_SLEEP else False


def retry_after(value: str | None) -> timedelta | None:
    """Read a Retry-After header, seconds or a date (RFC 9110, 10.2.3); None when absent or unreadable."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        # Python refuses to read numbers of thousands of digits.
        return min(timedelta(seconds=int(value[:9])), LONGEST_WAIT)
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return min(max(at - datetime.now(UTC), timedelta(0)), LONGEST_WAIT)
