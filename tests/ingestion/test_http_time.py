"""How long the HTTP client waits: for a response that does not end, and as long as a remote asks."""

import itertools
import socket
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.errors import RetryLater
from ingestion.http import LONGEST_WAIT, Client, Retry
from ingestion.http.waiting import retry_after
from tests.ingestion.http_getting import CHUNKED, GOOD, HEAD, SHORT, get, gives_up, trickle
from tests.remote import Raw, Remote, Reply, in_turn

# Time


@pytest.mark.parametrize(
    "silent",
    [
        Raw([], end="silence"),
        Raw([b"HTTP/1.1 200 OK\r\nContent-"], end="silence"),
        Raw([HEAD + b"Content-Length: 10\r\n\r\n[]"], end="silence"),
        Raw([CHUNKED + b"2\r\n[]\r\n"], end="silence"),
        Raw([HEAD + b"\r\n[]"], end="silence"),
    ],
    ids=lambda raw: repr(b"".join(raw.blocks)[:60]),
)
def test_a_server_that_falls_silent_is_left(silent):
    postponed, tries = gives_up(silent, limits=SHORT, retry=Retry(attempts=1))
    assert tries == 1
    assert "ReadTimeout" in str(postponed)


@pytest.mark.parametrize(
    "answer",
    [
        trickle(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
        trickle(b"HTTP/1.1 200 OK\r\n", b"X-More: x\r\n"),
        trickle(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
        trickle(HEAD + b"Content-Length: 1000000\r\n\r\n", b" "),
        trickle(CHUNKED, b"1\r\n \r\n"),
        trickle(HEAD + b"\r\n", b" "),
    ],
    ids=["header", "headers", "continue", "length", "chunked", "until closed"],
)
def test_a_trickle_ends_at_the_deadline(answer):
    postponed, tries = gives_up(answer, limits=SHORT, retry=Retry(attempts=1))
    assert tries == 1
    assert "not complete after 0.6 s" in str(postponed)


def test_the_client_goes_on_after_a_deadline():
    slow = Raw(itertools.chain([HEAD + b"\r\n"], slowly(b" ", times=100)))
    with Remote(in_turn(slow, GOOD)) as remote:
        assert get(remote.url, limits=SHORT).body == GOOD.body


def slowly(block, *, times):
    for _ in range(times):
        time.sleep(0.05)
        yield block


# As long as a server that nobody gives up goes on, and the least that anything below would take without a deadline.
ENDLESS_SECONDS = 10


@pytest.fixture
def resolving(monkeypatch):
    """Answer look-ups of remote.test slowly, with the addresses that are given."""
    real = socket.getaddrinfo

    def patch(seconds, *addresses):
        def getaddrinfo(host, port, *args, **options):
            if host != "remote.test":
                return real(host, port, *args, **options)
            time.sleep(seconds)
            return [found for address in addresses for found in real(address, port, *args, **options)]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return patch


def given_up_within(url, seconds, **options):
    started = time.monotonic()
    with pytest.raises(RetryLater, match=r"not complete after 0\.6 s"):
        get(url, retry=Retry(attempts=1), **options)
    assert time.monotonic() - started < seconds


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nX-Slow: ", HEAD + b"\r\n"], ids=["header", "body"])
def test_a_deadline_that_passes_while_a_name_is_looked_up_ends_the_trickle_behind_it(resolving, start):
    resolving(0.8, "127.0.0.1")
    trickle = slowly(b"x", times=ENDLESS_SECONDS * 20)
    with Remote(Raw(itertools.chain([start], trickle))) as remote:
        given_up_within(remote.url.replace("127.0.0.1", "remote.test"), ENDLESS_SECONDS / 2, limits=SHORT)


def test_no_further_address_is_tried_after_the_deadline(resolving):
    resolving(0, *(f"127.0.0.{number}" for number in range(1, 101)))
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("0.0.0.0", 0), backlog=0))
        port = full.getsockname()[1]
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        limits = replace(SHORT, connect=timedelta(seconds=0.1))
        given_up_within(f"http://remote.test:{port}", ENDLESS_SECONDS / 2, limits=limits)


def test_a_body_that_the_remote_never_reads_is_given_up_at_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        limits = replace(SHORT, silence=timedelta(seconds=ENDLESS_SECONDS))
        started = time.monotonic()
        with (
            Client(limits=limits, retry=Retry(attempts=1)) as client,
            pytest.raises(RetryLater, match=r"not complete after 0\.6 s"),
        ):
            client.request("POST", f"http://127.0.0.1:{deaf.getsockname()[1]}", {}, body=bytes(20_000_000))
        assert time.monotonic() - started < ENDLESS_SECONDS / 2


def test_a_deadline_that_was_kept_has_no_effect_on_what_comes_later():
    with Remote(GOOD) as remote, Client(limits=SHORT) as client:
        ends_at = time.monotonic() + 1.5
        while time.monotonic() < ends_at:
            assert client.get(remote.url, {}).body == GOOD.body
            time.sleep(0.1)
        assert remote.accepted == 1


# Retry-After


