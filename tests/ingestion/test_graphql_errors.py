"""GraphQL against a real server: errors and rate limits, never taken for data."""

import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from ingestion.auth import Bearer
from ingestion.errors import ConfigurationError, RetryLater, RunFailed
from tests.ingestion.graphql_reading import EDGES, NODES, answered, failure, items, read, source
from tests.ingestion.graphql_server import Item, Stock, serve
from tests.remote import Remote, Reply


def refused(document, **options):
    with pytest.raises(RunFailed) as raised:
        answered(document, **options)
    return raised.value


# Errors


def test_errors_beside_data_fail_the_run_with_their_messages():
    products = [*items(1), Item(code="B", name="Broken", broken=True)]
    with serve(Stock(products=products)) as url:
        error = failure(source(url))
    assert error.code == "graphql_errors"
    assert "INTERNAL, at catalogue.products.edges.1.node.price" in error.message
    assert "abc123" not in error.message


@pytest.mark.parametrize("query", [EDGES, NODES])
def test_errors_may_reject_the_records_that_they_are_about(query):
    products = [*items(1), Item(code="B", name="Broken", broken=True)]
    with serve(Stock(products=products)) as url:
        (page,) = source(url, query=query, partial="reject").pages(None)
    assert len(page.records) == 2
    assert [(position, refused.reason) for position, refused in page.refused.items()] == [(1, "graphql_error")]
    assert "abc123" not in page.refused[1].detail


def test_a_record_is_rejected_without_the_credentials_that_the_server_says_back():
    said = "t0ken-0f-the-feed may not see this"
    error = {"message": said, "extensions": {"code": "t0ken-0f-the-feed"}, "path": ["items", 0, "t0ken-0f-the-feed"]}
    document = {"data": {"items": [None, {"code": "A"}]}, "errors": [error]}
    (page,) = answered(document, partial="reject", auth=Bearer(lambda: "t0ken-0f-the-feed"))
    assert page.refused[0].detail == "'… may not see this' (…, at items.0.…)"


@pytest.mark.parametrize("partial", ["fail", "reject"])
def test_what_was_sent_is_not_shown_when_the_server_says_it_back(partial):
    said = "Variable 'key' got s3cret-m4rker, header s3cret-h3ader"
    document = {"data": {"items": [{"v": 1}]}, "errors": [{"message": said, "path": ["items", 0]}]}
    options = {"variables": {"in": {"keys": ["s3cret-m4rker"]}}, "headers": {"X-Key": "s3cret-h3ader"}}
    if partial == "fail":
        told = refused(document, **options).message
    else:
        told = answered(document, partial=partial, **options)[0].refused[0].detail
    assert "Variable 'key' got …, header …" in told


def test_an_error_about_no_record_fails_the_run_nevertheless():
    document = {"data": {"items": [{"v": 1}]}, "errors": [{"message": "a shard is down", "path": ["items"]}]}
    assert refused(document, partial="reject").code == "graphql_errors"


def test_a_query_that_the_server_refuses_fails_with_what_it_says():
    with serve(Stock(products=[])) as url:
        error = failure(source(url, query="{ nothing }"))
    assert error.code == "graphql_errors"
    assert "nothing" in error.message


@pytest.mark.parametrize("status", [400, 422])
def test_errors_in_a_400_are_shown(status):
    body = json.dumps({"errors": [{"message": "bad variable"}] * 5}).encode()
    with Remote(Reply(status, body)) as remote:
        error = failure(source(remote.url))
    assert (error.code, error.message.count("bad variable")) == ("graphql_errors", 3)
    assert "and 2 more" in error.message
    with Remote(Reply(status, b"<html>")) as remote:
        assert failure(source(remote.url)).code == "http_status"
    with Remote(Reply(status, b'{"data":{"items":[]}}')) as remote:
        assert failure(source(remote.url)).code == "http_status"


@pytest.mark.parametrize(
    ("document", "code", "said"),
    [
        ({"data": None, "errors": [{"message": "no"}]}, "graphql_errors", "no"),
        ({"errors": "broken"}, "graphql_errors", "broken"),
        ({"data": None}, "shape", "null"),
        ({}, "shape", "data"),
        ({"data": {"items": None}}, "shape", "null"),
        ({"data": {"items": {"v": 1}}}, "shape", "found"),
        ({"data": {"other": []}}, "shape", "items"),
        ([], "shape", "found"),
        (b"<html>", "not_json", "<html>"),
        (b"", "not_json", "empty body"),
        (b'{"data":{"items":[]}', "not_json", ""),
        (b'{"data":{"items":[' + b"[" * 100_000, "not_json", ""),
    ],
)
def test_an_answer_without_records_fails(document, code, said):
    error = refused(document)
    assert error.code == code
    assert said in error.message


