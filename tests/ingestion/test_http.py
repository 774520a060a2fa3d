"""The HTTP client against a server with every bad habit: a response is whole, or there is none."""

import gzip
import itertools
import logging
import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.errors import ConfigurationError, RetryLater, RunFailed
from ingestion.http import LONGEST_WAIT, Client, Limits, Retry
from ingestion.http.targets import Targets
from ingestion.http.waiting import retry_after
from tests.remote import Raw, Remote, Reply, in_turn

QUICK = Retry(attempts=3, wait_initial=timedelta(milliseconds=1), wait_max=timedelta(milliseconds=2))
SHORT = Limits(
    silence=timedelta(seconds=0.2), deadline=timedelta(seconds=0.6), connect=timedelta(seconds=5), bytes_per_second=0
)
# Far beyond what the limits above allow, also on a loaded machine.
PATIENCE_SECONDS = 20
GOOD = Reply(body=b'[{"id":1}]')


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


# A good response


def test_returns_status_headers_and_body():
    reply = Reply(203, b"\x00\xffbody", {"X-Total-Count": "7", "ETag": '"a"'})
    with Remote(reply) as remote:
        response = get(remote.url)
    assert (response.status, response.body) == (203, b"\x00\xffbody")
    assert (response.headers["x-total-count"], response.headers["etag"]) == ("7", '"a"')
    assert response.is_delimited


def test_asks_for_compression_and_sends_the_feed_s_headers():
    with Remote(GOOD) as remote:
        get(remote.url, headers={"Authorization": "Bearer x"})
    headers = remote.requests[0].headers
    assert headers["accept-encoding"] == "gzip, deflate"
    assert headers["authorization"] == "Bearer x"
    assert headers["user-agent"] == "ingestion-worker"


def test_parameters_join_the_query_of_the_url():
    with Remote(GOOD) as remote:
        get(f"{remote.url}/photos?key=a%2Fb&page=1", {"page": "2", "q": "ä&b="})
        get(f"{remote.url}/photos?key=a%2Fb&page=1", {})
    assert remote.queries == [{"key": "a/b", "page": "2", "q": "ä&b="}, {"key": "a/b", "page": "1"}]


def test_a_body_is_posted_and_posted_again_after_a_failure():
    answer = in_turn(Reply(503), GOOD)
    with Remote(answer) as remote, Client(retry=QUICK, headers={"X-Feed": "a", "Content-Type": "text/plain"}) as client:
        headers = {"Content-Type": "application/json"}
        response = client.request(
            "POST", f"{remote.url}/find", {"page": "2"}, body=b'{"q":"\xc3\xa4"}', headers=headers
        )
    assert response.body == GOOD.body
    assert len(remote.requests) == 2
    for request in remote.requests:
        assert (request.method, request.path, request.query) == ("POST", "/find", {"page": "2"})
        assert request.body == b'{"q":"\xc3\xa4"}'
        assert (request.headers["content-type"], request.headers["x-feed"]) == ("application/json", "a")


def test_a_request_that_is_refused_says_its_method():
    with Remote(Reply(400)) as remote, Client(retry=QUICK) as client, pytest.raises(RunFailed) as raised:
        client.request("POST", f"{remote.url}/find?key=secret", {}, body=b"secret")
    assert raised.value.message == f"POST {remote.url}/find answered 400 Bad Request"


def test_a_status_may_be_an_answer():
    with Remote(Reply(500, b"fault")) as remote, Client(retry=QUICK) as client:
        response = client.request("POST", remote.url, {}, body=b"", answers=(500,))
        assert (response.status, response.body, len(remote.requests)) == (500, b"fault", 1)
        with pytest.raises(RetryLater):
            client.request("POST", remote.url, {}, body=b"", answers=(400,))


def test_one_connection_serves_many_requests():
    with Remote(GOOD) as remote, Client() as client:
        for _ in range(5):
            client.get(remote.url, {})
        assert remote.accepted == 1


