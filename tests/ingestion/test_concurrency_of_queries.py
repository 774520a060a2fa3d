"""Several requests at once of GraphQL and SOAP, where paginators know the pages: as one after the other, and faster."""

import json
import threading
import time
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from ingestion import hosts, pipeline
from ingestion.errors import ConfigurationError, RunFailed
from ingestion.http import Retry
from ingestion.pagination import Keyset, NextCursor, OffsetLimit, PageNumber, SinglePage
from ingestion.sources import Connection, GraphQL, Soap
from photos.feeds import PHOTOS
from tests.ingestion import graphql_reading, graphql_server, soap_reading, soap_server
from tests.ingestion.test_concurrency import Crowd, at_once, photos, told
from tests.remote import Remote, Reply

pytestmark = pytest.mark.usefixtures("tried_twice")

LISTED = f"""query ($page: Int!, $size: Int!) {{ catalogue {{
  listed(offset: $page, limit: $size) {{ {graphql_reading.FIELDS} }} products(first: 1) {{ total }} }} }}"""
OFFSETS = OffsetLimit(param="page", size=2, size_param="size", total=("catalogue", "products", "total"))
PLAIN = PageNumber(param="page", size=10, size_param="size", total=("total",))


def listed(url, **options):
    options = {"query": LISTED, "records": ("catalogue", "listed"), "pagination": OFFSETS, "concurrency": 4} | options
    return graphql_reading.source(url, **options)


def plain(remote, **options):
    """Return a source of what `of` answers."""
    options = {"query": "{ found }", "records": ("found",), "pagination": PLAIN, "concurrency": 4} | options
    return GraphQL(url=f"{remote.url}/graphql", retry=graphql_reading.QUICK, **options)


def of(records, **overrides):
    """Return what answers a query for pages of records; by number what is answered instead."""

    def answer(request):
        asked = json.loads(request.body)["variables"]
        page, size = asked["page"], asked["size"]
        if f"page_{page}" in overrides:
            return overrides[f"page_{page}"](request)
        found = records[(page - 1) * size : page * size]
        return Reply(body=json.dumps({"data": {"found": found, "total": len(records)}}).encode())

    return answer


def pages_asked_for(remote):
    return sorted(json.loads(request.body)["variables"]["page"] for request in remote.requests)


def stock(number):
    return soap_server.Stock(items=soap_reading.items(number))


def soap(remote, **options):
    return soap_reading.source(remote, **{"concurrency": 4} | options)


# Order, cursors, and how many


@pytest.mark.parametrize("number", [0, 1, 2, 3, 9, 10])
def test_the_pages_of_a_query_are_those_of_one_after_the_other(number):
    served = graphql_server.Stock(products=graphql_reading.items(number))
    with graphql_server.serve(served) as url:
        one_by_one = told(listed(url).pages(None))
        asked = sorted(request["variables"]["page"] for request in served.requests)
        served.requests.clear()
        assert told(at_once(listed(url))) == one_by_one
    assert sorted(request["variables"]["page"] for request in served.requests) == asked


@pytest.mark.parametrize("number", [0, 1, 2, 3, 9, 10])
def test_the_pages_of_an_operation_are_those_of_one_after_the_other(number):
    served = stock(number)
    with soap_server.serve(served) as remote:
        one_by_one = told(soap(remote).pages(None))
        asked = sorted(each["page"] for each in served.asked)
        served.asked.clear()
        assert told(at_once(soap(remote))) == one_by_one
    assert sorted(each["page"] for each in served.asked) == asked


def test_reading_goes_on_at_any_page():
    with graphql_server.serve(graphql_server.Stock(products=graphql_reading.items(9))) as url:
        whole = told(listed(url).pages(None))
        for number, (_, _, following) in enumerate(whole[:-1], start=1):
            assert told(at_once(listed(url), json.loads(json.dumps(following)))) == whole[number:]
    with soap_server.serve(stock(9)) as remote:
        whole = told(soap(remote).pages(None))
        for number, (_, _, following) in enumerate(whole[:-1], start=1):
            assert told(at_once(soap(remote), json.loads(json.dumps(following)))) == whole[number:]


def test_so_many_queries_are_under_way_and_never_more():
    crowd = Crowd(of(photos(130)), meet=4)
    with Remote(crowd) as remote:
        assert sum(len(page.records) for page in at_once(plain(remote))) == 130
    assert (crowd.most, remote.accepted) == (4, 5)


