"""The fast way and the slow way give the same lines, keys and rejects on pages of generated dirty JSON text."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.cleaning import Column, text
from ingestion.errors import RunFailed
from ingestion.http import Response
from ingestion.preparation import MOST_REJECTS, Preparer
from ingestion.sources import split_records
from ingestion.types import Page
from tests.ingestion.test_preparation import KIND_COLUMNS

PLAIN = {"\\": "\\", "n": "\n", "t": "\t", "r": "\r"}
SPACES = st.sampled_from([b"", b"", b"", b" ", b"\n", b"\t", b"\r\n  "])
# Pieces of JSON strings, most of which were trouble somewhere.
PIECES = [
    *[b"a", b"7", b" ", b"x" * 21, "é😀".encode(), "\u2028\x7f\x85".encode(), b"now", b"2024-02-29", b"T10:00:00Z"],
    *[b"\\t", b"\\n", b"\\\\", b"\\N", b"\\/", b'\\"', b"\\u0000", b"\\\\u0000", b"\\u001d", b"\\u00e9", b"+", b"id"],
    *[b"\\ud83d\\ude00", b"\\ud800", b"\\udc00", b"\\x", b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\x00", b"\x1d"],
    *[b"\t", b"\n", b"]},{"],
]
STRINGS = st.lists(st.sampled_from(PIECES), max_size=3).map(lambda pieces: b'"' + b"".join(pieces) + b'"')
NUMBERS = st.sampled_from(
    [
        *[b"0", b"-0", b"1", b"7", b"1.0", b"1e3", b"1.5E1", b"-1.50", b"0.1", b"1e-7", b"1e-400", b"1e400", b"5e-324"],
        *[b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809", b"32768", b"1" * 4300, b"1" * 4301],
        *[b"0e99999999999", b"1e-16384", b"123456789012345678.12345678901234567", b"999.999", b"1700000000", b"NaN"],
        *[b"-Infinity", b"18446744073709551616", b"0.30000000000000004", b"1E+2", b"1700000000000.5"],
    ]
)
WORDS = st.sampled_from([b"null", b"true", b"false", b"null", b"[]", b"{}", b'""'])


def listed(parts):
    return b"[" + b",".join(parts) + b"]"


def record_of(members, space=b""):
    """Return an object of names and values as JSON text; names may come more than once."""
    return b"{" + b",".join(name + space + b":" + value + space for name, value in members) + b"}"


ID = Column(name="id", kind="integer", path=("id",), is_key=True)
VALUES = st.recursive(
    STRINGS | NUMBERS | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3).map(listed)
        | st.lists(st.tuples(STRINGS, inner), max_size=2).map(record_of)
        | st.tuples(inner, st.sampled_from([90, 97, 98, 99, 100, 101])).map(
            lambda pair: b"[" * pair[1] + pair[0] + b"]" * pair[1]
        )
    ),
    max_leaves=4,
)
KNOWN = {name: [json.dumps(value).encode() for value in values] for name, (_, values) in KIND_COLUMNS.items()}
TEXTS = {
    "short": Column(name="short", kind="text", path=("short",), max_length=5, null=True),
    "cut": Column(name="cut", kind="text", path=("cut",), max_length=5, truncate=True, default="none"),
    "nul": Column(
        name="nul", kind="text", path=("nul",), form=text("x", remove_nul=True, collapse=True).form, null=True
    ),
    "small": Column(name="small", kind="integer", path=("small",), limits=(0, 32767), default=7),
    "choice": Column(name="choice", kind="integer", path=("choice",), choices=frozenset({1, 7}), null=True),
}


@st.composite
def feeds(draw):
    """Draw the columns of a feed: a key, some columns of any kind at any depth, maybe the whole record."""
    kind, path = draw(st.sampled_from(["integer", "integer", "text", "uuid"])), ("id",)
    if draw(st.integers(0, 4)) == 0:
        path = ("meta", "id")
    columns = [Column(name="id", kind=kind, path=path, is_key=True)]
    for name in draw(st.lists(st.sampled_from(sorted([*KIND_COLUMNS, *TEXTS])), max_size=5, unique=True)):
        column = TEXTS[name] if name in TEXTS else KIND_COLUMNS[name][0]
        if column.path:
            inside = ("in",) if draw(st.integers(0, 3)) == 0 else ()
            column = replace(column, path=(*inside, name))
        columns.append(replace(column, name=name))
    if draw(st.booleans()):
        columns.append(Column(name="raw", kind="json", path=None))
    return tuple(columns)


@st.composite
def pages(draw, columns):
    """Draw a page's body: good records and, among them, dirty ones."""
    size = draw(st.integers(0, 45))
    good = draw(good_records(columns))
    texts = [good(number) for number in range(size)]
    for at in draw(st.lists(st.integers(0, 45), max_size=3)):
        texts.insert(at, draw(dirty_records(columns)))
    space = draw(SPACES)
    return b"[" + (b"," + space).join(texts) + b"]"


@st.composite
def good_records(draw, columns):
    """Draw what makes good records of numbers: the same members in each, with a key of its own."""
    space = draw(SPACES)
    members = [
        (column.path, KNOWN[column.name][0] if column.name in KNOWN else b'"7"' if column.kind == "text" else b"7")
        for column in columns[1:]
        if column.path
    ]
    if draw(st.booleans()):
        members.append((("extra",), draw(VALUES)))

    def good(number):
        key = {"integer": b"%d", "text": b'"%d"', "uuid": b'"0123abcd-0000-4000-8000-%012d"'}[columns[0].kind] % number
        return nested([(columns[0].path, key), *members], space)

    return good


