"""Every way of paging against a server: what it is asked, what is read, and what proves that something is wrong."""

import json
from dataclasses import replace

import pytest

from ingestion.errors import ConfigurationError, RunFailed
from ingestion.http import Answers, Retry, Transport
from ingestion.pagination import Keyset, LinkHeader, NextCursor, NextUrl, OffsetLimit, PageNumber
from ingestion.sources import JsonApi
from ingestion.sources.overlaps import begins_within, tail_of
from ingestion.types import Record, Records
from tests.remote import Remote, Reply, json_list

ORDERS = [{"id": number, "code": f"o{number}"} for number in range(1, 24)]


def api(remote, pagination, **options):
    options = {"url": f"{remote.url}/orders", "retry": Retry(attempts=1), "max_pages": 100, **options}
    return JsonApi(pagination=pagination, **options)


def read(source, cursor=None):
    return [json.loads(bytes(record)) for page in source.pages(cursor) for record in page.records]


def failure(source):
    with pytest.raises(RunFailed) as raised:
        read(source)
    return raised.value


def reply(body, **headers):
    return Reply(body=json.dumps(body).encode(), headers=headers)


def by_offset(request):
    offset, size = int(request.query.get("offset", 0)), int(request.query.get("limit", 10))
    return reply({"orders": ORDERS[offset : offset + size], "total": str(len(ORDERS))})


def by_cursor(request):
    """Serve 5 orders a page; the cursor, in the query, a header or the body's `page.after`, is a position."""
    posted = json.loads(request.body)["page"].get("after") if request.body else None
    start = int(posted or request.query.get("after") or request.headers.get("x-after") or 0)
    end = start + 5 if start + 5 < len(ORDERS) else None
    found = {"orders": ORDERS[start : start + 5], "meta": {"next": end, "more": "true" if end else "false"}}
    return reply(found, **{"X-Next": str(end or "")})


def by_link(request):
    """Serve 5 orders a page; the links repeat all that was asked, the key as well."""
    start = int(request.query.get("start", 0))
    more = "&".join(f"{name}={value}" for name, value in {**request.query, "start": start + 5}.items())
    target = f"{request.path}?{more}" if start + 5 < len(ORDERS) else ""
    headers = {"Link": f'</orders>; rel="first", <{target}>; rel="next"'} if target else {}
    return reply({"orders": ORDERS[start : start + 5], "next": target or None}, **headers)


def by_key(request):
    after = int(request.query.get("since_id", 0))
    return Reply(body=json_list([order for order in ORDERS if order["id"] > after][:5]))


WAYS = {
    "offset": (by_offset, OffsetLimit(param="offset", size=10, size_param="limit", total=("total",)), {}),
    "cursor": (by_cursor, NextCursor(param="after", cursor=("meta", "next"), has_more=("meta", "more")), {}),
    "header": (by_cursor, NextCursor(param="X-After", cursor_header="X-Next", place="header"), {}),
    "posted": (
        by_cursor,
        NextCursor(param="page.after", cursor=("meta", "next"), place="body"),
        {"method": "POST", "body": {"query": "all", "page": {"size": 5}}},
    ),
    "next": (by_link, NextUrl(url=("next",)), {"params": {"key": "hush"}}),
    "link": (by_link, LinkHeader(), {"params": {"key": "hush"}, "headers": {"X-Key": "hush"}}),
    "keyset": (by_key, Keyset(param="since_id", field=("id",), size=5), {"records": ()}),
}


@pytest.fixture(params=WAYS)
def way(request):
    answer, pagination, options = WAYS[request.param]
    with Remote(answer) as remote:
        yield remote, api(remote, pagination, **{"records": ("orders",), **options})


def test_every_record_is_read_once(way):
    remote, source = way
    assert read(source) == ORDERS
    assert all(request.query.get("key") in (None, "hush") for request in remote.requests)
    assert len({request.query.get("key") for request in remote.requests}) == 1


def test_resuming_at_any_cursor_gives_the_rest(way):
    _, source = way
    pages = list(source.pages(None))
    assert len(pages) > 2
    for number, page in enumerate(pages[:-1]):
        cursor = json.loads(json.dumps(page.following))
        assert "hush" not in json.dumps(cursor)
        assert read(source, cursor) == ORDERS[sum(len(page.records) for page in pages[: number + 1]) :]


