"""JsonApi against a real server: pages whole and in order, resumed anywhere, and no page where there is none."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.errors import ConfigurationError, RetryLater, RunFailed
from ingestion.http import Limits, Response, Retry
from ingestion.pagination import PageNumber, SinglePage
from ingestion.sources import JsonApi, split_records
from tests.remote import Raw, Remote, Reply, in_turn, json_list, json_pages

NO_RETRY = Retry(attempts=1)
PAGES = PageNumber(param="_page", size_param="_limit", size=10)
COUNTED = PageNumber(param="_page", size_param="_limit", size=10, total_header="X-Total-Count")
PHOTOS = [{"id": number} for number in range(1, 26)]


def api(remote, **options):
    return JsonApi(
        **{"url": f"{remote.url}/photos", "pagination": PAGES, "retry": NO_RETRY, "max_pages": 100, **options}
    )


def read(source, cursor=None):
    return [[json.loads(bytes(record)) for record in page.records] for page in source.pages(cursor)]


def failure(source):
    with pytest.raises(RunFailed) as raised:
        read(source)
    return raised.value


def one(body, **options):
    """Read a single page with this body."""
    reply = body if isinstance(body, Reply | Raw) else Reply(body=body)
    with Remote(reply) as remote:
        (records,) = read(api(remote, pagination=SinglePage(), **options))
    return records


def why_not(body, **options):
    reply = body if isinstance(body, Reply | Raw) else Reply(body=body)
    with Remote(reply) as remote:
        return failure(api(remote, pagination=SinglePage(), **options))


# Pages


def test_reads_every_page_in_order():
    with Remote(json_pages(PHOTOS)) as remote:
        pages = list(api(remote).pages(None))
    assert [page.number for page in pages] == [1, 2, 3]
    assert [len(page.records) for page in pages] == [10, 10, 5]
    assert json_list(bytes(record) for page in pages for record in page.records) == json_list(PHOTOS)
    assert [request["_page"] for request in remote.queries] == ["1", "2", "3"]
    assert {request["_limit"] for request in remote.queries} == {"10"}
    assert [page.following is None for page in pages] == [False, False, True]
    assert [page.size_bytes for page in pages] == [len(json_list(PHOTOS[at : at + 10])) for at in (0, 10, 20)]


def test_sends_the_parameters_and_headers_of_the_feed_beside_the_url_s_own():
    with Remote(json_pages(PHOTOS)) as remote:
        read(api(remote, url=f"{remote.url}/photos?key=1", params={"album": "7"}, headers={"X-Team": "blue"}))
    assert remote.queries[1] == {"key": "1", "album": "7", "_page": "2", "_limit": "10"}
    assert {request.headers["x-team"] for request in remote.requests} == {"blue"}
    assert {request.path for request in remote.requests} == {"/photos"}


def test_the_url_is_asked_for_when_it_is_needed():
    def unset():
        raise ConfigurationError("PHOTOS_API_URL is not set")

    source = JsonApi(url=unset, pagination=SinglePage())
    with pytest.raises(ConfigurationError, match="PHOTOS_API_URL"):
        read(source)
    with Remote(Reply(body=b"[]")) as remote:
        assert read(api(remote, url=lambda: remote.url, pagination=SinglePage())) == [[]]


def test_an_empty_collection_is_one_empty_page():
    with Remote(json_pages([])) as remote:
        assert read(api(remote)) == [[]]
        assert read(api(remote, pagination=COUNTED)) == [[]]
    assert len(remote.requests) == 2


def test_a_server_that_caps_the_page_size_is_read_to_its_end():
    with Remote(json_pages(PHOTOS, max_size=4, total_header=None)) as remote:
        assert read(api(remote)) == [PHOTOS[at : at + 4] for at in range(0, 25, 4)] + [[]]
    with Remote(json_pages(PHOTOS, max_size=4)) as remote:
        assert read(api(remote, pagination=COUNTED)) == [PHOTOS[at : at + 4] for at in range(0, 25, 4)]


def test_pages_are_fetched_one_at_a_time_as_they_are_asked_for():
    def endless(request):
        return Reply(body=json_list([{"id": f"{request.query['_page']}-{n}"} for n in range(10)]))

    with Remote(endless) as remote:
        pages = api(remote).pages(None)
        assert len(remote.requests) == 0
        assert [page.number for page in itertools.islice(pages, 3)] == [1, 2, 3]
        assert len(remote.requests) == 3
        pages.close()


def test_a_cursor_is_json_without_secrets():
    with Remote(json_pages(PHOTOS)) as remote:
        first = next(api(remote, url=f"{remote.url}/?key=hush", headers={"X-Key": "hush"}).pages(None))
    assert json.loads(json.dumps(first.following)) == first.following
    assert "hush" not in json.dumps(first.following)
    assert remote.url not in json.dumps(first.following)


@pytest.mark.parametrize("pagination", [PAGES, COUNTED], ids=["plain", "counted"])
@pytest.mark.parametrize("options", [{}, {"max_size": 3}, {"max_size": 10}], ids=str)
def test_resuming_at_any_cursor_gives_the_rest(pagination, options):
    with Remote(json_pages(PHOTOS, **options)) as remote:
        source = api(remote, pagination=pagination)
        pages = list(source.pages(None))
        for number, page in enumerate(pages[:-1], start=1):
            cursor = json.loads(json.dumps(page.following))
            rest = list(source.pages(cursor))
            assert [later.number for later in rest] == list(range(number + 1, len(pages) + 1))
            assert [later.following for later in rest] == [later.following for later in pages[number:]]
            assert [list(map(bytes, p.records)) for p in rest] == [list(map(bytes, p.records)) for p in pages[number:]]


# Loops


def pages_in_rounds(bodies):
    """Serve these pages over and over."""
    return lambda request: Reply(body=bodies[(int(request.query["_page"]) - 1) % len(bodies)])


def full_pages(count):
    return [json_list([{"id": page * 10 + n} for n in range(10)]) for page in range(count)]


def test_a_server_that_ignores_the_page_number_is_found_out_at_once():
    with Remote(pages_in_rounds(full_pages(1))) as remote:
        failed = failure(api(remote))
    assert failed.code == "pagination_loop"
    assert "page 2 has the same records as page 1" in str(failed)
    assert len(remote.requests) == 2


@pytest.mark.parametrize("length", [2, 3, 5, 8, 13])
def test_a_loop_of_any_length_is_found_within_three_rounds(length):
    with Remote(pages_in_rounds(full_pages(length))) as remote:
        failed = failure(api(remote))
    assert failed.code == "pagination_loop"
    assert len(remote.requests) <= 3 * length + 1


def test_a_loop_is_found_after_a_resume():
    with Remote(pages_in_rounds(full_pages(3))) as remote:
        source, cursor, found = api(remote), None, ""
        for _ in range(10):
            try:
                cursor = next(source.pages(cursor)).following
            except RunFailed as failed:
                found = failed.code
                break
    assert found == "pagination_loop"


def test_what_is_around_the_records_does_not_hide_a_loop():
    def answer(request):
        body = {"asked": request.query["_page"], "photos": [{"id": n} for n in range(10)]}
        return Reply(body=json.dumps(body).encode())

    with Remote(answer) as remote:
        assert failure(api(remote, records=("photos",))).code == "pagination_loop"


def test_a_last_page_served_again_and_again_is_a_loop():
    bodies = full_pages(2)
    with Remote(in_turn(Reply(body=bodies[0]), Reply(body=bodies[1]))) as remote:
        source = api(remote)
        pages = source.pages(None)
        assert [next(pages).number, next(pages).number] == [1, 2]
        with pytest.raises(RunFailed, match="pagination_loop"):
            next(pages)


def test_more_pages_than_the_cap_fail():
    with Remote(json_pages(PHOTOS)) as remote:
        assert failure(api(remote, max_pages=2)).code == "too_many_pages"
        assert len(read(api(remote, max_pages=3))) == 3


def test_contradicting_totals_fail_with_the_pages_before_kept():
    lying = {2: Reply(body=json_list(PHOTOS[10:20]), headers={"X-Total-Count": "24"})}
    with Remote(json_pages(PHOTOS, overrides=lying)) as remote:
        pages = api(remote, pagination=COUNTED).pages(None)
        assert len(next(pages).records) == 10
        with pytest.raises(RunFailed, match="went from 25 to 24"):
            next(pages)


# What a page is


@pytest.mark.parametrize("space", [b"", b" ", b"\r\n\t "])
def test_space_around_a_page_is_nothing(space):
    assert one(space + b"[" + space + b'{"id":1}' + space + b"]" + space) == [{"id": 1}]


def test_records_keep_their_own_bytes():
    body = b'[ {"b" :1, "a":1.10}\n,{"a":"\\u00e9\\/"} , null,7 ,"x",[ ] ]'
    with Remote(Reply(body=body)) as remote:
        (page,) = api(remote, pagination=SinglePage()).pages(None)
    assert [bytes(record) for record in page.records] == [
        b'{"b" :1, "a":1.10}',
        b'{"a":"\\u00e9\\/"}',
        b"null",
        b"7",
        b'"x"',
        b"[ ]",
    ]


def test_a_byte_order_mark_is_taken_off_once():
    assert one(b'\xef\xbb\xbf[{"id":1}]') == [{"id": 1}]
    assert why_not(b'\xef\xbb\xbf\xef\xbb\xbf[{"id":1}]').code == "not_json"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (("photos",), b'{"photos":[{"id":1}],"more":true}'),
        (("data", "photos"), b'{"meta":{"photos":[]},"data":{"n":1,"photos":[{"id":1}]}}'),
        (("a", "b", "c"), b'{"a":{"b":{"c":[{"id":1}]}}}'),
        (("",), b'{"":[{"id":1}]}'),
        (("é",), '{"é":[{"id":1}]}'.encode()),
        (("é",), b'{"\\u00e9":[{"id":1}]}'),
        (("photos",), b'{"photos":7,"photos":[{"id":1}]}'),
    ],
)
def test_records_may_be_inside_objects(path, body):
    assert one(body, records=path) == [{"id": 1}]
    # Where one record is bad, the others are found the same way.
    with_nan = body.replace(b'[{"id":1}]', b'[{"id":1},{"id":NaN}]')
    records = split_records(Response(status=200, headers={}, body=with_nan), path)
    assert [bytes(record) for record in records] == [b'{"id":1}', b'{"id":NaN}']


@pytest.mark.parametrize(
    ("path", "body", "found"),
    [
        ((), b'{"id":1}', '{"id":1}'),
        ((), b"null", "null"),
        ((), b'"text"', "text"),
        ((), b"7", "7"),
        ((), b'{"error":"rate limited"}', "rate limited"),
        (("photos",), b"[]", "[]"),
        (("photos",), b"{}", "no 'photos'"),
        (("photos",), b'{"photos":null}', "null"),
        (("photos",), b'{"photos":{"1":{}}}', '{"1":{}}'),
        (("photos",), b'{"photos":"none"}', "none"),
        (("data", "photos"), b'{"data":[]}', "[]"),
        (("data", "photos"), b'{"photos":[]}', "no 'data'"),
        (("data", "photos"), b'{"data":{"Photos":[]}}', "no 'photos'"),
    ],
)
def test_a_body_of_another_shape_fails_and_says_what_was_found(path, body, found):
    failed = why_not(body, records=path)
    assert failed.code == "shape"
    assert found in str(failed)
    assert (".".join(path) or "the top") in str(failed)


@pytest.mark.parametrize(
    "body",
    [
        b'[{"id":1},{"id":2',
        b'[{"id":1},{"id":2}',
        b'[{"id":1},',
        b"[",
        b"[]]",
        b"[][]",
        b'[{"id":1}]\n[{"id":2}]',
        b"[] trailing",
        b"[]\x00",
        b"[{'id':1}]",
        b"[{id:1}]",
        b'[{"id":1,}]',
        b'[{"id":1}{"id":2}]',
        b'[{"id":1},]',
        b"[,]",
        b'[{"id":01}]',
        b'[{"t":"an "unescaped" quote"}]',
        b"<!DOCTYPE html><html><body>Please log in</body></html>",
        b"Service unavailable",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'[{"a":' + b"[" * 5000 + b"]" * 5000 + b"}]",
        b'[{"id":NaN},',
        b'[{"id":NaN}] x',
        b'[{"id":nan}]',
    ],
    ids=lambda body: ascii(body)[:40],
)
def test_a_body_that_is_not_json_fails(body):
    assert why_not(body).code == "not_json"


@pytest.mark.parametrize("body", [b"", b" \r\n", b"\xef\xbb\xbf"])
def test_an_empty_body_fails(body):
    assert str(why_not(body)) == "not_json: empty body with status 200"
    assert why_not(Reply(204)).code == "not_json"


def test_html_with_status_200_fails_with_its_type_and_start():
    html = b"<!DOCTYPE html><html><title>Log in</title>" + b"<p>long</p>" * 1000
    failed = why_not(Reply(body=html, headers={"Content-Type": "text/html; charset=utf-8"}))
    assert failed.code == "not_json"
    assert "text/html" in str(failed)
    assert "<title>Log in</title>" in str(failed)
    assert len(str(failed)) < 400


@pytest.mark.parametrize(
    "body",
    [
        b"<a href='https://user:hush@host/x'>",
        b"<a href='/login?session=hush'>",
        b'<input name="csrf_token" value="hush">',
        b"?next=/ Token: hush",
        b'{"access_token": "hush"}',
        b'{"api_key":"hush"}',
        b'{"password" : "hush"}',
        b'{"clientSecret":"hush"}',
        b"<p>hush" + b"a1B2" * 10,
    ],
)
def test_the_start_of_a_body_is_shown_without_secrets(body):
    for found in (why_not(body), why_not(b" " * 100 + body)):
        assert "hush" not in str(found)
        assert "…" in str(found)


def test_a_cut_response_of_a_server_that_announces_no_length_may_be_whole_the_next_time():
    cut = Raw([b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", b'[{"id":1},{"id":2'])
    with Remote(cut) as remote, pytest.raises(RetryLater, match="the connection ended within the response: not_json"):
        read(api(remote, pagination=SinglePage()))
    whole = Raw([b"HTTP/1.1 200 OK\r\n\r\n", b'[{"id":1}]'])
    assert one(whole) == [{"id": 1}]
    object_ = Raw([b"HTTP/1.1 200 OK\r\n\r\n", b'{"id":1}'])
    assert why_not(object_).code == "shape"


def split(body, path=()):
    return split_records(Response(status=200, headers={}, body=body), path)


@pytest.mark.parametrize("member", [b"0", b'{"a":["],}"]}', b'"\\",[\\\\"'], ids=ascii)
def test_a_page_may_have_a_million_records_and_no_more(member):
    body = b" [" + (member + b",\n") * 999_999 + member + b"]"
    assert len(split(body)) == 1_000_000
    for more in (body[:-1] + b"," + member + b"]", body[:-1] + (b"," + member) * 2):
        with pytest.raises(RunFailed, match="too_many_records: more than 1,000,000 records"):
            split(more)


def test_a_million_commas_are_no_million_records():
    record = b'{"a":1,"b":[2,3],"c":{"d":4,"e":5},"f":"x,y"}'
    assert len(split(b"[" + (record + b",") * 150_000 + record + b"]")) == 150_001
    wrapped = b'{"n":[' + b"0," * 1_500_000 + b'0],"data":[{"id":1}]}'
    assert len(split(wrapped, ("data",))) == 1
    with pytest.raises(RunFailed, match="too_many_records"):
        split(wrapped, ("n",))


def test_an_object_around_the_records_may_not_have_a_million_names():
    with pytest.raises(RunFailed, match="too_many_records"):
        split(b'{"data":[]' + b',"x":0' * 1_000_001 + b"}", ("data",))


def test_good_records_are_not_looked_for_in_a_page_of_a_million_values():
    assert len(split(b"[" + b"0," * 999_999 + b"NaN]")) == 1_000_000
    with pytest.raises(RunFailed, match="not_json"):
        split(b"[[" + b"0," * 1_000_001 + b"NaN]]")


# Bad records in good pages


@pytest.mark.parametrize(
    "bad",
    [
        b'{"id":NaN}',
        b'{"id":[-Infinity,Infinity]}',
        b'{"t":"\\ud800"}',
        b'{"t":"\\ud800 and more text"}',
        b'{"\\udc00":1}',
        b'{"t":"a\nb"}',
        b'{"t":"\x00"}',
        b'{"t":"\xff"}',
        b'{"t":"\xff","n":NaN}',
        b'{"t":"\xed\xa0\x80","n":NaN}',
        b'{"n":' + b"1" * 5000 + b"}",
        b'{"n":' + b"1" * 5000 + b',"m":NaN}',
        b'{"n":1e400}',
        b'{"n":1e99999999999999999999,"m":NaN}',
        b"NaN",
        b'"\\ud800"',
        b'{"a":' + b"[" * 200 + b"]" * 200 + b',"m":NaN}',
        b'{"t":"]},{\\"","n":NaN}',
    ],
    ids=lambda bad: ascii(bad)[:40],
)
def test_a_bad_record_is_cut_out_and_the_others_are_read(bad):
    body = b'[{"id":1}, ' + bad + b' ,\n{"id":3}]'
    records = split_records(Response(status=200, headers={}, body=body), ())
    assert [bytes(record) for record in records] == [b'{"id":1}', bad, b'{"id":3}']


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(json_values, max_size=5), st.sampled_from([None, 2]), st.booleans())
def test_the_lenient_way_cuts_like_the_strict_one(values, indent, is_ascii):
    texts = [json.dumps(v, indent=indent, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass") for v in values]
    nested = b'{"x":[],"data":{"y":{},"records":[' + b" , ".join([*texts, b"NaN"]) + b"]}}"
    records = split_records(Response(status=200, headers={}, body=nested), ("data", "records"))
    assert [bytes(record) for record in records] == [*texts, b"NaN"]


# Encodings


@pytest.mark.parametrize(
    ("charset", "codec"),
    [
        ("utf-8", "utf-8"),
        ("UTF8", "utf-8"),
        ("utf-8", "utf-8-sig"),
        ("iso-8859-1", "latin-1"),
        ('"windows-1252"', "cp1252"),
        ("utf-16", "utf-16"),
        ("utf-16le", "utf-16-le"),
        ("UTF-32", "utf-32"),
        ("shift_jis", None),
    ],
)
def test_the_declared_charset_counts(charset, codec):
    title = "écran" if codec else "写真"
    body = json.dumps([{"title": title}], ensure_ascii=False).encode(codec or "shift_jis")
    reply = Reply(body=body, headers={"Content-Type": f"application/json; charset={charset}"})
    assert one(reply) == [{"title": title}]


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_an_undeclared_utf_16_is_not_guessed(codec):
    failed = why_not('[{"id":1}]'.encode(codec))
    assert failed.code == "encoding"
    assert "declares no charset" in str(failed)


@pytest.mark.parametrize("charset", ["klingon", "zip", "utf-16", "ascii\\x00", "rot13"])
def test_a_charset_that_does_not_fit_fails(charset):
    reply = Reply(body=b'[{"id":1}] ' + b"\xff", headers={"Content-Type": f"application/json; charset={charset}"})
    failed = why_not(reply)
    assert failed.code in ("encoding", "not_json")
    assert why_not(Reply(body=b"\xe9", headers={"Content-Type": "text/json; charset=utf-16"})).code == "encoding"


def test_names_around_the_records_must_be_text():
    failed = why_not(b'{"\xff":1,"photos":[]}', records=("photos",))
    assert failed.code == "encoding"


def test_limits_of_the_source_hold():
    with Remote(Reply(body=b"[" + b" " * 1000 + b"]")) as remote:
        failed = failure(api(remote, limits=Limits(body_bytes=1000)))
    assert failed.code == "response_too_large"