def test_so_many_operations_are_under_way_and_the_wsdl_is_read_once():
    served = stock(26)
    # The WSDL, what it imports, and the first page.
    crowd = Crowd(served.answer, meet=4, alone=3)
    with Remote(crowd) as remote:
        assert sum(len(page.records) for page in at_once(soap(remote))) == 26
    assert (crowd.most, [request.method for request in remote.requests].count("GET")) == (4, 2)


def test_each_thread_has_user_name_tokens_of_its_own():
    served = replace(stock(21), secured=True)
    password = {"user": soap_server.USER, "password": lambda: soap_server.PASSWORD, "digest": True}
    with soap_server.serve(served) as remote:
        assert sum(len(page.records) for page in at_once(soap(remote, **password))) == 21
    assert len(set(served.nonces)) == 11


# Errors, and what comes otherwise than expected


def test_an_error_of_a_query_is_that_of_its_page():
    products = graphql_reading.items(16)
    products[7] = replace(products[7], broken=True)
    with graphql_server.serve(graphql_server.Stock(products=products)) as url:
        numbers = []
        with pytest.raises(RunFailed, match=r"graphql_errors: .* is unknown"):
            numbers.extend(page.number for page in at_once(listed(url)))
    assert numbers == [1, 2, 3]


def test_a_fault_is_that_of_its_page_whatever_came_behind_it():
    seen = threading.Event()

    def special(page, namespace):
        if page == 5:
            seen.set()
        if page != 4:
            return None
        assert seen.wait(20)
        return Reply(500, soap_server.fault("no such page", namespace))

    with soap_server.serve(replace(stock(18), special=special)) as remote:
        numbers = []
        with pytest.raises(RunFailed, match="soap_fault: 'no such page'"):
            numbers.extend(page.number for page in at_once(soap(remote)))
    assert numbers == [1, 2, 3]


def test_what_may_pass_is_asked_for_again_by_its_own_thread():
    refusals = iter([Reply(503)])
    served = of(photos(90))
    with Remote(of(photos(90), page_4=lambda request: next(refusals, None) or served(request))) as remote:
        assert sum(len(page.records) for page in at_once(plain(remote))) == 90
        assert len(remote.requests) == 10


def test_a_short_page_ends_the_run_as_ever_and_drops_what_was_sent_behind_it():
    short = Reply(body=json.dumps({"data": {"found": photos(3), "total": 90}}).encode())
    with Remote(of(photos(90), page_3=lambda request: short)) as remote:
        numbers = []
        with pytest.raises(RunFailed, match="incomplete: the pages ended after 23 records"):
            numbers.extend(page.number for page in at_once(plain(remote)))
    assert numbers == [1, 2]
    assert max(pages_asked_for(remote)) <= 8

    def special(page, namespace):
        beside = "<total>18</total>"
        return (
            Reply(body=soap_server.envelope(soap_server.response([], beside=beside), namespace)) if page == 3 else None
        )

    with soap_server.serve(replace(stock(18), special=special)) as remote:
        numbers = []
        with pytest.raises(RunFailed, match="incomplete: the pages ended after 4 records"):
            numbers.extend(page.number for page in at_once(soap(remote)))
    assert numbers == [1, 2]


def test_offsets_that_turn_out_otherwise_are_asked_for_one_after_the_other():
    served = photos(95)

    def answer(request):
        # From the third page on the remote gives fewer than it is asked for.
        start = json.loads(request.body)["variables"]["page"]
        found = served[start : start + (10 if start < 20 else 7)]
        body = {"data": {"found": found, "total": 95, "more": start + len(found) < 95}}
        return Reply(body=json.dumps(body).encode())

    pagination = OffsetLimit(param="page", size=10, size_param="size", total=("total",), has_more=("more",))
    with Remote(answer) as remote:
        whole = list(at_once(plain(remote, pagination=pagination)))
    assert [json.loads(bytes(record)) for page in whole for record in page.records] == served
    assert len(remote.requests) <= len(whole) + 5


def test_a_total_that_grows_meanwhile_is_read_to_its_end():
    served = stock(8)

    def special(page, namespace):
        if page == 3:
            served.items[8:] = soap_reading.items(15)[8:]

    served.special = special
    with soap_server.serve(served) as remote:
        assert sum(len(page.records) for page in at_once(soap(remote))) == 15
    assert sorted(int(each["page"]) for each in served.asked) == [*range(1, 9)]


# What several share


