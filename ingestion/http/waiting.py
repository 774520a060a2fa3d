"""How long to wait before a request is tried again. Pure, no I/O."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from ingestion.errors import RetryLater
from ingestion.http.dates import any_date, sent_at
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


def given_up(failure: TransientFailure, tries: int) -> RetryLater:
    """Return what a failure is that has outlasted so many tries."""
    said = f"{failure} ({tries} {'try' if tries == 1 else 'tries'})"
    return RetryLater(said, wait=failure.wait, blames=failure.blames)


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Return how long a response's Retry-After asks to wait (RFC 9110, 10.2.3); None when absent or unreadable."""
    return wait_in(headers.get("retry-after", ""), headers)


def wait_in(text: str, headers: Mapping[str, str]) -> timedelta | None:
    """Read how long to wait, in seconds or until a date, which is of the clock of whoever sent these headers.

    Fractions of seconds are in no RFC, and sent nevertheless.
    """
    if seconds := _SECONDS.fullmatch(text):
        # Python refuses to read numbers of thousands of digits.
        whole, fraction = seconds[1][:9], seconds[2] or "0"
        return min(timedelta(seconds=float(f"{whole}.{fraction[:6]}")), LONGEST_WAIT)
    at = any_date(text)
    return None if at is None else wait_until(at, headers)


def wait_until(at: datetime, headers: Mapping[str, str]) -> timedelta:
    """Return how long it is until a moment of the clock of whoever sent these headers."""
    return min(max(at - sent_at(headers), timedelta(0)), LONGEST_WAIT)