@pytest.mark.parametrize("status", [429, 503])
def test_waits_as_long_as_the_remote_asks(status):
    asked_to_wait = Reply(status, headers={"Retry-After": "1"})
    with Remote(in_turn(asked_to_wait, GOOD)) as remote:
        started = time.monotonic()
        assert get(remote.url).body == GOOD.body
        assert time.monotonic() - started >= 1


def test_waits_until_the_date_the_remote_names():
    # Two seconds ahead, because the header has no fractions.
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    asked_to_wait = Reply(503, headers={"Retry-After": format_datetime(at, usegmt=True)})
    with Remote(in_turn(asked_to_wait, GOOD)) as remote:
        assert get(remote.url).body == GOOD.body
    assert datetime.now(UTC) >= at


def test_a_long_wait_is_not_slept_through():
    postponed, tries = gives_up(Reply(429, headers={"Retry-After": "61"}))
    assert tries == 1
    assert postponed.wait == timedelta(seconds=61)
    assert "(1 try)" in str(postponed)


def test_a_date_far_away_is_not_slept_through():
    at = datetime.now(UTC) + timedelta(minutes=10)
    postponed, tries = gives_up(Reply(503, headers={"Retry-After": format_datetime(at, usegmt=True)}))
    assert tries == 1
    assert timedelta(minutes=9) < postponed.wait <= timedelta(minutes=10)


def test_a_short_wait_that_did_not_help_is_passed_on():
    postponed, tries = gives_up(Reply(429, headers={"Retry-After": "1"}), retry=Retry(attempts=2))
    assert tries == 2
    assert postponed.wait == timedelta(seconds=1)


def test_a_wait_of_nothing_does_not_hammer():
    retry = Retry(attempts=2, wait_initial=timedelta(seconds=0.5), wait_max=timedelta(seconds=0.5))
    started = time.monotonic()
    gives_up(Reply(429, headers={"Retry-After": "0"}), retry=retry)
    assert time.monotonic() - started >= 0.5


@pytest.mark.parametrize("off", [timedelta(hours=-1), timedelta(hours=1)], ids=["an hour slow", "an hour fast"])
@pytest.mark.parametrize("written", [lambda at: format_datetime(at, usegmt=True), datetime.isoformat], ids=["", "iso"])
def test_a_date_is_one_of_the_remote_s_own_clock(off, written):
    now = (datetime.now(UTC) + off).replace(microsecond=0)
    headers = {"Date": format_datetime(now, usegmt=True), "Retry-After": written(now + timedelta(minutes=10))}
    for status in (429, 503):
        postponed, tries = gives_up(Reply(status, headers=headers))
        assert (postponed.wait, tries) == (timedelta(minutes=10), 1)


def test_a_date_that_the_remote_s_clock_has_passed_is_no_wait():
    now = datetime.now(UTC) + timedelta(hours=1)
    headers = {"Date": format_datetime(now, usegmt=True), "Retry-After": format_datetime(now, usegmt=True)}
    with Remote(in_turn(Reply(503, headers=headers), GOOD)) as remote:
        assert get(remote.url).body == GOOD.body


@pytest.mark.parametrize("date", ["", "soon", "Mon, 32 Foo 99999"])
def test_without_a_clock_of_the_remote_s_the_worker_s_own_counts(date):
    at = datetime.now(UTC) + timedelta(minutes=10)
    wait = retry_after({"retry-after": format_datetime(at, usegmt=True), "date": date})
    assert timedelta(minutes=9) < wait <= timedelta(minutes=10)


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        (None, None),
        ("0", timedelta(0)),
        ("7", timedelta(seconds=7)),
        ("86400", timedelta(days=1)),
        ("86401", LONGEST_WAIT),
        ("9" * 5000, LONGEST_WAIT),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_WAIT),
        ("Wed, 21 Oct 2015 07:28:00 GMT", timedelta(0)),
        ("Wed, 21 Oct 2015 07:28:00 -0000", timedelta(0)),
        ("Wednesday, 21-Oct-15 07:28:00 GMT", timedelta(0)),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", timedelta(seconds=1.5)),
        ("0.25", timedelta(seconds=0.25)),
        ("9" * 5000 + ".5", LONGEST_WAIT),
        ("9999-12-31T23:59:59Z", LONGEST_WAIT),
        ("2015-10-21T07:28:00", timedelta(0)),
        ("1.", None),
        (".5", None),
        ("1.5.2", None),
        ("1e9", None),
        ("5, 10", None),
        ("٣", None),
        ("²", None),
        ("Mon, 32 Foo 99999", None),
    ],
)
def test_reads_seconds_and_dates(text, wait):
    assert retry_after({} if text is None else {"retry-after": text}) == wait


@given(st.text(max_size=40) | st.from_regex(r"(\w{3}, )?\d+ \w{3} \d+ \d+:\d+:\d+ ([+-]\d+|GMT)", fullmatch=True))
def test_whatever_a_header_says_it_is_a_bounded_wait_or_none(text):
    wait = retry_after({"retry-after": text, "date": text})
    assert wait is None or timedelta(0) <= wait <= LONGEST_WAIT
