"""GraphQL against a real server: connections and lists whole and in order, errors that are never taken for data."""

import json
import time
from datetime import timedelta

import pytest

from ingestion.errors import ConfigurationError, RetryLater, RunFailed
from ingestion.http import Retry
from ingestion.pagination import Keyset, LinkHeader, NextCursor, OffsetLimit, PageNumber, SinglePage
from ingestion.sources import Connection, GraphQL
from tests.ingestion.graphql_server import Item, Service, Stock, serve
from tests.ingestion.signing import Passwords
from tests.remote import Remote, Reply, in_turn

QUICK = Retry(attempts=2, wait_initial=timedelta(milliseconds=1))
FIELDS = "__typename ... on Item { code name price } ... on Service { code name hours }"
EDGES = f"""query Products($first: Int!, $after: String) {{
  catalogue {{ products(first: $first, after: $after) {{
    edges {{ node {{ {FIELDS} }} }} pageInfo {{ endCursor hasNextPage }} total
  }} }}
}}"""
NODES = EDGES.replace(f"edges {{ node {{ {FIELDS} }} }}", f"nodes {{ {FIELDS} }}")
LISTED = f"""query ($page: Int!, $size: Int!) {{ catalogue {{
  listed(offset: $page, limit: $size) {{ {FIELDS} }} products(first: 1) {{ total }} }} }}"""


def source(url, **options):
    defaults = {"query": EDGES, "records": ("catalogue", "products"), "pagination": Connection(size=2), "retry": QUICK}
    return GraphQL(url=url, **{**defaults, "max_pages": 100, **options})


def items(count):
    return [Item(code=f"A{number}", name=f"Item {number}", amount=f"{number}.50") for number in range(count)]


def read(source, cursor=None):
    return [[json.loads(bytes(record)) for record in page.records] for page in source.pages(cursor)]


def failure(source):
    with pytest.raises(RunFailed) as raised:
        list(source.pages(None))
    return raised.value


