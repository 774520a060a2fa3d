"""One GET, and what it ends with, for the tests of the HTTP client."""

import time
from datetime import timedelta

import pytest

from ingestion.errors import RetryLater, RunFailed
from ingestion.http import Client, Limits, Retry
from tests.remote import Raw, Remote, Reply

QUICK = Retry(attempts=3, wait_initial=timedelta(milliseconds=1), wait_max=timedelta(milliseconds=2))
SHORT = Limits(
    silence=timedelta(seconds=0.2), deadline=timedelta(seconds=0.6), connect=timedelta(seconds=5), bytes_per_second=0
)
# Far beyond what the limits above allow, also on a loaded machine.
PATIENCE_SECONDS = 20
GOOD = Reply(body=b'[{"id":1}]')
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def get(url, params=None, *, retry=QUICK, limits=Limits(), headers=None):  # noqa: B008 - a frozen value
    with Client(retry=retry, limits=limits, headers=headers or {}) as client:
        return client.get(url, params or {})


def gives_up(answer, **options):
    """Return the RetryLater, and how often the remote was asked."""
    with Remote(answer) as remote:
        started = time.monotonic()
        with pytest.raises(RetryLater) as raised:
            get(remote.url, **options)
        assert time.monotonic() - started < PATIENCE_SECONDS
    return raised.value, len(remote.requests)


def fails(answer, **options):
    with Remote(answer) as remote:
        with pytest.raises(RunFailed) as raised:
            get(remote.url, **options)
        assert len(remote.requests) == 1
    return raised.value


def trickle(start, block):
    def blocks():
        yield start
        while True:
            time.sleep(0.05)
            yield block

    return lambda request: Raw(blocks())