def test_a_body_is_sent_with_what_the_feed_says_beside_the_cursor():
    with Remote(by_cursor) as remote:
        pagination = NextCursor(param="page.after", cursor=("meta", "next"), place="body")
        body = {"query": "ä", "page": {"size": 5}}
        read(api(remote, pagination, method="POST", body=body, records=("orders",), params={"v": "2"}))
    sent = [json.loads(request.body) for request in remote.requests]
    assert sent[0] == {"query": "ä", "page": {"size": 5}}
    assert sent[1] == {"query": "ä", "page": {"size": 5, "after": 5}}
    assert {(request.method, request.headers["content-type"], request.query["v"]) for request in remote.requests} == {
        ("POST", "application/json", "2")
    }
    assert body == {"query": "ä", "page": {"size": 5}}


@pytest.mark.parametrize("kind", [PageNumber, OffsetLimit])
def test_numbers_in_a_body_are_numbers(kind):
    with Remote(Reply(body=b"[]")) as remote:
        read(api(remote, kind(param="at", size=5, size_param="n", place="body"), method="POST"))
    assert json.loads(remote.requests[0].body) == {"at": 1 if kind is PageNumber else 0, "n": 5}


def test_a_body_takes_a_post():
    for options in ({"body": {}}, {"pagination": NextCursor(param="a", cursor=("b",), place="body")}):
        with pytest.raises(ConfigurationError, match='method="POST"'):
            JsonApi(**{"url": "http://localhost", "pagination": LinkHeader(), **options})


def test_the_next_page_after_one_with_a_bad_record_is_found():
    def answer(request):
        if request.query:
            return Reply(body=b'{"orders":[{"id":2}],"next":""}')
        return Reply(body=b'{"orders":[{"id":NaN},{"id":1}],"next":"b"}')

    with Remote(answer) as remote:
        pages = list(api(remote, NextCursor(param="after", cursor=("next",)), records=("orders",)).pages(None))
    assert [len(page.records) for page in pages] == [2, 1]
    assert remote.queries == [{}, {"after": "b"}]


# An order that does not hold

MOVED = "the source changed between two pages"


def inserting(count):
    """Serve pages of 10 while so many records are inserted at the front with each request."""

    def answer(request):
        number = int(request.query["page"])
        new = [{"id": -n} for n in range((number - 1) * count, 0, -1)]
        return Reply(body=json_list([*new, *ORDERS][number * 10 - 10 : number * 10]))

    return answer


@pytest.mark.parametrize(("inserted", "logged"), [(0, 0), (1, 1), (3, 1)])
def test_records_that_are_inserted_while_pages_are_read_are_told_once(inserted, logged, caplog):
    with Remote(inserting(inserted)) as remote:
        found = read(api(remote, PageNumber(param="page", size=10), params={"key": "hush"}))
        assert [order for order in ORDERS if order not in found] == []
    told = [line for line in caplog.messages if MOVED in line]
    assert len(told) == logged
    assert "hush" not in "".join(told)


@pytest.mark.parametrize(
    ("first", "before", "expected"),
    [
        (b'{"id":2}', b'[{"id":1},{"id":2}]', True),
        (b'{"id":2}', b'[{"id":2} , {"id":1}]', True),
        (b'{"id":2}', b'[{"id":1}]', False),
        # Inside another record.
        (b'{"id":2}', b'[{"of":{"id":2}}]', False),
        (b"2", b"[12]", False),
        (b"2", b"[1, 2]", True),
    ],
)
def test_a_record_at_the_seam_is_recognised(first, before, expected):
    tail = tail_of(Records(before))
    assert begins_within(Records(b"[" + first + b"]"), tail) is expected
    assert begins_within([Record(first)], tail_of([*Records(before)])) is expected


def test_the_seam_is_looked_at_as_far_as_64_kib():
    many = [{"id": number, "text": "x" * 1000} for number in range(100)]
    tail = tail_of(Records(json_list(many)))
    assert len(tail) == 65_536
    assert begins_within(Records(json_list(many[50:51])), tail)
    assert not begins_within(Records(json_list(many[:1])), tail)
    assert not begins_within(Records(b"[]"), tail)
    assert not begins_within(Records(json_list(many)), b"")


# What proves that something is wrong


def test_a_loop_shows_the_two_requests_that_prove_it():
    def answer(request):
        number = int(request.query.get("after", 0))
        return reply({"orders": [{"id": number, "asked": len(remote.requests)}], "next": str(number % 2 + 1)})

    with Remote(answer) as remote:
        source = api(
            remote,
            NextCursor(param="after", cursor=("next",)),
            url=f"http://user:hush@127.0.0.1:{remote.url.rpartition(':')[2]}/orders?key=hush",
            records=("orders",),
        )
        failed = failure(source)
    assert failed.code == "pagination_loop"
    assert "page 4 would be asked for like page 2: '1'" in failed.message
    assert f"(GET {remote.url}/orders with after=2; before: GET {remote.url}/orders with after=1)" in failed.message
    assert "hush" not in failed.message
    assert len(remote.requests) == 3