def test_addresses_that_are_other_ones_each_time_are_not_remembered_for_ever():
    targets = Targets((), ())
    for number in range(250):
        url = f"http://example.org/?page={number}"
        assert targets.find("GET", url, {}) == (url, "GET http://example.org/", True)
    assert len(targets._bases) <= 100


def test_ignores_the_proxies_of_the_environment(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Remote(GOOD) as remote:
        assert get(remote.url).body == GOOD.body


@pytest.mark.parametrize("body", [b"", b"x" * 3_000_000], ids=["empty", "large"])
def test_bodies_of_any_size_arrive_whole(body):
    with Remote(Reply(body=body)) as remote:
        assert get(remote.url).body == body


def test_a_chunked_body_arrives_whole():
    blocks = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n", b"2\r\nde\r\n", b"0\r\n\r\n"]
    with Remote(Raw(blocks)) as remote:
        response = get(remote.url)
    assert (response.body, response.is_delimited) == (b"abcde", True)


def test_a_body_that_ends_with_the_connection_is_marked():
    with Remote(Raw([b"HTTP/1.1 200 OK\r\n\r\n", b"abc"])) as remote:
        response = get(remote.url)
    assert (response.body, response.is_delimited) == (b"abc", False)


# Retries


@pytest.mark.parametrize("status", [408, 425, 429, 500, 501, 502, 503, 504, 507, 520, 522, 529, 599])
def test_a_transient_status_is_tried_again_and_then_postponed(status):
    with Remote(in_turn(Reply(status), Reply(status), GOOD)) as remote:
        assert get(remote.url).body == GOOD.body
        assert len(remote.requests) == 3
    postponed, tries = gives_up(Reply(status))
    assert tries == 3
    assert f"answered {status}" in str(postponed)
    assert "(3 tries)" in str(postponed)
    assert postponed.wait is None


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 406, 409, 410, 413, 414, 418, 422, 426, 431, 451])
def test_a_refusal_fails_at_once(status):
    failed = fails(Reply(status, b"because"))
    assert failed.code == "http_status"
    assert f"answered {status}" in str(failed)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_redirects_are_not_followed(status):
    with Remote(GOOD) as elsewhere:
        failed = fails(Reply(status, headers={"Location": elsewhere.url}))
        assert elsewhere.requests == []
    assert failed.code == "http_status"


def test_a_part_that_nobody_asked_for_is_refused():
    failed = fails(Reply(206, b"[]", {"Content-Range": "bytes 0-1/100"}))
    assert (failed.code, "206" in str(failed)) == ("http_status", True)


def test_one_attempt_is_one_try():
    postponed, tries = gives_up(Reply(500), retry=Retry(attempts=1))
    assert tries == 1
    assert "(1 try)" in str(postponed)


def test_a_closed_port_is_tried_again_and_then_postponed():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/photos"
        with pytest.raises(RetryLater, match=r"ConnectError.*\(3 tries\)"):
            get(url)


