"""What a remote says of its rate limit: how long to ask for nothing once nothing is left of it. Pure, no I/O."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from ingestion.http.waiting import LONGEST_WAIT, retry_after, wait_in, wait_until

# How many requests are left, and when there will be more: drafts of the IETF's httpapi group up to 07, and their
# predecessors without a standard.
_PAIRS: Final = (
    ("ratelimit-remaining", ("ratelimit-reset",)),
    ("x-ratelimit-remaining", ("x-ratelimit-reset-after", "x-ratelimit-reset")),
    ("x-rate-limit-remaining", ("x-rate-limit-reset",)),
)
# From draft 08 on: `"name";r=0;t=30`. Before: `limit=100, remaining=0, reset=30`.
_FIELD: Final = "ratelimit"
_POLICY: Final = "ratelimit-policy"
NAMES: Final = (_FIELD, *(remaining for remaining, _ in _PAIRS))

_MEMBER: Final = re.compile(r'(?:"[^"]*"|[^",])+')
_NUMBER: Final = re.compile(r"\d{1,18}(\.\d{1,9})?")
# Numbers from these on are no lengths of time, but moments: seconds or milliseconds since 1970.
_MOMENT: Final = 1_000_000_000
_MOMENT_MS: Final = 1_000_000_000_000


def closed_for(headers: Mapping[str, str]) -> timedelta | None:
    """Return how long the remote will answer nothing more; None when something is left, or nobody knows.

    Moments are those of the remote's own clock, where it shows it.
    """
    waits = [_wait(reset, headers) for reset in _resets(headers)]
    known = [wait for wait in waits if wait is not None]
    return max(known, default=None)


def wait_asked_for(headers: Mapping[str, str]) -> timedelta | None:
    """Return how long a remote wants nothing more: as it says, or until there is more of its rate limit."""
    wait = retry_after(headers)
    return closed_for(headers) if wait is None else wait


def _resets(headers: Mapping[str, str]) -> Iterator[str]:
    """Yield what is said of when there will be more, of each limit of which nothing is left."""
    for remaining, resets in _PAIRS:
        if _is_nothing(headers.get(remaining)):
            yield next((headers[name] for name in resets if name in headers), "")
    if _FIELD not in headers:
        return
    members = [_parameters(member) for member in _MEMBER.findall(headers[_FIELD])]
    windows = [_parameters(member) for member in _MEMBER.findall(headers.get(_POLICY, ""))]
    together = {name: value for _, parameters in members for name, value in parameters.items()}
    if _is_nothing(together.get("remaining")):
        yield together.get("reset", "")
    for name, parameters in members:
        if _is_nothing(parameters.get("r")):
            lengths = (of["w"] for policy, of in windows if policy == name and "w" in of)
            yield parameters.get("t") or next(lengths, "")


def _parameters(member: str) -> tuple[str, dict[str, str]]:
    """Return the name of a limit and its parameters; of `name=value` alone no name."""
    pieces = [piece.strip() for piece in member.split(";")]
    pairs = (piece.split("=", 1) for piece in pieces if "=" in piece)
    return pieces[0] if "=" not in pieces[0] else "", {name.strip().lower(): value.strip() for name, value in pairs}


def _is_nothing(remaining: str | None) -> bool:
    if remaining is None:
        return False
    text = remaining.strip()
    # Some count on below nothing.
    return text.startswith("-") or (_NUMBER.fullmatch(text) is not None and float(text) < 1)


def _wait(reset: str, headers: Mapping[str, str]) -> timedelta | None:
    text = reset.strip()
    if not _NUMBER.fullmatch(text):
        return wait_in(text, headers)
    number = float(text)
    if number < _MOMENT:
        return min(timedelta(seconds=min(number, _MOMENT)), LONGEST_WAIT)
    seconds = number / 1_000 if number >= _MOMENT_MS else number
    try:
        return wait_until(datetime.fromtimestamp(seconds, UTC), headers)
    except (ValueError, OverflowError, OSError):
        return None
