"""What a page is, and which records it has: bad ones among good ones, too many, in any encoding."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.errors import RetryLater, RunFailed
from ingestion.http import Limits, Response
from ingestion.pagination import SinglePage
from ingestion.sources import split_records
from tests.ingestion.json_api import api, failure, read
from tests.remote import Raw, Remote, Reply


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


@pytest.mark.parametrize("charset", ["klingon", "zip", "utf-16", "ascii\\x00", "rot13", "Punycode", "idna"])
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
