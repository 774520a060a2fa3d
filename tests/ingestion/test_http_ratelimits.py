"""Limits that remotes tell of themselves: nothing is asked for while nothing is left, instead of meeting a 429."""

import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.errors import RetryLater, RunFailed
from ingestion.http import LONGEST_WAIT, Answers, Client, Rate, Request, Retry, TransientFailure
from ingestion.http.ratelimits import closed_for
from tests.ingestion.signing import Passwords
from tests.remote import Remote, Reply, in_turn

DATE = "Mon, 23 Nov 2026 10:00:00 GMT"
# 30 s later.
MOMENT = 1795428030
GOOD = Reply(body=b"[]")
USED = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "0.5"}


@pytest.mark.parametrize(
    "headers",
    [
        {"ratelimit": '"default";r=0;t=30'},
        {"ratelimit": '"burst";r=5;t=60, "a,b";r=0;t=30'},
        {"ratelimit": '"one";r=0;t=5,"two";r=0;t=30'},
        {"ratelimit": "default; R=0; t=30"},
        {"ratelimit": '"default";r=0', "ratelimit-policy": '"other";q=9;w=5, "default";q=100;w=30'},
        {"ratelimit": "limit=100, remaining=0, reset=30"},
        {"ratelimit-limit": "100", "ratelimit-remaining": "0", "ratelimit-reset": "30"},
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"},
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(MOMENT)},
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{MOMENT}000"},
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(MOMENT), "x-ratelimit-reset-after": "30.0"},
        {"x-ratelimit-remaining": "0.4", "x-ratelimit-reset": "30"},
        {"x-ratelimit-remaining": "-1", "x-ratelimit-reset": "30"},
        {"x-rate-limit-remaining": "0", "x-rate-limit-reset": str(MOMENT)},
    ],
)
def test_when_nothing_is_left_it_says_when_there_will_be_more(headers):
    assert closed_for({**headers, "date": DATE}) == timedelta(seconds=30)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ratelimit": '"default";r=1;t=30'},
        {"ratelimit": '"default";r=0'},
        {"ratelimit": "gibberish;;="},
        {"x-ratelimit-remaining": "1", "x-ratelimit-reset": "30"},
        {"x-ratelimit-remaining": "0"},
        {"x-ratelimit-remaining": "", "x-ratelimit-reset": "30"},
        {"x-ratelimit-remaining": "none", "x-ratelimit-reset": "30"},
        {"x-ratelimit-remaining": "0, 5", "x-ratelimit-reset": "30"},
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "soon"},
        {"x-ratelimit-reset": "30"},
    ],
)
def test_what_is_not_known_closes_nothing(headers):
    assert closed_for(headers) is None


@given(remaining=st.text(), reset=st.text() | st.integers().map(str) | st.floats().map(str), field=st.text())
def test_whatever_a_remote_says_is_no_error_and_no_longer_than_a_day(remaining, reset, field):
    headers = {"x-ratelimit-remaining": remaining or "0", "x-ratelimit-reset": reset, "ratelimit": field}
    wait = closed_for(headers)
    assert wait is None or timedelta(0) <= wait <= LONGEST_WAIT


class Limited(Remote):
    """Tells with every second response that nothing is left for half a second, and notes when it is asked."""

    def __init__(self, headers=USED):
        self.seen = []

        def answer(request):
            self.seen.append(time.monotonic())
            return Reply(body=b"[]", headers=headers if len(self.seen) % 2 == 0 else {})

        super().__init__(answer)

    def gaps(self):
        return [late - early for early, late in zip(self.seen, self.seen[1:], strict=False)]


def test_nothing_is_asked_for_until_there_is_more():
    with Limited() as remote, Client() as client:
        for _ in range(4):
            client.get(remote.url, {})
    first, second, third = remote.gaps()
    assert second >= 0.5 > max(first, third)


@pytest.mark.parametrize("has_redis", [True, False])
def test_whoever_shares_the_budget_waits_as_well(settings, has_redis):
    if not has_redis:
        settings.BUDGETS_URL = "redis://127.0.0.1:1/0"
    rate = Rate(name=uuid.uuid4().hex, requests=100)
    with Limited() as remote:
        with Client(rates=(rate,)) as client:
            for _ in range(2):
                client.get(remote.url, {})
        with Client(rates=(rate,)) as client:
            client.get(remote.url, {})
    assert remote.gaps()[1] >= 0.45


@dataclass
class Tokens:
    """Asks a server for a token before each request."""

    url: str
    send: Any = None

    def signer(self, send):
        self.send = send
        return self

    def sign(self, request):
        self.send(Request(method="POST", url=self.url))
        return request

    def renew(self):
        return False


def test_the_limit_of_who_gives_tokens_is_none_of_the_feed_s():
    long = {"RateLimit-Remaining": "0", "RateLimit-Reset": "120"}
    with Remote(GOOD) as remote, Remote(Reply(body=b"{}", headers=long)) as tokens:
        with Client(auth=Tokens(tokens.url), origins=(remote.url,)) as client:
            for _ in range(2):
                client.get(remote.url, {})
        assert (len(remote.requests), len(tokens.requests)) == (2, 2)