def test_a_host_that_does_not_exist_is_tried_again():
    with pytest.raises(RetryLater, match="ConnectError"):
        get("http://no-such-host.invalid/")


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "broken",
    [
        Raw([]),
        Raw([], end="reset"),
        Raw([b"HTTP/1.1 200 OK\r\nContent-Le"]),
        Raw([b"SSH-2.0-OpenSSH_9\r\n"]),
        Raw([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Length: 11\r\n\r\n"]),
        Raw([HEAD + b"Content-Length: 10\r\n\r\n", b"[]"]),
        Raw([HEAD + b"Content-Length: 10\r\n\r\n", b"[]"], end="reset"),
        Raw([HEAD + b"Content-Length: 10\r\n\r\n"]),
        Raw([HEAD + b"Content-Length: many\r\n\r\n[]"]),
        Raw([CHUNKED, b"2\r\n[]\r\n"]),
        Raw([CHUNKED, b"2\r\n[]\r\n"], end="reset"),
        Raw([CHUNKED, b"ff\r\n[]"]),
        Raw([CHUNKED, b"2\r\n[]\r\n0\r\n"]),
        Raw([CHUNKED, b"zz\r\n[]\r\n0\r\n\r\n"]),
        Raw([HEAD + b"X-Large: " + b"x" * 200_000 + b"\r\n\r\n"]),
    ],
    ids=lambda raw: f"{b''.join(raw.blocks)[:80]!r}-{raw.end}",
)
def test_a_broken_response_is_tried_again_and_never_taken_for_whole(broken):
    _, tries = gives_up(broken)
    assert tries == 3
    with Remote(in_turn(broken, broken, GOOD)) as remote:
        assert get(remote.url).body == GOOD.body


@pytest.mark.parametrize(
    "long",
    [
        Raw([HEAD + b"Content-Length: 2\r\nConnection: close\r\n\r\n", b"[]\n, more"]),
        Raw([HEAD + b"Content-Length: 2\r\n\r\n[]HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"]),
        Raw([CHUNKED + b"2\r\n[]\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"]),
    ],
    ids=["close", "a second response", "chunked"],
)
def test_a_body_longer_than_its_length_is_tried_again_and_never_taken(long):
    postponed, tries = gives_up(long)
    assert tries == 3
    assert "more behind the end" in str(postponed)


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


def trickle(start, block):
    def blocks():
        yield start
        while True:
            time.sleep(0.05)
            yield block

    return lambda request: Raw(blocks())


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


def test_a_deadline_that_was_kept_has_no_effect_on_what_comes_later():
    with Remote(GOOD) as remote, Client(limits=SHORT) as client:
        ends_at = time.monotonic() + 1.5
        while time.monotonic() < ends_at:
            assert client.get(remote.url, {}).body == GOOD.body
            time.sleep(0.1)
        assert remote.accepted == 1


# Size and encoding


def test_the_cap_on_a_body_is_exact():
    limits = Limits(body_bytes=1000)
    with Remote(Reply(body=b"x" * 1000)) as remote:
        assert len(get(remote.url, limits=limits).body) == 1000
    failed = fails(Reply(body=b"x" * 1001), limits=limits)
    assert failed.code == "response_too_large"
    assert "more than 1000 bytes" in str(failed)


def test_an_endless_body_ends_at_the_cap():
    blocks = itertools.chain([CHUNKED], itertools.repeat(b"1000\r\n" + b"x" * 4096 + b"\r\n"))
    assert fails(Raw(blocks), limits=Limits(body_bytes=100_000)).code == "response_too_large"


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "x-unknown", "gzip, gzip, gzip"])
def test_a_coding_that_nobody_asked_for_is_refused(encoding):
    failed = fails(Reply(body=gzip.compress(b"[]"), headers={"Content-Encoding": encoding}))
    assert failed.code == "content_encoding"
    assert encoding in str(failed)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", "identity, gzip"])
def test_a_compressed_body_is_decoded(encoding):
    with Remote(Reply(body=gzip.compress(GOOD.body), headers={"Content-Encoding": encoding})) as remote:
        assert get(remote.url).body == GOOD.body


def test_a_compressed_body_that_was_cut_is_tried_again():
    whole = gzip.compress(b"[" + b" " * 100 + b"]")
    cut = Reply(body=whole[:-1], headers={"Content-Encoding": "gzip"})
    with Remote(in_turn(cut, Reply(body=whole, headers={"Content-Encoding": "gzip"}))) as remote:
        assert get(remote.url).body.strip() == b"[" + b" " * 100 + b"]"
        assert len(remote.requests) == 2
    assert "gzip data end too early" in str(gives_up(cut)[0])


def test_a_bomb_is_refused_by_size_and_by_ratio():
    bomb = Reply(body=gzip.compress(b" " * 20_000_000), headers={"Content-Encoding": "gzip"})
    assert fails(bomb).code == "compression_ratio"
    assert fails(bomb, limits=Limits(body_bytes=1_000_000)).code == "response_too_large"
    with Remote(bomb) as remote:
        assert len(get(remote.url, limits=Limits(ratio=2000)).body) == 20_000_000


def test_a_slow_body_ends_at_the_least_rate():
    limits = Limits(silence=timedelta(seconds=0.3), bytes_per_second=1000)
    postponed, _ = gives_up(trickle(CHUNKED, b"1\r\n \r\n"), limits=limits, retry=Retry(attempts=1))
    assert "are fewer than 1000 a second" in str(postponed)


