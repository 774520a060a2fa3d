"""Budgets of requests that all processes share through Redis, and that each counts for itself while there is none.

Note [Windows]: what counts is what the remote sees, and it sees a request at some time between its start and the end of
its response. So a request takes one of as many places as the rate has, and gives it back one window after it has ended:
whichever two requests had the same place, the remote saw them at least a window apart, however slow the way there is.

What the remote says of its own limit only ever lowers a budget: when nothing is left of it, the budget is closed until
there is more, for everybody who shares it.
"""

import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final, Protocol

import redis
import structlog
from django.conf import settings

from ingestion.errors import ConfigurationError
from ingestion.http.ratelimits import NAMES, closed_for
from ingestion.http.values import Rate, TransientFailure
from ingestion.http.waiting import LONGEST_SLEEP

log = structlog.get_logger(__name__)

# How soon a place is looked for again that may become free at any time.
_POLL_SECONDS: Final = 0.02
# Redis' own clock, so that those of the machines may differ. Returns 0, or the milliseconds until a place is free, or
# less than nothing: those for which the budget is closed.
_TAKE: Final = """
local closed = redis.call('PTTL', KEYS[2])
if closed > 0 then return -closed end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) < tonumber(ARGV[1]) then
  redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[2] * 2)
  return 0
end
return redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] - now
"""
# One more than the window, as milliseconds are cut off.
_GIVE_BACK: Final = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZADD', KEYS[1], 'XX', now + ARGV[1] + 1, ARGV[2])
"""


class _Places(Protocol):
    def take(self, rate: Rate, held: float, token: str) -> float:
        """Take a place until it is given back, `held` seconds at most; else return the seconds until one is free.

        Less than nothing means the seconds for which the budget is closed.
        """

    def give_back(self, rate: Rate, token: str) -> None:
        """Let a place be free one window from now."""

    def close(self, rate: Rate, seconds: float) -> None:
        """Let nobody have a place for so long."""


@dataclass(frozen=True)
class _Shared:
    client: Any

    def take(self, rate: Rate, held: float, token: str) -> float:
        milliseconds = int(held * 1000)
        keys = _key(rate), _closed_key(rate)
        return int(self.client.eval(_TAKE, 2, *keys, rate.requests, milliseconds, token)) / 1000

    def give_back(self, rate: Rate, token: str) -> None:
        self.client.eval(_GIVE_BACK, 1, _key(rate), int(rate.within.total_seconds() * 1000), token)

    def close(self, rate: Rate, seconds: float) -> None:
        self.client.set(_closed_key(rate), 1, px=max(int(seconds * 1000), 1))


class _Own:
    def __init__(self) -> None:
        self._free_at: dict[Rate, dict[str, float]] = {}
        self._closed_until: dict[str, float] = {}
        self._lock = threading.Lock()

    def take(self, rate: Rate, held: float, token: str) -> float:
        now = time.monotonic()
        with self._lock:
            if self._closed_until.get(rate.name, 0) > now:
                return now - self._closed_until[rate.name]
            taken = {other: at for other, at in self._free_at.get(rate, {}).items() if at > now}
            self._free_at[rate] = taken
            if len(taken) < rate.requests:
                taken[token] = now + held
                return 0
            return min(taken.values()) - now

    def give_back(self, rate: Rate, token: str) -> None:
        with self._lock:
            self._free_at.setdefault(rate, {})[token] = time.monotonic() + rate.within.total_seconds()

    def close(self, rate: Rate, seconds: float) -> None:
        with self._lock:
            self._closed_until[rate.name] = time.monotonic() + seconds


_own: Final = _Own()


class Budget:
    """What one client may ask; `held` is the longest that one of its requests takes."""

    def __init__(self, rates: Sequence[Rate], held: timedelta) -> None:
        self._rates, self._held = rates, held
        for rate in rates:
            if rate.requests < 1 or rate.within < timedelta(milliseconds=1) or not rate.name:
                raise ConfigurationError(f"the rate {rate.name!r} needs a name, a request and a millisecond at least")
        self._places: _Places = _Shared(_connected(settings.BUDGETS_URL)) if rates else _own
        # Until when the remote answers nothing more; 0 where it has not said so.
        self._closed_until = 0.0

    @property
    def is_free(self) -> bool:
        """Whether a request needs no place and no wait."""
        return not self._rates and not self._closed_until

    def heed(self, headers: Mapping[str, str]) -> None:
        """Close the budget when a response says that nothing is left of the remote's own limit."""
        if not any(name in headers for name in NAMES):
            return
        if wait := closed_for(headers):
            seconds = wait.total_seconds()
            self._closed_until = time.monotonic() + seconds
            for rate in self._rates:
                with suppress(redis.RedisError, OSError):  # the others will be told by the remote
                    self._places.close(rate, seconds)

    @contextmanager
    def spent(self) -> Iterator[None]:
        """Wait for a place at each rate, and keep it while the request is under way.

        Raises:
            TransientFailure: no place will be free for longer than a worker should sleep.
        """
        taken: list[tuple[Rate, str]] = []
        self._wait_until_open()
        try:
            for rate in self._rates:
                taken.append((rate, self._take(rate)))  # noqa: PERF401 - one may raise after others were taken
            yield
        finally:
            for rate, token in taken:
                self._give_back(rate, token)

    def _wait_until_open(self) -> None:
        if self._closed_until:
            _sleep_closed(self._closed_until - time.monotonic())
            self._closed_until = 0.0

    def _take(self, rate: Rate) -> str:
        token = uuid.uuid4().hex
        while wait := self._asked(rate, token):
            longest = LONGEST_SLEEP.total_seconds()
            if wait < 0:
                _sleep_closed(-wait)
                continue
            if wait > longest and rate.within > LONGEST_SLEEP:
                raise TransientFailure(f"the budget {rate.name} is used up", wait=timedelta(seconds=wait))
            # The first place to be free may be that of a request that has not ended yet.
            time.sleep(min(wait, max(_POLL_SECONDS, rate.within.total_seconds() / 50)))
        return token

    def _asked(self, rate: Rate, token: str) -> float:
        held = (self._held + rate.within).total_seconds()
        try:
            return self._places.take(rate, held, token)
        except (redis.RedisError, OSError) as error:
            log.warning("no Redis for budgets; this process counts for itself", error=type(error).__name__)
            self._places = _own
            return self._places.take(rate, held, token)

    def _give_back(self, rate: Rate, token: str) -> None:
        with suppress(redis.RedisError, OSError):  # it becomes free by itself, later
            self._places.give_back(rate, token)


def _sleep_closed(seconds: float) -> None:
    if seconds > LONGEST_SLEEP.total_seconds():
        raise TransientFailure("nothing is left of the remote's rate limit", wait=timedelta(seconds=seconds))
    if seconds > 0:
        time.sleep(seconds)


def _closed_key(rate: Rate) -> str:
    return f"ingestion:budget:{rate.name}:closed"


def _key(rate: Rate) -> str:
    return f"ingestion:budget:{rate.name}:{rate.requests}:{rate.within.total_seconds():g}"


@lru_cache(maxsize=4)
def _connected(url: str) -> Any:
    return redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
