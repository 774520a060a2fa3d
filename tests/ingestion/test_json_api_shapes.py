"""Records that are not a plain list: lines, lists inside records, values around them, children of other records."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.auth import Login
from ingestion.errors import ConfigurationError, RetryLater, RunFailed
from ingestion.http import Answers, Retry, Transport
from ingestion.pagination import Keyset, NextCursor, NextUrl, PageNumber, SinglePage
from ingestion.sources import Csv, ForEach, JsonApi, Ndjson
from ingestion.sources.shaping import DIGESTED, digest_of, expanded, with_members
from ingestion.types import Record
from tests.remote import Raw, Remote, Reply


def api(remote, path="/", **options):
    return JsonApi(
        **{"url": remote.url + path, "pagination": SinglePage(), "retry": Retry(attempts=1), "max_pages": 50, **options}
    )


def read(source, cursor=None):
    return [json.loads(bytes(record)) for page in source.pages(cursor) for record in page.records]


def one(reply, **options):
    with Remote(reply) as remote:
        return read(api(remote, **options))


def body(value):
    return Reply(body=json.dumps(value).encode())


# NDJSON and CSV


def test_ndjson_is_read_line_by_line():
    assert one(Reply(body=b'{"id":1}\n\n{"id":2}\n'), format=Ndjson()) == [{"id": 1}, {"id": 2}]
    assert one(Reply(body=b'{"id":1}\n{"id":2}'), format=Ndjson()) == [{"id": 1}, {"id": 2}]
    assert one(Reply(), format=Ndjson()) == []


def test_csv_is_read_with_its_header_and_its_bad_lines_are_refused():
    with Remote(Reply(body=b'id;name\n1;"a\nb"\n2\n3;c\n')) as remote:
        (page,) = api(remote, format=Csv(delimiter=";")).pages(None)
    assert [json.loads(bytes(page.records[number])) for number in (0, 2)] == [
        {"id": "1", "name": "a\nb"},
        {"id": "3", "name": "c"},
    ]
    assert list(page.refused) == [1]


def test_pages_of_lines_are_read_to_their_end():
    def answer(request):
        after = int(request.query.get("after", 0))
        return Reply(body=b"".join(b'{"id":%d}\n' % number for number in range(after + 1, min(after + 4, 8))))

    with Remote(answer) as remote:
        source = api(remote, format=Ndjson(), pagination=Keyset(param="after", field=("id",), size=3))
        assert [record["id"] for record in read(source)] == [1, 2, 3, 4, 5, 6, 7]


def test_lines_that_may_have_been_cut_are_asked_for_again():
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    with pytest.raises(RetryLater, match="in the middle of a line"):
        one(Raw(blocks=[head + b'{"id":1}\n{"id":2}']), format=Ndjson())
    assert one(Raw(blocks=[head + b'{"id":1}\n']), format=Ndjson()) == [{"id": 1}]


@pytest.mark.parametrize("form", [Csv(), Ndjson()])
def test_a_page_for_people_is_no_lines(form):
    with pytest.raises(RunFailed, match=r"shape: expected \w+, the remote answered text/html"):
        one(Reply(body=b"<html>\n", headers={"Content-Type": "text/html"}), format=form)


@pytest.mark.parametrize(
    "options",
    [
        {"pagination": NextCursor(param="a", cursor=("next",))},
        {"pagination": PageNumber(param="a", size=1, total=("total",))},
        {"envelope": {"at": ("at",)}},
        {"records": ("rows",)},
    ],
)
def test_lines_have_nothing_around_them(options):
    with pytest.raises(ConfigurationError, match="nothing around its records"):
        JsonApi(**{"url": "http://localhost", "pagination": SinglePage(), "format": Csv(), **options})


# Around and inside


def test_what_is_around_the_records_comes_into_each():
    reply = body({"meta": {"at": "now", "tags": [1]}, "rows": [{"id": 1}, {}, 7]})
    envelope = {"at": ("meta", "at"), "tags": ("meta", "tags"), "none": ("meta", "none", "deeper")}
    around = {"at": "now", "tags": [1], "none": None}
    assert one(reply, records=("rows",), envelope=envelope) == [around | {"id": 1}, around, 7]


def test_a_list_inside_each_record_is_taken_apart():
    orders = [{"id": 1, "lines": [{"n": 1}, {"n": 2}]}, {"id": 2, "lines": []}, {"id": 3}, {"id": 4, "lines": {"n": 3}}]
    assert one(body(orders), expand="lines", parent_as="order") == [
        {"order": {"id": 1}, "n": 1},
        {"order": {"id": 1}, "n": 2},
        {"order": {"id": 4}, "n": 3},
    ]


@pytest.mark.parametrize(
    "bad", [b"7", b'{"lines":7}', b'{"lines":"a"}', b'{"lines":[1,}', b'{"id":NaN}', b'{"\xff":1}']
)
def test_what_cannot_be_taken_apart_is_left_for_the_quarantine(bad):
    assert [bytes(record) for record in expanded(Record(bad), "lines", "order")] == [bad]


@pytest.mark.parametrize(
    "crowd",
    [
        b'{"lines":[' + b"1," * 1_000_000 + b"1]}",
        b"{" + b",".join(b'"a%d":1' % number for number in range(1_000_001)) + b"}",
    ],
    ids=["list", "record"],
)
def test_a_crowd_inside_of_a_record_is_refused_before_there_is_an_object_for_each(crowd):
    with pytest.raises(RunFailed, match="too_many_records"):
        next(expanded(Record(crowd), "lines", "order"))


def test_pages_are_counted_by_what_was_received_and_not_by_what_it_was_taken_apart_to():
    def answer(request):
        start = (int(request.query["page"]) - 1) * 2
        return body(
            [{"id": number, "lines": [{"n": number}] * (number % 3)} for number in range(start, min(start + 2, 5))]
        )

    with Remote(answer) as remote:
        source = api(remote, pagination=PageNumber(param="page", size=2), expand="lines")
        assert [record["n"] for record in read(source)] == [1, 2, 2, 4]
        known = {}
        for page in source.changed_pages(None, lambda number, digest: None):
            known[page.number] = type("Known", (), {"number": page.number, "records": 0, "note": page.note})
        assert len(list(source.changed_pages(None, lambda number, digest: known[number]))) == 3
    assert [request.query["page"] for request in remote.requests] == ["1", "2", "3"] * 3


JSON = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner), max_leaves=5
)


@given(
    record=st.dictionaries(st.text(), JSON), members=st.dictionaries(st.text(), JSON), indent=st.sampled_from([None, 1])
)
def test_members_are_added_before_the_record_s_own(record, members, indent):
    text = json.dumps(record, indent=indent, ensure_ascii=False).encode("utf-8", "replace")
    assert json.loads(bytes(with_members(Record(text), members))) == {**members, **json.loads(text)}


# One record and no list


@pytest.mark.parametrize(
    ("reply", "options", "expected"),
    [
        (b' {"id": 1} ', {}, [{"id": 1}]),
        (b'{"data": {"order": {"id": 1}}, "n": 2}', {"records": ("data", "order")}, [{"id": 1}]),
        (b'{"n": NaN, "order": {"id": 1}}', {"records": ("order",)}, [{"id": 1}]),
        (b'{"id": 1, "lines": [{"n": 1}, {"n": 2}]}', {"expand": "lines"}, [1, 2]),
        (b' {"id": 1, "at": 7}', {"envelope": {"of": ("at",)}}, [{"of": 7, "id": 1, "at": 7}]),
        (b'{"order": {"id": 1}, "at": 7}', {"records": ("order",), "envelope": {"at": ("at",)}}, [{"at": 7, "id": 1}]),
    ],
)
def test_a_single_record_is_read_as_a_page_of_one(reply, options, expected):
    found = one(Reply(body=reply), single=True, **options)
    assert [record.get("n", record) for record in found] == expected


def test_a_single_record_that_json_does_not_allow_is_kept_to_be_rejected():
    with Remote(Reply(body=b'{"id": 1, "n": NaN}')) as remote:
        (page,) = api(remote, single=True).pages(None)
    assert [bytes(record) for record in page.records] == [b'{"id": 1, "n": NaN}']


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (b'[{"id": 1}]', "shape: expected a single record at order"),
        (b'{"order": [{"id": 1}]}', "shape"),
        (b'{"order": null}', "shape"),
        (b'{"error": "no such order"}', "shape"),
        (b'"order"', "shape"),
        (b'{"order": {"id": 1}} {"order": {"id": 2}}', "not_json"),
        (b'{"order": {"id": 1}', "not_json"),
        (b"", "not_json"),
        (b"[" * 100_000, "not_json"),
        (b'{"order": {"id": 1}, \xff: 1}', "encoding"),
    ],
)
def test_what_is_no_single_record_fails(reply, code):
    with pytest.raises(RunFailed, match=code):
        one(Reply(body=reply), single=True, records=("order",))


def test_one_record_where_a_list_was_declared_says_what_to_declare():
    with pytest.raises(RunFailed, match=r"expected a list of records at the top, found .* with single=True"):
        one(Reply(body=b'{"id": 1}'))


def test_each_row_s_own_endpoint_answers_with_one_record():
    def answer(request):
        if request.path == "/shelves":
            return body([{"id": 1}, {"id": 2}])
        return body({"shelf": request.path.rpartition("/")[2]})

    with Remote(answer) as remote:
        source = ForEach(
            parents=api(remote, "/shelves"), field=("id",), source=api(remote, "/shelves/{parent}", single=True)
        )
        assert read(source) == [{"shelf": "1"}, {"shelf": "2"}]


# Children


def shelves(request):
    """Serve three pages of shelves, the second one empty, and the books of each shelf, two a page."""
    if request.path == "/shelves":
        number = int(request.query.get("page", 0))
        return body(
            {"shelves": [[{"id": 1}, {"id": "b"}], [], [{"id": 3}]][number], "next": number + 1 if number < 2 else ""}
        )
    shelf = request.path.split("/")[2]
    books = [{"shelf": shelf, "n": n} for n in range({"1": 3, "b": 0, "3": 5}[shelf])]
    page = int(request.query["page"])
    return body(books[page * 2 - 2 : page * 2])


def children(remote, **options):
    parents = api(remote, "/shelves", pagination=NextCursor(param="page", cursor=("next",)), records=("shelves",))
    books = api(remote, "/shelves/{parent}/books", pagination=PageNumber(param="page", size=2))
    return ForEach(**{"parents": parents, "field": ("id",), "source": books, **options})


BOOKS = [("1", 0), ("1", 1), ("1", 2), *(("3", n) for n in range(5))]


def test_the_children_of_every_parent_are_read_with_its_value():
    with Remote(shelves) as remote:
        found = read(children(remote, parent_as="of"))
        pages = list(children(remote).pages(None))
    assert [(book["shelf"], book["n"]) for book in found] == BOOKS
    assert [book["of"] for book in found] == [1, 1, 1, 3, 3, 3, 3, 3]
    assert [page.number for page in pages] == list(range(1, len(pages) + 1))
    assert [page.following is None for page in pages] == [False] * (len(pages) - 1) + [True]


@pytest.mark.parametrize("concurrency", [1, 2])
def test_all_pages_of_parents_are_read_with_one_login(concurrency):
    def answer(request):
        return Reply(body=b'{"token": "t0ken-of-the-login"}') if request.method == "POST" else shelves(request)

    with Remote(answer) as remote:
        login = Login(url=remote.url + "/login", fields={}, token=("token",))
        source = children(remote, concurrency=concurrency)
        source = replace(source, parents=replace(source.parents, auth=login))
        pages = source.pages(None) if concurrency == 1 else source.pages_at_once(None, None, at_once=2, max_bytes=9999)
        assert sum(len(page.records) for page in pages) == len(BOOKS)
        parents = [request for request in remote.requests if request.path == "/shelves"]
        assert {request.headers["authorization"] for request in parents} == {"Bearer t0ken-of-the-login"}
        assert (len(parents), [request.method for request in remote.requests].count("POST")) == (3, 1)


def test_reading_goes_on_at_any_child_and_asks_for_no_parents_again():
    with Remote(shelves) as remote:
        pages = list(children(remote).pages(None))
        for number, page in enumerate(pages[:-1], start=1):
            cursor = json.loads(json.dumps(page.following))
            before = len(remote.requests)
            rest = [bytes(record) for later in pages[number:] for record in later.records]
            again = list(children(remote).pages(cursor))
            assert [bytes(record) for later in again for record in later.records] == rest
            assert [later.number for later in again] == [later.number for later in pages[number:]]
            asked = [request.query.get("page") for request in remote.requests[before:] if request.path == "/shelves"]
            assert None not in asked


def test_children_of_a_parent_that_is_gone_are_none_where_the_feed_says_so():
    def answer(request):
        return Reply(404) if request.path == "/shelves/b/books" else shelves(request)

    with Remote(answer) as remote:
        with pytest.raises(RunFailed, match="http_status"):
            read(children(remote))
        books = replace(children(remote).source, answers=Answers(empty=frozenset({404})))
        assert [(book["shelf"], book["n"]) for book in read(children(remote, source=books))] == BOOKS


def test_batches_are_asked_for_in_one_request():
    def answer(request):
        if request.path == "/shelves":
            return body([{"id": number} for number in (1, 2, 2, 3, "a&b")])
        sent = json.loads(request.body)
        return body([{"id": value} for value in sent["ids"]])

    with Remote(answer) as remote:
        source = ForEach(
            parents=api(remote, "/shelves"),
            field=("id",),
            source=api(
                remote,
                "/find",
                method="POST",
                body={"ids": "{parents}", "q": ["id in {parent}"]},
                params={"i": "{parent}"},
            ),
            batch=3,
        )
        assert read(source) == [{"id": 1}, {"id": 2}, {"id": 3}, {"id": "a&b"}]
    assert [request.query["i"] for request in remote.requests[1:]] == ["1,2,3", "a&b"]
    assert json.loads(remote.requests[1].body) == {"ids": [1, 2, 3], "q": ["id in 1,2,3"]}
    assert remote.accepted == 2


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_parent_s_value_goes_in_headers_of_its_children_s_requests_alone(concurrency):
    def answer(request):
        if request.path == "/shelves":
            return body([{"id": 1}, {"id": "b c"}, {"id": 3}])
        return body([{"of": request.headers["x-shelf"], "key": request.headers["x-key"]}])

    with Remote(answer) as remote:
        found = api(remote, "/books", headers={"X-Shelf": "no. {parent}", "X-Key": "k"})
        source = children(remote, parents=api(remote, "/shelves"), source=found, concurrency=concurrency)
        pages = source.pages(None) if concurrency == 1 else source.pages_at_once(None, None, at_once=2, max_bytes=9999)
        records = [json.loads(bytes(record)) for page in pages for record in page.records]
        assert records == [{"of": f"no. {shelf}", "key": "k"} for shelf in ("1", "b c", "3")]
        assert [json.loads(bytes(page.records[0]))["of"] for page in source.of([7, 8]).pages(None)] == [
            "no. 7",
            "no. 8",
        ]
        assert "x-shelf" not in remote.requests[0].headers


def test_a_parent_s_value_in_a_header_does_not_follow_links_to_others():
    with Remote(body({"list": [{"id": 2}]})) as other:
        first = body({"list": [{"id": 1}], "next": other.url + "/2"})
        with Remote(lambda request: body([{"id": "b"}]) if request.path == "/shelves" else first) as remote:
            found = api(
                remote,
                "/books",
                records=("list",),
                pagination=NextUrl(url=("next",), hosts=("127.0.0.1",)),
                headers={"X-Shelf": "{parent}"},
                transport=Transport(other_origins=(other.url,)),
            )
            assert len(read(children(remote, parents=api(remote, "/shelves"), source=found))) == 2
    assert remote.requests[1].headers["x-shelf"] == "b"
    assert "x-shelf" not in other.requests[0].headers


@pytest.mark.parametrize("value", ["1\r\nX-Key: stolen", "1\n", "1\r", " 1", "1\t", "\x7f", "ü", "€"])
def test_a_parent_s_value_that_no_header_can_hold_fails(value):
    with Remote(body([{"id": "good"}, {"id": value}])) as remote:
        found = api(remote, "/books", headers={"X-Shelf": "{parent}"})
        with pytest.raises(RunFailed, match=r"cursor: .* X-Shelf"):
            read(children(remote, parents=api(remote, "/shelves"), source=found))
    assert [request.headers.get("x-shelf") for request in remote.requests] == [None, "good"]


@pytest.mark.parametrize("value", [None, "", ".", "..", True, [1], {}, "a\x00", "\ud800"])
def test_a_parent_without_a_value_that_can_be_asked_with_fails(value):
    with Remote(body([{"id": value}])) as remote, pytest.raises(RunFailed, match="cursor: "):
        read(children(remote, parents=api(remote, "/shelves")))
    assert len(remote.requests) == 1


def test_too_many_parents_in_a_page_fail():
    with Remote(body([{"id": number} for number in range(10_001)])) as remote, pytest.raises(RunFailed, match="10,000"):
        read(children(remote, parents=api(remote, "/shelves")))


def test_children_that_are_all_asked_for_in_the_same_way_fail():
    with Remote(shelves) as remote, pytest.raises(ConfigurationError, match=r"has \{parent\}"):
        read(children(remote, source=api(remote, "/shelves/1/books", method="POST", body={"ids": "parents"})))
    assert [request.path for request in remote.requests] == ["/shelves"]


@pytest.mark.parametrize("options", [{"batch": 0}, {"batch": 2, "parent_as": "of"}, {"field": ()}, {"field": "id"}])
def test_mistakes_of_for_each(options):
    with Remote(Reply()) as remote, pytest.raises(ConfigurationError, match="ForEach"):
        children(remote, **options)


def test_pages_have_one_digest_when_they_are_equal_and_only_then():
    def digest(*records):
        return digest_of([Record(record) for record in records])

    ends = b"x" * DIGESTED
    assert digest(ends + b"1" + ends) == digest(ends + b"1" + ends)
    different = [
        digest(b"1"),
        digest(b"1", b"2"),
        digest(b"2", b"1"),
        digest(ends + b"1" + ends),
        digest(ends + b"2" + ends),
        digest(ends + b"11" + ends),
        digest(b"1" + ends * 3),
        digest(ends * 3 + b"1"),
    ]
    assert len(set(different)) == len(different)
    assert digest() == ""