@st.composite
def dirty_records(draw, columns):
    if draw(st.integers(0, 9)) == 0:
        return draw(VALUES)
    members = []
    dirty = draw(st.sets(st.sampled_from([column.name for column in columns]), max_size=2))
    for column in columns:
        if not column.path or (column.name in dirty and draw(st.integers(0, 7)) == 0):
            continue
        known = KNOWN.get(column.name, [b"7", b'"7"', b'" +7"', b"7.0", b'"0123ABCD-0000-4000-8000-00000000000F"'])
        value = st.sampled_from(known) | VALUES if column.name in dirty else st.just(known[0])
        members += [(column.path, draw(value)) for _ in range(draw(st.sampled_from([1, 1, 1, 1, 1, 2])))]
    if draw(st.booleans()):
        members.append((draw(st.sampled_from([("extra",), ("in", "x"), ("ID",)])), draw(VALUES)))
    return nested(draw(st.permutations(members)), draw(SPACES), is_escaped=draw(st.integers(0, 9)) == 0)


def nested(members, space, *, is_escaped=False):
    """Return the record that has the members at their paths; those of one object need not be together."""
    found, inside = [], {}
    for path, value in members:
        if len(path) == 1:
            found.append((path[0], value))
        else:
            inside.setdefault(path[0], []).append((path[1], value))
    found += [(name, record_of([(quoted(inner), value) for inner, value in inner])) for name, inner in inside.items()]
    return record_of([(quoted(name, is_escaped), value) for name, value in found], space)


def quoted(name, is_escaped=False):
    return b'"' + (f"\\u{ord(name[0]):04x}{name[1:]}" if is_escaped else name).encode() + b'"'


def exactly(value):
    """Read JSON text into what jsonb keeps of it: all digits, and the last of several equal names, in no order."""
    return json.loads(value, parse_int=str, parse_float=str)


def lines_of(prepared, columns):
    """Return the values of each line, still escaped but for JSON, whose space between tokens is free."""
    found = []
    for line in "".join(prepared.lines).split("\n")[:-1]:
        values = line.split("\t")
        for number, column in enumerate(columns):
            if column.kind == "json" and values[number] != r"\N":
                values[number] = exactly(re.sub(r"\\(.)", lambda escape: PLAIN[escape[1]], values[number]))
        found.append(values)
    return found


def assert_same(columns, body):
    try:
        records = split_records(Response(status=200, headers={}, body=body), ())
    except RunFailed:
        return None
    page = Page(number=3, records=records, size_bytes=len(body), following=None)
    preparer, slow_preparer = Preparer(columns), Preparer(columns)
    slow_preparer._encode_group = None
    fast, slow = preparer(page), slow_preparer(page)
    assert lines_of(fast, columns) == lines_of(slow, columns)
    for name in ("keys", "positions", "rejections", "coercions", "read", "skipped"):
        assert getattr(fast, name) == getattr(slow, name), name
    assert [type(key) for key in fast.keys] == [type(key) for key in slow.keys]
    return fast


@given(st.data())
def test_both_ways_agree_on_generated_dirty_json(data):
    columns = data.draw(feeds())
    assert_same(columns, data.draw(pages(columns)))


def test_most_generated_pages_reach_both_ways():
    """The grammar would be worth little if its pages were no pages, or never went the fast way."""
    found = {"pages": 0, "fast": 0, "rejects": 0, "coercions": 0}

    @settings(derandomize=True, database=None)
    @given(st.data())
    def look(data):
        columns = data.draw(feeds())
        prepared = assert_same(columns, data.draw(pages(columns)))
        if prepared is not None:
            found["pages"] += 1
            found["fast"] += len(prepared.lines) < len(prepared.positions)
            found["rejects"] += bool(prepared.rejections)
            found["coercions"] += bool(prepared.coercions)

    look()
    assert found["pages"] >= 70
    assert min(found.values()) >= 10, found


@pytest.mark.parametrize("number", [b"0e99999999999", b"1e-16384", b"0." + b"1" * 16_384, b"1e400", b"1" * 4301])
def test_both_ways_reject_a_number_that_no_column_takes_and_jsonb_cannot_hold(number):
    body = b'[{"id":1},{"id":2,"extra":[1.5,' + number + b',1e5]},{"id":3,"extra":1e-5}]'
    for columns in ([ID], [ID, Column(name="raw", kind="json", path=None)]):
        prepared = assert_same(columns, body)
        assert [(r.reason, r.position) for r in prepared.rejections] == [("out_of_range", 1)]
        assert list(prepared.keys) == [1, 3]


def test_a_page_with_more_rejects_than_memory_is_meant_for_fails_the_run():
    body = b"[" + b"{}," * MOST_REJECTS + b'{"id":1}]'
    page = Page(
        number=3, records=split_records(Response(status=200, headers={}, body=body), ()), size_bytes=1, following=None
    )
    assert len(Preparer([ID])(page).rejections) == MOST_REJECTS == 10_000
    with pytest.raises(RunFailed, match="reject_limit: more than 9,999 records of page 3 were rejected, the last one"):
        Preparer([ID], most_rejects=9_999)(page)