def test_errors_are_found_beside_a_record_that_is_no_json():
    error = refused(b'{"data":{"items":[NaN]},"errors":[{"message":"half"}]}')
    assert (error.code, "half" in error.message) == ("graphql_errors", True)


def test_a_mutation_is_refused_when_it_is_declared():
    for query in ("mutation { empty }", "query A { a }\n subscription B { b }"):
        with pytest.raises(ConfigurationError, match="is not sent"):
            source("http://127.0.0.1:9", query=query)
    source("http://127.0.0.1:9", query='# mutation\n{ mutation(a: "subscription") { mutation } }')
    with pytest.raises(ConfigurationError, match="partial"):
        source("http://127.0.0.1:9", partial="ignore")


# Rate limits


def test_a_throttled_query_is_asked_again():
    stock = Stock(products=items(1), refusals=1)
    with serve(stock) as url:
        assert len(read(source(url))) == 1
    assert len(stock.requests) == 2


def test_a_query_that_stays_throttled_is_put_off():
    with serve(Stock(products=items(1), refusals=9)) as url, pytest.raises(RetryLater, match="throttled"):
        read(source(url))


def cost(needed, left, rate=50):
    return {"requestedQueryCost": needed, "throttleStatus": {"currentlyAvailable": left, "restoreRate": rate}}


def test_a_long_wait_until_the_budget_is_enough_frees_the_worker():
    stock = Stock(products=items(1), refusals=1, cost=cost(5_000, 0))
    with serve(stock) as url, pytest.raises(RetryLater) as raised:
        read(source(url))
    assert raised.value.wait == timedelta(seconds=100)
    assert len(stock.requests) == 1


def test_the_next_page_waits_until_the_budget_is_enough():
    stock = Stock(products=items(3), cost=cost(10, 0, rate=100))
    with serve(stock) as url:
        started = time.monotonic()
        assert len(read(source(url))) == 2
    assert time.monotonic() - started >= 0.1


def test_the_page_that_was_read_is_kept_when_the_wait_is_long():
    with serve(Stock(products=items(3), cost=cost(10_000, 0))) as url:
        pages = source(url).pages(None)
        assert len(next(pages).records) == 2
        with pytest.raises(RetryLater) as raised:
            next(pages)
    assert timedelta(seconds=190) < raised.value.wait <= timedelta(seconds=200)


@pytest.mark.parametrize(
    "broken", ["x", {"throttleStatus": None}, cost("a", 0), cost(5, None), cost(5, 0, rate=0), cost(True, 0)]
)
def test_a_cost_that_cannot_be_read_is_no_wait(broken):
    with serve(Stock(products=items(3), cost=broken)) as url:
        assert len(read(source(url))) == 2


@pytest.mark.parametrize("off", [timedelta(hours=-1), timedelta(hours=1)], ids=["an hour slow", "an hour fast"])
def test_a_reset_is_a_moment_of_the_server_s_own_clock(off):
    now = (datetime.now(UTC) + off).replace(microsecond=0)
    body = json.dumps({"errors": [{"type": "RATE_LIMITED", "message": "limit"}]}).encode()
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(now.timestamp()) + 500)}
    reply = Reply(body=body, headers={**headers, "Date": format_datetime(now, usegmt=True)})
    with Remote(reply) as remote, pytest.raises(RetryLater) as raised:
        read(source(remote.url))
    assert raised.value.wait == timedelta(seconds=500)


def test_github_s_headers_tell_the_reset():
    reset = str(int(time.time()) + 500)
    body = json.dumps({"errors": [{"type": "RATE_LIMITED", "message": "limit"}]}).encode()
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
    with Remote(Reply(body=body, headers=headers)) as remote, pytest.raises(RetryLater) as raised:
        read(source(remote.url))
    assert timedelta(seconds=490) < raised.value.wait <= timedelta(seconds=500)
    with (
        Remote(Reply(body=body, headers={"Retry-After": "90"})) as remote,
        pytest.raises(RetryLater) as raised,
    ):
        read(source(remote.url))
    assert raised.value.wait == timedelta(seconds=90)