def test_while_the_budget_is_too_short_queries_go_one_by_one():
    cost = {"requestedQueryCost": 5, "throttleStatus": {"currentlyAvailable": 0, "restoreRate": 200}}
    arrived = []

    def answer(request):
        arrived.append(time.monotonic())
        document = json.loads(of(photos(60))(request).body)
        return Reply(body=json.dumps(document | {"extensions": {"cost": cost}}).encode())

    crowd = Crowd(answer)
    with Remote(crowd) as remote:
        assert sum(len(page.records) for page in at_once(plain(remote))) == 60
    assert crowd.most == 1
    assert all(later - earlier >= 0.025 for earlier, later in pairwise(arrived))


def test_queries_that_were_throttled_together_are_not_tried_again_together():
    lock, began, spent = threading.Lock(), time.monotonic(), -1_000.0
    throttled = {"errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}], "data": None}

    def answer(request):
        nonlocal spent
        with lock:
            spent = max(
                spent, 3_000 * (time.monotonic() - began) - 1_000
            )  # a bucket of 1,000, filled in a third of a second
            left = 3_000 * (time.monotonic() - began) - spent
            is_enough = left >= 300
            spent += 300 if is_enough else 0
        status = {"currentlyAvailable": left - 300 * is_enough, "restoreRate": 3_000}
        document = json.loads(of(photos(160))(request).body) if is_enough else throttled
        cost = {"requestedQueryCost": 300, "throttleStatus": status}
        return Reply(body=json.dumps(document | {"extensions": {"cost": cost}}).encode())

    with Remote(answer) as remote:
        source = replace(plain(remote, concurrency=8), retry=Retry(attempts=3, wait_initial=timedelta(milliseconds=1)))
        assert sum(len(page.records) for page in at_once(source)) == 160


@pytest.mark.django_db(transaction=True)
def test_a_run_asks_at_once_within_the_room_of_the_host(monkeypatch, settings):
    settings.PARTS_PER_HOST = 3
    crowd = Crowd(of(photos(310)), meet=3)
    with Remote(crowd) as remote:
        monkeypatch.setattr("photos.feeds.PHOTOS", replace(PHOTOS, source=plain(remote, concurrency=8)))
        summary = pipeline.run_here("photos").summary
    assert (summary["state"], summary["read"], summary["pages"], crowd.most) == ("succeeded", 310, 31, 3)


def test_the_room_of_a_service_s_host_counts(settings):
    settings.PARTS_PER_HOST = 3
    with soap_server.serve(stock(1)) as remote:
        source = soap(remote, concurrency=8)
        assert (hosts.host_of(source), hosts.at_once(source)) == (remote.url.removeprefix("http://"), 3)
        assert hosts.host_of(replace(source, url="http://10.0.0.9/soap")) == "10.0.0.9"
        assert hosts.at_once(replace(source, wsdl="stock.wsdl")) == 8


@pytest.mark.parametrize("kind", ["query", "operation"])
def test_what_was_sent_is_not_said_whichever_thread_finds_the_error(kind):
    secret = "s3cr3t-0f-the-header"
    options = {"headers": {"X-Api-Key": secret}}

    def echo(request):
        return Reply(body=f"you sent {request.headers['x-api-key']}".encode())

    if kind == "query":
        with Remote(of(photos(90), page_3=echo)) as remote, pytest.raises(RunFailed, match=r"you sent …") as raised:
            list(at_once(plain(remote, **options)))
    else:
        served = stock(9)
        served.special = lambda page, namespace: None if page < 3 else Reply(body=f"you sent {secret}".encode())
        with soap_server.serve(served) as remote, pytest.raises(RunFailed, match=r"you sent …") as raised:
            list(at_once(soap(remote, **options)))
    assert secret not in f"{raised.value}{raised.value.message}"


# What is refused


@pytest.mark.parametrize(
    ("pagination", "concurrency"),
    [
        (Connection(size=2), 2),
        (NextCursor(param="at", cursor=("next",)), 2),
        (Keyset(param="after", field=("id",), size=2), 2),
        (SinglePage(), 2),
        (replace(PLAIN, total=()), 2),
        (PLAIN, 0),
    ],
)
def test_pages_that_nobody_knows_are_not_asked_for_at_once(pagination, concurrency):
    with pytest.raises(ConfigurationError, match=f"concurrency={concurrency}"):
        graphql_reading.source("http://127.0.0.1:9", pagination=pagination, concurrency=concurrency)
    if not isinstance(pagination, Connection):
        with pytest.raises(ConfigurationError, match=f"concurrency={concurrency}"):
            Soap(wsdl="", operation="", records=("item",), pagination=pagination, concurrency=concurrency)
