"""Tokens as their servers describe them (RFC 6749, 5), with the time when they have to be replaced."""

import json
import math
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from ingestion.errors import RunFailed
from ingestion.http import Response
from ingestion.http.dates import any_date

# Long enough for a request to arrive before its token ends, and for clocks that differ.
_LEEWAY: Final = timedelta(seconds=60)
_LEEWAY_SHARE: Final = 0.1
_LONGEST: Final = timedelta(days=3650)
# RFC 6749, 5.2: an error's code; what else a server says may hold what it was sent.
_CODE: Final = re.compile(r"[a-z_]{1,60}")


class GrantRefused(RunFailed):
    """RFC 6749, 5.2, `invalid_grant`: what was to be exchanged for a token is spent, was revoked, or is too old."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """An access token, and the refresh token that gets the next one."""

    access: str = field(repr=False)
    refresh: str = field(default="", repr=False)
    # None: nobody knows, it is used until it is refused.
    replace_at: datetime | None = None

    def is_good(self, now: datetime) -> bool:
        return bool(self.access) and (self.replace_at is None or now < self.replace_at)


def read_token(response: Response, where: str, now: datetime) -> Token:
    """Return the token of a reply.

    Raises:
        GrantRefused: `credentials`, the server refuses what it was sent for a token.
        RunFailed: `credentials`, it refuses the client, or answers something else than a token.
    """
    try:
        reply = json.loads(response.body)
    except (ValueError, RecursionError):
        reply = None
    if not isinstance(reply, dict):
        raise RunFailed("credentials", f"{where} answered {response.status} and no JSON object")
    if response.status >= 300 or "error" in reply:
        code = reply.get("error")
        known = code if isinstance(code, str) and _CODE.fullmatch(code) else "no code that can be shown"
        failure = GrantRefused if known == "invalid_grant" else RunFailed
        raise failure("credentials", f"{where} answered {response.status}: {known}")
    access, refresh = reply.get("access_token"), reply.get("refresh_token")
    if not isinstance(access, str) or not access or str(reply.get("token_type", "bearer")).lower() != "bearer":
        raise RunFailed("credentials", f"{where} answered {response.status} without a bearer token")
    return Token(
        access=access,
        refresh=refresh if isinstance(refresh, str) else "",
        replace_at=replaced_at(reply.get("expires_in", reply.get("expires_at")), now),
    )


def replaced_at(expires: Any, now: datetime) -> datetime | None:
    """Return when a token is to be replaced: its end less a leeway; None when nobody knows its end.

    Args:
        expires: seconds as a number or text, or a date as RFC 9110 or ISO 8601 writes it.
    """
    lifetime = _lifetime(expires, now)
    if lifetime is None:
        return None
    leeway = max(_LEEWAY, lifetime * _LEEWAY_SHARE)
    # A token that lives for less than two leeways is used for half of its life.
    return now + lifetime - min(leeway, lifetime / 2)


def _lifetime(expires: Any, now: datetime) -> timedelta | None:
    if isinstance(expires, bool) or not isinstance(expires, int | float | str):
        return None
    try:
        seconds = float(expires)
    except OverflowError:
        seconds = math.inf
    except ValueError:
        return _until(str(expires), now)
    if math.isnan(seconds) or seconds <= 0:
        return None
    # A number of seconds since 1970 is a date as well: no token lives for thirty years.
    if seconds > 1_000_000_000:
        seconds = max(seconds - now.timestamp(), 0)
    return timedelta(seconds=min(seconds, _LONGEST.total_seconds()))


def _until(text: str, now: datetime) -> timedelta | None:
    at = any_date(text)
    return None if at is None else min(max(at - now, timedelta(0)), _LONGEST)
