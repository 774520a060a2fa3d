"""The HTTP client against a server with every bad habit: a response is whole, or there is none."""

import itertools
import socket
from datetime import timedelta

import pytest

from ingestion.errors import RetryLater, RunFailed
from ingestion.http import Client, Limits, Retry
from ingestion.http.targets import Targets
from tests.ingestion.http_getting import CHUNKED, GOOD, HEAD, QUICK, fails, get, gives_up, trickle
from tests.remote import Raw, Remote, Reply, in_turn

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
    assert headers["accept-encoding"] == "gzip, deflate, br, zstd"
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


def test_a_slow_body_ends_at_the_least_rate():
    limits = Limits(silence=timedelta(seconds=0.3), bytes_per_second=1000)
    postponed, _ = gives_up(trickle(CHUNKED, b"1\r\n \r\n"), limits=limits, retry=Retry(attempts=1))
    assert "are fewer than 1000 a second" in str(postponed)
