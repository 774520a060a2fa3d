"""The fast way and the slow way give the same rows, keys and rejects, whatever a page holds."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.cleaning import UNSET, Column
from ingestion.http import Response
from ingestion.preparation import GROUP, Preparer
from ingestion.sources import split_records
from ingestion.types import Page

COLUMNS = (
    Column(name="id", kind="integer", path=("id",), is_key=True, limits=(-(2**63), 2**63 - 1)),
    Column(name="title", kind="text", path=("title",), max_length=20),
    Column(name="note", kind="text", path=("note",), null=True),
    Column(name="rank", kind="integer", path=("rank",), limits=(0, 32767), default=7),
    Column(name="flag", kind="boolean", path=("flag",), null=True),
    Column(name="colour", kind="text", path=("colour",), choices=frozenset({"red", "blue"}), default="red"),
    Column(name="raw", kind="json", path=None),
)


def prepare(body: bytes, *, slowly: bool = False, columns=COLUMNS):
    preparer = Preparer(columns)
    if slowly:
        preparer._encode_group = None
    records = split_records(Response(status=200, headers={}, body=body), ())
    return preparer(Page(number=1, records=records, size_bytes=len(body), following=None))


def rows(prepared):
    """Read the lines back into values; JSON as what it means, booleans as the database takes them."""
    plain = {"\\\\": "\\", r"\n": "\n", r"\t": "\t", r"\r": "\r"}
    found = []
    for line in "".join(prepared.lines).split("\n")[:-1]:
        values = []
        for value in line.split("\t"):
            pieces = value.split("\\\\")
            for escaped in (r"\n", r"\t", r"\r"):
                pieces = [piece.replace(escaped, plain[escaped]) for piece in pieces]
            values.append(None if value == r"\N" else "\\".join(pieces))
        if values[-1] is not None:
            values[-1] = json.loads(values[-1])
        found.append(values)
    return found


def same(body: bytes, columns=COLUMNS):
    fast, slow = prepare(body, columns=columns), prepare(body, slowly=True, columns=columns)
    assert rows(fast) == rows(slow)
    assert fast.keys == slow.keys
    assert fast.positions == slow.positions
    assert fast.rejections == slow.rejections
    return fast


texts = st.one_of(
    st.text(max_size=25),
    st.sampled_from(
        ["", "\t", "\n", "\r", "\\", r"\N", r"\.", "\x00", "\x1d", "\x1f", "é", "🦔", "nul \x00", "x" * 21]
    ),
)
anything = st.one_of(
    texts, st.none(), st.booleans(), st.integers(-(2**65), 2**65), st.floats(), st.lists(st.integers())
)
records = st.fixed_dictionaries(
    {},
    optional={
        "id": st.one_of(st.integers(1, 9), st.integers(1, 9).map(str), anything),
        "title": st.one_of(texts, texts, anything),
        "note": st.one_of(texts, anything),
        "rank": st.one_of(st.integers(-1, 32768), anything),
        "flag": st.one_of(st.booleans(), anything),
        "colour": st.one_of(st.sampled_from(["red", "blue", "green"]), anything),
        "extra": st.recursive(anything, lambda inner: st.dictionaries(texts, inner, max_size=2), max_leaves=3),
    },
)


def dumps(page, **options):
    """JSON text as a careless server writes it, but without NaN and Infinity, which make the page no JSON at all."""
    return (
        json.dumps(page, **options)
        .replace("NaN", "0.5")
        .replace("-Infinity", "1e400")
        .replace("Infinity", "1e400")
        .encode()
    )


@given(st.lists(records, max_size=8), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_both_ways_agree_on_generated_dirty_pages(page, indent, ascii_only):
    if not ascii_only and any("\ud800" <= c <= "\udfff" for c in repr(page)):
        ascii_only = True
    same(dumps(page, indent=indent, ensure_ascii=ascii_only))


good = st.fixed_dictionaries(
    {"id": st.integers(-(2**63), 2**63 - 1), "title": st.text(max_size=20), "note": st.text() | st.none()},
    optional={
        "rank": st.integers(0, 32767),
        "flag": st.booleans() | st.none(),
        "colour": st.sampled_from(["red", "blue"]),
    },
)


@given(st.lists(good, max_size=5), records, st.lists(good, max_size=5))
def test_both_ways_agree_on_one_dirty_record_among_good_ones(before, dirty, after):
    same(dumps([*before, dirty, *after]))


def clean_record(number, **changes):
    return {"id": number, "title": f"title {number}", "note": None, "rank": 1, "flag": True, "colour": "blue"} | changes


def test_a_clean_page_becomes_one_text():
    prepared = same(dumps([clean_record(number) for number in range(1000)]))
    assert (len(prepared.lines), prepared.keys[-1], prepared.rejections) == (1, 999, [])


def test_backslashes_and_escapes_do_not_send_a_page_the_slow_way():
    page = [clean_record(number, title='a "b" \\ é', note="\\N") for number in range(10)]
    prepared = same(dumps(page))
    assert len(prepared.lines) == 1
    assert rows(prepared)[3][1:3] == ['a "b" \\ é', "\\N"]


def test_one_bad_record_sends_only_its_group_the_slow_way():
    page = [clean_record(number) for number in range(1000)]
    page[500]["title"] = "x" * 21
    prepared = same(dumps(page))
    assert [(r.reason, r.position) for r in prepared.rejections] == [("too_long", 500)]
    assert len(prepared.lines) == 1000 // GROUP - 1 + GROUP - 1
    assert prepared.positions == [number for number in range(1000) if number != 500]


@pytest.mark.parametrize(
    "record",
    [
        b'{"id": 1, "title": "a", "x": "\\ud800"}',
        b'{"id": 1, "title": "\\ud83e\\udd94"}',
        b'{"id": 1, "title": "a", "x": "\\u0000"}',
        b'{"id": 1, "title": "a", "x": "\\\\u0000"}',
        b'{"id": 1, "title": "a", "\\u0000": 1}',
        b'{"id": 1, "title": "a", "x": 1e400}',
        b'{"id": 1, "title": "a", "x": ' + b"9" * 5000 + b"}",
        b'{"id": 1, "title": "a", "x": "\xff"}',
        b'{"id": 1, "title": "\xc3"}',
        b'{"id": 1, "title": "a", "title": "b"}',
        b'{"id": 1, "title": "a", "x": ' + b"[" * 99 + b"]" * 99 + b"}",
        b'{"id": 1, "title": "a", "x": ' + b"[" * 100 + b"]" * 100 + b"}",
        b'{"id": 1.0, "title": "a"}',
        b'{"id": "1", "title": 5}',
        b'{"id": true, "title": "a"}',
        b'{"id": 9223372036854775807, "title": "a"}',
        b'{"id": 9223372036854775808, "title": "a"}',
        b'{"id": 1, "title": "a", "note": null, "rank": null, "colour": null, "flag": "yes"}',
        b'{"id": 1, "title": "a\\u001d"}',
        b"null",
        b'"text"',
        b"[]",
        b"{}",
    ],
)
def test_both_ways_agree_on_records_at_the_edges(record):
    same(b"[" + record + b"]")
    same(b"[" + b",".join([dumps(clean_record(7)), record, dumps(clean_record(8))]) + b"]")


def test_an_empty_page_has_no_lines():
    prepared = same(b"[]")
    assert (rows(prepared), prepared.keys, prepared.rejections) == ([], [], [])


def test_composite_keys_and_columns_without_a_whole_record():
    columns = (
        Column(name="a", kind="integer", path=("a",), is_key=True),
        Column(name="b", kind="text", path=("b",), is_key=True, default=UNSET),
        Column(name="c", kind="json", path=("c",), null=True),
    )
    page = b'[{"a": 1, "b": "x", "c": {"d": [1]}}, {"a": "2", "b": "y"}, {"a": 3, "b": ""}]'
    prepared = same(page, columns=columns)
    assert prepared.keys == [(1, "x"), (2, "y")]
    assert [rejection.reason for rejection in prepared.rejections] == ["missing_key"]
