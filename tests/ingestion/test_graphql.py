"""GraphQL against a real server: connections and lists whole and in order, to ends that are some."""

import json

import pytest

from ingestion.errors import ConfigurationError
from ingestion.pagination import Keyset, LinkHeader, NextCursor, OffsetLimit, PageNumber, SinglePage
from tests.ingestion.graphql_reading import EDGES, FIELDS, NODES, answered, failure, items, read, source
from tests.ingestion.graphql_server import Item, Service, Stock, serve
from tests.ingestion.signing import Passwords
from tests.remote import Remote, Reply, in_turn

LISTED = f"""query ($page: Int!, $size: Int!) {{ catalogue {{
  listed(offset: $page, limit: $size) {{ {FIELDS} }} products(first: 1) {{ total }} }} }}"""


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