def test_a_status_that_means_no_records_tells_of_the_limit_too():
    empty = Answers(empty=frozenset({404}))
    with Remote(in_turn(Reply(404, headers=USED), GOOD)) as remote, Client(answers=empty) as client:
        client.get(remote.url, {})
        started = time.monotonic()
        client.get(remote.url, {})
        assert time.monotonic() - started >= 0.45


def test_what_is_left_raises_no_budget():
    rate = Rate(name=uuid.uuid4().hex, requests=1, within=timedelta(seconds=0.4))
    generous = {"RateLimit": '"default";r=1000;t=1', "X-RateLimit-Remaining": "1000"}
    with Limited(generous) as remote, Client(rates=(rate,)) as client:
        for _ in range(3):
            client.get(remote.url, {})
    assert min(remote.gaps()) >= 0.4


@pytest.mark.parametrize("rates", [(), (Rate(name="closed-for-long", requests=100),)])
def test_more_than_a_minute_frees_the_worker_before_anything_is_asked(rates):
    long = Reply(body=b"[]", headers={"RateLimit-Remaining": "0", "RateLimit-Reset": "120"})
    rates = tuple(Rate(name=uuid.uuid4().hex, requests=rate.requests) for rate in rates)
    with Remote(long) as remote, Client(rates=rates) as client:
        client.get(remote.url, {})
        with pytest.raises(RetryLater, match="nothing is left of the remote's rate limit") as raised:
            client.get(remote.url, {})
        assert len(remote.requests) == 1
    assert timedelta(seconds=118) < raised.value.wait <= timedelta(seconds=120)


QUICK = Retry(attempts=2, wait_initial=timedelta(milliseconds=1), wait_max=timedelta(milliseconds=1))


@pytest.mark.parametrize("status", [429, 403, 503])
@pytest.mark.parametrize("headers", [USED, {"Retry-After": "0.5"}], ids=["limit", "retry-after"])
def test_who_asks_too_fast_waits_as_the_answer_says(status, headers):
    with Remote(in_turn(Reply(status, headers=headers), GOOD)) as remote, Client(retry=QUICK) as client:
        started = time.monotonic()
        client.get(remote.url, {})
        assert time.monotonic() - started >= 0.5
        assert len(remote.requests) == 2


def test_a_403_of_a_rate_limit_renews_no_credentials_and_frees_the_worker_when_it_is_long():
    moment = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(MOMENT + 570), "Date": DATE}
    tokens = Passwords(["good", "another"])
    answers = Answers(refresh=frozenset({401, 403}))
    with Remote(Reply(403, headers=moment)) as remote, Client(retry=QUICK, auth=tokens, answers=answers) as client:
        with pytest.raises(RetryLater, match="answered 403") as raised:
            client.get(remote.url, {})
        assert [request.headers["authorization"] for request in remote.requests] == ["good"]
    assert (raised.value.wait, raised.value.blames) == (timedelta(seconds=600), "")


@pytest.mark.parametrize("ask", [lambda client, url: client.head(url), lambda client, url: client.open(url, {})])
def test_a_file_s_403_of_a_rate_limit_may_pass(ask):
    limited = Reply(403, headers={"Retry-After": "7"})
    with Remote(limited) as remote, Client() as client, pytest.raises(TransientFailure) as raised:
        ask(client, remote.url)
    assert raised.value.wait == timedelta(seconds=7)


def test_a_server_of_tokens_may_answer_403_for_its_rate_limit():
    with Remote(GOOD) as remote, Remote(in_turn(Reply(403, headers={"Retry-After": "0"}), GOOD)) as tokens:
        with Client(retry=QUICK, auth=Tokens(tokens.url), origins=(remote.url,)) as client:
            client.get(remote.url, {})
        assert (len(remote.requests), len(tokens.requests)) == (1, 2)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-RateLimit-Remaining": "4999", "X-RateLimit-Reset": "30"},
        {"X-RateLimit-Remaining": "0"},
        {"Retry-After": "soon"},
    ],
)
def test_a_403_that_tells_of_no_limit_is_a_refusal(headers):
    with Remote(Reply(403, headers=headers)) as remote, Client(retry=QUICK) as client:
        with pytest.raises(RunFailed, match="http_status"):
            client.get(remote.url, {})
        assert len(remote.requests) == 1


def test_who_has_no_permission_fails_when_the_limit_is_over():
    refused = Reply(403, headers={"X-RateLimit-Remaining": "59", "X-RateLimit-Reset": "30"})
    turns = in_turn(Reply(403, headers=USED), refused)
    with Remote(turns) as remote, Client(retry=QUICK) as client, pytest.raises(RunFailed, match="answered 403"):
        client.get(remote.url, {})


def test_a_feed_may_say_that_403_means_no_records():
    answers = Answers(empty=frozenset({403}))
    with Remote(Reply(403, headers={"Retry-After": "0"})) as remote, Client(answers=answers) as client:
        assert client.get(remote.url, {}).is_empty