def test_the_same_records_twice_show_both_requests():
    with Remote(Reply(body=json_list(ORDERS[:5]))) as remote:
        failed = failure(api(remote, PageNumber(param="page", size=5), params={"key": "hush"}))
    assert failed.message == (
        "page 2 has the same records as page 1 "
        f"(GET {remote.url}/orders with page=2; before: GET {remote.url}/orders with page=1)"
    )


def test_a_total_that_goes_backwards_shows_both_requests():
    def answer(request):
        return Reply(body=by_offset(request).body.replace(b'"23"', b"22" if request.query["offset"] == "10" else b"23"))

    with Remote(answer) as remote:
        failed = failure(api(remote, OffsetLimit(param="offset", size=10, total=("total",)), records=("orders",)))
    assert failed.code == "total"
    assert "total went from 23 to 22" in failed.message
    assert "orders with offset=10; before: " in failed.message
    assert failed.message.endswith("orders with offset=0)")


@pytest.mark.parametrize(("total", "code"), [(None, None), ("30", "incomplete"), ("20", None)])
def test_a_status_that_means_the_end_is_one_unless_the_total_says_otherwise(total, code):
    def answer(request):
        number = int(request.query["page"])
        if number == 3:
            return Reply(404)
        return Reply(
            body=json_list([{"id": number * 10 + n} for n in range(10)]),
            headers={"X-Total-Count": total} if total else {},
        )

    with Remote(answer) as remote:
        pagination = PageNumber(param="page", size=10, total_header="X-Total-Count")
        source = api(remote, pagination, answers=Answers(empty=frozenset({404})))
        if code is None:
            assert len(read(source)) == 20
        else:
            assert failure(source).code == code


def test_an_endless_source_ends_at_the_cap_with_its_requests():
    def answer(request):
        number = len(remote.requests)
        return reply({"orders": [{"id": number}], "next": f"n{number}"})

    with Remote(answer) as remote:
        failed = failure(api(remote, NextCursor(param="after", cursor=("next",)), records=("orders",), max_pages=7))
    assert failed.code == "too_many_pages"
    assert "after=n6; before: " in failed.message
    assert len(remote.requests) == 7


@pytest.mark.parametrize("target", ["http://evil.invalid/x", "//evil.invalid/x", "file:///etc/passwd", "http://[x"])
@pytest.mark.parametrize("is_header", [True, False])
def test_a_link_to_elsewhere_is_not_followed(target, is_header):
    answer = reply({"orders": ORDERS[:5], "next": target}, Link=f"<{target}>; rel=next")
    with Remote(answer) as remote:
        pagination = LinkHeader() if is_header else NextUrl(url=("next",))
        assert failure(api(remote, pagination, records=("orders",))).code == "next_link"
    assert len(remote.requests) == 1


def test_a_link_to_a_host_that_the_feed_trusts_is_followed():
    with Remote(reply({"orders": ORDERS[5:]})) as other, Remote(lambda request: first) as remote:
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        first = reply({"orders": ORDERS[:5], "next": f"{elsewhere}/more"})
        source = api(
            remote, NextUrl(url=("next",), hosts=("localhost",)), records=("orders",), headers={"X-Key": "hush"}
        )
        assert failure(source).code == "foreign_origin"
        assert not other.requests
        assert read(replace(source, transport=Transport(other_origins=(elsewhere,)))) == ORDERS
    assert [(request.path, request.headers.get("x-key")) for request in other.requests] == [("/more", None)]


def test_a_cursor_of_an_earlier_version_is_still_read():
    stored = {
        "pages": 1,
        "at": {"page": 2, "received": 10, "full": True, "total": None},
        "digest": "0f",
        "mark": "0f",
    }
    with Remote(lambda request: Reply(body=json_list(ORDERS[10:20] if request.query["page"] == "2" else []))) as remote:
        (page, last) = api(remote, PageNumber(param="page", size=10)).pages(stored)
    assert (page.number, len(page.records), last.following) == (2, 10, None)
    assert page.following["at"] == {"page": 3, "received": 20, "full": True, "total": None}


def test_pages_that_did_not_change_still_lead_to_the_next(way):
    _, source = way
    known = {}

    class Known:
        def __init__(self, page):
            self.number, self.records, self.note = page.number, len(page.records), page.note

    for page in source.changed_pages(None, lambda number, digest: None):
        known[page.number, page.digest] = Known(page)
    again = list(source.changed_pages(None, lambda number, digest: known.get((number, digest))))
    assert [page.records for page in again] == [()] * len(known)
    assert [json.loads(bytes(record)) for page in again for record in page.reread().records] == ORDERS
