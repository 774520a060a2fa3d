"""Traces of requests: what is counted, what is kept of many, and that it is bounded and tells no secret."""

import json
import time
from datetime import timedelta

import pytest

from ingestion.auth import Login
from ingestion.errors import RetryLater, RunFailed
from ingestion.http import Client, Rate, Retry, Transport
from ingestion.http.traces import KEPT, Collector, Total, Trace, Traces, collecting
from tests.remote import Raw, Remote, Reply, in_turn

QUICK = Retry(attempts=3, wait_initial=timedelta(milliseconds=1), wait_max=timedelta(milliseconds=2))
GOOD = Reply(body=b'[{"id":1}]')


@pytest.fixture
def collector():
    with collecting(collector := Collector()):
        yield collector


def taken(collector, page=None):
    collector.place(page)
    return collector.take()


def test_each_attempt_is_a_request_with_its_own_status_and_wait(collector):
    with Remote(in_turn(Reply(503), Reply(429, headers={"Retry-After": "1"}), GOOD)) as remote:
        with Client(retry=QUICK) as client:
            client.get(f"{remote.url}/a/b?key=s3cr3t", {"page": "1"})
        host = remote.url.removeprefix("http://")
    traces = taken(collector, 7)
    assert [(trace.status, trace.attempt, trace.size_bytes) for trace in reversed(traces.newest)] == [
        (503, 1, 0),
        (429, 2, 0),
        (200, 3, 10),
    ]
    assert {trace.request for trace in traces.newest} == {f"GET http://{host}/a/b"}
    assert {trace.page for trace in traces.newest} == {7}
    assert traces.newest[0].waited >= 1
    assert traces.newest[2].waited < 1
    assert {name: total.requests for name, total in traces.totals.items()} == {
        f"{host} 503": 1,
        f"{host} 429": 1,
        f"{host} 200": 1,
    }


def test_a_request_for_a_token_is_no_attempt_at_the_request_that_needs_it(collector):
    def answer(request):
        return Reply(headers={"Set-Cookie": "session=1"}) if request.path == "/login" else GOOD

    with Remote(answer) as remote:
        auth = Login(url=f"{remote.url}/login", fields={})
        with Client(retry=QUICK, auth=auth) as client:
            client.get(f"{remote.url}/items", {})
    newest = reversed(taken(collector).newest)
    assert [(trace.request.rpartition("/")[2], trace.attempt) for trace in newest] == [("login", 1), ("items", 1)]


def test_no_answer_has_no_status_and_a_refusal_its_own(collector):
    with Remote(in_turn(Raw([], end="reset"), Reply(404))) as remote, Client(retry=Retry(attempts=1)) as client:
        with pytest.raises(RetryLater):
            client.get(remote.url, {})
        with pytest.raises(RunFailed):
            client.get(remote.url, {})
    assert [trace.status for trace in taken(collector).newest] == [404, 0]


def test_a_redirect_is_a_request_of_its_own(collector):
    def answer(request):
        return GOOD if request.path == "/there" else Reply(302, headers={"Location": "/there?token=s3cr3t"})

    with Remote(answer) as remote, Client(transport=Transport(redirects=1)) as client:
        client.get(remote.url, {})
    assert [trace.status for trace in taken(collector).newest] == [200, 302]


def test_a_download_is_counted_when_it_is_closed_with_what_was_read_of_it(collector):
    with Remote(Reply(body=b"x" * 300_000)) as remote, Client() as client:
        download = client.open(remote.url, {})
        assert len(download.read(1_000)) == 1_000
        assert not taken(collector)
        download.read()
        download.close()
        assert client.head(remote.url) is not None
    head, get = taken(collector).newest
    assert (head.request[:4], head.size_bytes, get.request[:3], get.size_bytes) == ("HEAD", 0, "GET", 300_000)


def test_waiting_for_a_budget_is_no_time_of_the_request(collector, settings):
    settings.BUDGETS_URL = "redis://127.0.0.1:9/0"
    rates = (Rate(name="traced", requests=1, within=timedelta(seconds=0.4)),)
    with Remote(GOOD) as remote, Client(rates=rates) as client:
        for _ in range(2):
            client.get(remote.url, {})
    last, first = taken(collector).newest
    assert first.waited < 0.3 <= last.waited
    assert last.seconds < 0.3


def trace(number, **values):
    return Trace(at=number, request="GET http://host/a", status=200, seconds=number % 1_000, **values)


def test_the_newest_and_the_slowest_are_kept_and_all_are_counted():
    collector = Collector()
    for number in range(10_000):
        collector.add(trace(number, size_bytes=2, waited=0.5))
        collector.place(number)
    traces = taken(collector)
    assert traces.newest[0].page == 9_999
    assert [kept.seconds for kept in traces.slowest] == [999] * 10 + [998] * 10
    assert traces.totals == {"host 200": Total(10_000, 20_000, 4_995_000, 5_000)}
    assert [one.at for one in traces.newest] == list(range(9_999, 9_979, -1))


def test_what_was_taken_and_is_not_confirmed_is_taken_again():
    collector = Collector()
    collector.add(trace(1))
    first = taken(collector)
    collector.add(trace(2))
    second = taken(collector)
    assert second.totals["host 200"].requests == 2
    collector.confirm(first)
    assert taken(collector).totals["host 200"].requests == 2
    collector.confirm(collector.take())
    assert not taken(collector)


def test_hosts_are_bounded_too():
    many = Traces()
    for number in range(500):
        many += Traces(totals={f"host{number} 200": Total(1, 1, 1, 1)})
    assert len(many.totals) <= 101
    assert sum(total.requests for total in many.totals.values()) == 500
    assert len(json.dumps([Trace(1.5, "GET https://example.org/" + "a" * 50)] * KEPT, default=str)) < 10_000


def test_requests_that_no_page_comes_of_are_bounded():
    collector = Collector()
    for number in range(1_000):
        collector.add(trace(number))
    traces = taken(collector)
    assert (len(traces.newest), traces.totals["host 200"].requests) == (KEPT, 1_000)


def test_whoever_does_not_collect_traces_nothing():
    collector = Collector()
    with Remote(GOOD) as remote, Client() as client:
        client.get(remote.url, {})
    assert not taken(collector)
    assert time.monotonic() >= collector.taken_at