@pytest.mark.parametrize("encoding", ["identity", " Identity", ""])
def test_no_encoding_may_be_said(encoding):
    with Remote(Reply(body=b"[]", headers={"Content-Encoding": encoding})) as remote:
        assert get(remote.url).body == b"[]"


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
    assert retry_after(text) == wait


@given(st.text(max_size=40) | st.from_regex(r"(\w{3}, )?\d+ \w{3} \d+ \d+:\d+:\d+ ([+-]\d+|GMT)", fullmatch=True))
def test_whatever_a_header_says_it_is_a_bounded_wait_or_none(text):
    wait = retry_after(text)
    assert wait is None or timedelta(0) <= wait <= LONGEST_WAIT


# Secrets

SECRET = "hush-9f8e7d"


@pytest.fixture
def logged(caplog):
    """Collect everything that any library logs, as the project's settings let it through."""
    caplog.set_level(logging.DEBUG)
    return caplog


@pytest.mark.parametrize(
    "answer",
    [
        GOOD,
        Reply(500),
        Reply(404),
        Reply(302, headers={"Location": "/"}),
        Raw([]),
        Raw([HEAD + b"Content-Length: 9\r\n\r\n"]),
    ],
    ids=["good", "500", "404", "302", "no answer", "cut"],
)
def test_no_secret_of_the_url_or_a_header_is_shown(answer, logged):
    with Remote(answer) as remote:
        host = remote.url.removeprefix("http://")
        url = f"http://{SECRET}-user:{SECRET}-password@{host}/photos?key={SECRET}#{SECRET}"
        message = ""
        try:
            get(url, {"token": SECRET}, headers={"X-Api-Key": SECRET})
        except (RetryLater, RunFailed) as error:
            message = f"{error} {error!r} {error.__cause__!r} {error.__context__!r}"
    assert remote.requests[0].headers["x-api-key"] == SECRET
    assert remote.queries[0] == {"key": SECRET, "token": SECRET}
    shown = message + logged.text + repr([record.__dict__ for record in logged.records])
    assert "/photos" in shown
    assert SECRET not in shown


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{SECRET}/x@host/photos",
        f"http://user:{SECRET}@[::1/photos",
        f"user:{SECRET}@host/photos",
        f"//user:{SECRET}@host/photos",
        f"ftp://user:{SECRET}@host/photos",
        f"http://user:{SECRET}@/photos",
        f"http://host\n/{SECRET}",
        f"http://a..b/photos?key={SECRET}",
        f"/photos?key={SECRET}",
        f"photos-{SECRET}",
        "http://",
        "",
    ],
)
def test_a_url_that_cannot_be_requested_is_a_mistake_of_the_feed_and_not_shown(url, logged):
    with pytest.raises(ConfigurationError) as raised:
        get(url, {"page": "1"})
    error = raised.value
    assert "expected http://host/path" in str(error)
    assert SECRET not in f"{error} {error!r} {error.__cause__!r} {logged.text}"
    assert error.__suppress_context__


@pytest.mark.parametrize("value", ["\n", "\r\nX-Evil: 1", "\x00", "é", " ", "\t", "\x7f"])
def test_a_header_that_cannot_be_sent_is_a_mistake_of_the_feed_and_not_shown(value, logged):
    with Remote(GOOD) as remote:
        with pytest.raises(ConfigurationError, match="header X-Api-Key") as raised:
            get(remote.url, headers={"X-Api-Key": SECRET + value})
        assert remote.requests == []
    assert SECRET not in f"{raised.value} {raised.value!r} {logged.text}"


@pytest.mark.parametrize("value", ["", "x", "Bearer a.b-c_d~e+f/g==", 'W/"tag"', "two words", "tab\tinside"])
def test_usual_header_values_are_sent(value):
    with Remote(GOOD) as remote:
        get(remote.url, headers={"X-Value": value})
    assert remote.requests[0].headers["x-value"] == value