def answered(document, **options):
    """Read one answer, which is a document, or bytes that are none."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    with Remote(Reply(body=body)) as remote:
        return list(source(remote.url, pagination=SinglePage(), records=("items",), **options).pages(None))


def refused(document, **options):
    with pytest.raises(RunFailed) as raised:
        answered(document, **options)
    return raised.value


# Pages


@pytest.mark.parametrize("query", [EDGES, NODES])
def test_reads_every_page_of_a_connection_in_order(query):
    stock = Stock(products=items(5))
    with serve(stock) as url:
        pages = list(source(url, query=query).pages(None))
    assert [page.number for page in pages] == [1, 2, 3]
    assert [json.loads(bytes(record))["code"] for page in pages for record in page.records] == [
        "A0", "A1", "A2", "A3", "A4"
    ]  # fmt: skip
    assert [request["variables"] for request in stock.requests] == [
        {"first": 2},
        {"first": 2, "after": "2"},
        {"first": 2, "after": "4"},
    ]
    assert pages[-1].following is None


def test_goes_on_at_any_cursor_it_has_given_out():
    with serve(Stock(products=items(5))) as url:
        pages = list(source(url).pages(None))
        for page in pages[:-1]:
            assert read(source(url), page.following) == read(source(url))[page.number :]


def test_an_empty_connection_is_one_page_without_records():
    with serve(Stock(products=[])) as url:
        assert read(source(url)) == [[]]


def test_variables_and_headers_are_of_every_request():
    stock = Stock(products=items(3))
    options = {"variables": {"first": 1, "unused": {"a": 1}}, "headers": {"X-Team": "blue"}}
    with serve(stock) as url:
        read(source(url, operation="Products", **options))
    assert [request["variables"] for request in stock.requests] == [
        {"first": 2, "unused": {"a": 1}},
        {"first": 2, "after": "2", "unused": {"a": 1}},
    ]
    assert {request["operationName"] for request in stock.requests} == {"Products"}
    assert {request["headers"]["X-Team"] for request in stock.requests} == {"blue"}


def test_a_plain_list_is_read_by_offset_with_the_total_beside_it():
    stock = Stock(products=items(4))
    pagination = OffsetLimit(param="page", size=2, size_param="size", total=("catalogue", "products", "total"))
    with serve(stock) as url:
        pages = read(source(url, query=LISTED, records=("catalogue", "listed"), pagination=pagination))
    assert [len(page) for page in pages] == [2, 2]
    assert [request["variables"]["page"] for request in stock.requests] == [0, 2]


def test_a_plain_list_without_a_total_ends_with_a_short_page():
    stock = Stock(products=items(5))
    pagination = OffsetLimit(param="page", size=2, size_param="size")
    with serve(stock) as url:
        pages = read(source(url, query=LISTED, records=("catalogue", "listed"), pagination=pagination))
    assert [len(page) for page in pages] == [2, 2, 1]


def test_what_is_inserted_while_a_plain_list_is_read_is_told():
    stock = Stock(products=items(6))
    pagination = OffsetLimit(param="page", size=2, size_param="size")
    with serve(stock) as url:
        pages = source(url, query=LISTED, records=("catalogue", "listed"), pagination=pagination).pages(None)
        first = next(pages)
        stock.products.insert(0, items(7)[-1])
        second = next(pages)
        pages.close()
    assert (first.warning, "page 2 begins with a record of page 1" in second.warning) == ("", True)


def test_a_plain_list_may_be_one_page():
    with serve(Stock(products=items(3))) as url:
        query = f"{{ catalogue {{ listed {{ {FIELDS} }} }} }}"
        (page,) = read(source(url, query=query, records=("catalogue", "listed"), pagination=SinglePage()))
    assert len(page) == 3


def test_members_of_a_union_are_records_with_what_each_has():
    products = [Item(code="A1", name="Bolt", amount="0.25"), Service(code="S1", name="Repair", hours=3)]
    with serve(Stock(products=products)) as url:
        (page,) = read(source(url))
    assert page == [
        {"__typename": "Item", "code": "A1", "name": "Bolt", "price": "0.25"},
        {"__typename": "Service", "code": "S1", "name": "Repair", "hours": 3},
    ]


@pytest.mark.parametrize("query", [EDGES, NODES])
def test_a_null_node_is_a_record_of_its_own(query):
    with serve(Stock(products=[None, *items(1)])) as url:
        (page,) = source(url, query=query).pages(None)
    assert [bytes(record)[:4] for record in page.records] == [b"null", b'{"__']


@pytest.mark.parametrize("list_name", ["nodes", "edges"])
@pytest.mark.parametrize("bad", [b'{"v":NaN}', b'{"v":"\xff"}', b'{"v":"\x01"}', b"null"])
def test_a_bad_node_leaves_the_others_as_they_are(list_name, bad):
    nodes = [b'{"v":1}', bad, b'{"v": 3}']
    if list_name == "edges":
        nodes = [b'{"cursor":"x","node":%b}' % node for node in nodes]
    body = b'{"data":{"items":{"%b":[%b],"pageInfo":{"hasNextPage":false}}}}' % (list_name.encode(), b",".join(nodes))
    (page,) = answered(body)
    assert [bytes(record) for record in page.records] == [b'{"v":1}', bad, b'{"v": 3}']


# Ends that are none


def info(**members):
    return {"data": {"items": {"nodes": [{"v": 1}], "pageInfo": members}}}


@pytest.mark.parametrize(
    ("document", "code", "said"),
    [
        (info(hasNextPage=True, endCursor=None), "has_more", "says that more follows"),
        (info(hasNextPage=True), "has_more", "says that more follows"),
        (info(endCursor="x"), "shape", "tells no pageInfo"),
        (info(hasNextPage="maybe", endCursor="x"), "has_more", "'maybe'"),
        (info(hasNextPage=True, endCursor=["x"]), "cursor", "expected a text or a number"),
        ({"data": {"items": {"nodes": [{"v": 1}]}}}, "shape", "tells no pageInfo"),
    ],
)
def test_a_connection_that_does_not_say_where_it_ends_fails(document, code, said):
    with Remote(Reply(body=json.dumps(document).encode())) as remote:
        error = failure(source(remote.url, records=("items",)))
    assert error.code == code
    assert said in error.message


@pytest.mark.parametrize("has_more", ["false", False, "0"])
def test_false_as_text_is_false(has_more):
    with Remote(Reply(body=json.dumps(info(hasNextPage=has_more, endCursor="x")).encode())) as remote:
        assert read(source(remote.url, records=("items",))) == [[{"v": 1}]]


def test_a_cursor_that_comes_back_is_a_loop_also_without_records():
    turns = [json.dumps({"data": {"items": {"nodes": [], "pageInfo": {"hasNextPage": True, "endCursor": cursor}}}})
             for cursor in ("a", "b", "c") * 5]  # fmt: skip
    with Remote(in_turn(*(Reply(body=turn.encode()) for turn in turns))) as remote:
        error = failure(source(remote.url, records=("items",)))
    assert error.code == "pagination_loop"
    assert len(remote.requests) < 10


def test_the_same_page_again_is_a_loop():
    turns = [json.dumps(info(hasNextPage=True, endCursor=str(number))) for number in range(5)]
    with Remote(in_turn(*(Reply(body=turn.encode()) for turn in turns))) as remote:
        error = failure(source(remote.url, records=("items",)))
    assert (error.code, len(remote.requests)) == ("pagination_loop", 2)
    assert error.message == "page 2 has the same records as page 1 (first=2, after=0; before: first=2)"


def token(*pages):
    return in_turn(*(Reply(body=json.dumps({"data": {"items": [number], **page}}).encode())
                     for number, page in enumerate(pages)))  # fmt: skip


def test_a_token_beside_a_list_is_followed_and_zero_is_one():
    with Remote(token({"next": 0}, {"next": "b"}, {"next": ""})) as remote:
        pages = read(source(remote.url, records=("items",), pagination=NextCursor(param="in.at", cursor=("next",))))
    assert pages == [[0], [1], [2]]
    asked = [json.loads(request.body)["variables"] for request in remote.requests]
    assert asked == [{}, {"in": {"at": 0}}, {"in": {"at": "b"}}]


def test_the_last_record_may_be_the_cursor():
    turns = [{"items": [{"id": 3}, {"id": 7}]}, {"items": [{"id": 9}]}]
    replies = [Reply(body=json.dumps({"data": turn}).encode()) for turn in turns]
    with Remote(in_turn(*replies)) as remote:
        pages = read(
            source(remote.url, records=("items",), pagination=Keyset(param="where.after", field=("id",), size=2))
        )
    assert pages == [[{"id": 3}, {"id": 7}], [{"id": 9}]]
    assert [json.loads(request.body)["variables"] for request in remote.requests] == [{}, {"where": {"after": 7}}]


def test_a_paginator_of_addresses_is_refused():
    with pytest.raises(ConfigurationError, match="LinkHeader follows others"):
        source("http://127.0.0.1:9", pagination=LinkHeader())


def test_more_without_a_token_fails():
    pagination = NextCursor(param="at", cursor=("next",), has_more=("more",))
    with Remote(token({"next": "a", "more": "true"}, {"next": None, "more": True})) as remote:
        assert failure(source(remote.url, records=("items",), pagination=pagination)).code == "has_more"
    with Remote(token({"next": "a", "more": True}, {"next": "b", "more": "false"})) as remote:
        assert read(source(remote.url, records=("items",), pagination=pagination)) == [[0], [1]]


@pytest.mark.parametrize(
    ("totals", "code"),
    [
        ((3, 2), "total"),
        ((-1,), "total"),
        (("x",), "total"),
        ((0,), "total"),
        ((9, 9), "incomplete"),
    ],
)
def test_totals_that_cannot_be(totals, code):
    pages = [[1], [2], []]
    replies = [Reply(body=json.dumps({"data": {"items": page, "total": total}}).encode())
               for page, total in zip(pages, [*totals, *totals[-1:] * 2], strict=False)]  # fmt: skip
    pagination = PageNumber(param="page", size=1, total=("total",))
    with Remote(in_turn(*replies)) as remote:
        assert failure(source(remote.url, records=("items",), pagination=pagination)).code == code


def test_a_total_as_text_is_a_total():
    with Remote(token({"total": "2"}, {"total": "2"})) as remote:
        pagination = PageNumber(param="page", size=1, total=("total",))
        assert read(source(remote.url, records=("items",), pagination=pagination)) == [[0], [1]]
    assert [json.loads(request.body)["variables"] for request in remote.requests] == [{"page": 1}, {"page": 2}]


def test_requests_are_signed():
    body = b'{"data":{"items":[]}}'
    with Remote(lambda request: Reply(200 if request.headers["authorization"] == "good" else 401, body)) as remote:
        options = {"records": ("items",), "pagination": SinglePage()}
        assert read(source(remote.url, auth=Passwords(["old", "good"]), **options)) == [[]]


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
    assert raised.value.wait == timedelta(seconds=200)


@pytest.mark.parametrize(
    "broken", ["x", {"throttleStatus": None}, cost("a", 0), cost(5, None), cost(5, 0, rate=0), cost(True, 0)]
)
def test_a_cost_that_cannot_be_read_is_no_wait(broken):
    with serve(Stock(products=items(3), cost=broken)) as url:
        assert len(read(source(url))) == 2


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
