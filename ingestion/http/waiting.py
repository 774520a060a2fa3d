"""How long to wait before a request is tried again. Pure, no I/O."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from ingestion.http.values import TransientFailure

# A remote that asks for more than this is waited for without a worker.
LONGEST_SLEEP: Final = timedelta(minutes=1)
# The longest that a remote is believed; mistaken clocks and dates in the year 9999 are common.
LONGEST_WAIT: Final = timedelta(days=1)
_SECONDS: Final = re.compile(r"([0-9]+)(?:\.([0-9]+))?")


def backoff(error: Exception) -> bool | timedelta:
    """Tell stamina whether to try again, and when the remote said so, how long to wait."""
    if not isinstance(error, TransientFailure):
        return False
    if not error.wait:  # a Retry-After of 0 s is no reason to hammer
        return True
    return error.wait if error.wait <= LONGEST_SLEEP else False


def retry_after(value: str | None) -> timedelta | None:
    """Read a Retry-After header, seconds or a date (RFC 9110, 10.2.3); None when absent or unreadable.

    Fractions of seconds and dates as ISO 8601 writes them are in no RFC, and sent nevertheless.
    """
    if value is None:
        return None
    if seconds := _SECONDS.fullmatch(value):
        # Python refuses to read numbers of thousands of digits.
        whole, fraction = seconds[1][:9], seconds[2] or "0"
        return min(timedelta(seconds=float(f"{whole}.{fraction[:6]}")), LONGEST_WAIT)
    at = _moment(value)
    return None if at is None else min(max(at - datetime.now(UTC), timedelta(0)), LONGEST_WAIT)


def _moment(value: str) -> datetime | None:
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            at = read(value)
        except (ValueError, OverflowError):
            continue
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    return None
