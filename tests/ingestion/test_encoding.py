r"""COPY's text format: literal bytes by hand, an independent decoder, and PostgreSQL itself."""

import datetime as dt
import ipaddress
import itertools
import json
from decimal import Decimal
from uuid import UUID

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion.cleaning import KINDS
from ingestion.encoding import ENCODERS, ESCAPES, encode_lines, escape, unescape
from ingestion.streams import StringIteratorIO

# What PostgreSQL's text can hold: everything but NUL and surrogates.
texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=40) | st.text(
    "\\\t\n\r\x0b\x0c\x85\u2028Nntrbfvx.01é😀", max_size=12
)


@pytest.mark.parametrize(
    ("plain", "escaped"),
    [
        ("", b""),
        ("plain", b"plain"),
        ("\\", b"\\\\"),
        ("\\N", b"\\\\N"),
        ("\\.", b"\\\\."),
        ("\\n", b"\\\\n"),
        ("ends with \\", b"ends with \\\\"),
        ("\\\\", b"\\\\\\\\"),
        ("a\tb", b"a\\tb"),
        ("a\nb", b"a\\nb"),
        ("a\rb", b"a\\rb"),
        ("a\r\nb", b"a\\r\\nb"),
        ("\\\n", b"\\\\\\n"),
        # These stand for themselves in COPY's text format.
        ("\x0b", b"\x0b"),
        ("\x0c", b"\x0c"),
        ("\x08", b"\x08"),
        ("\x1d", b"\x1d"),
        ("\x7f", b"\x7f"),
        ("\x85", b"\xc2\x85"),
        ("\u2028", b"\xe2\x80\xa8"),
        ("\u200f", b"\xe2\x80\x8f"),
        ("\uffff", b"\xef\xbf\xbf"),
        ("\U0010ffff", b"\xf4\x8f\xbf\xbf"),
        ("😀", b"\xf0\x9f\x98\x80"),
        ("e\u0301", b"e\xcc\x81"),
        ('"quoted"', b'"quoted"'),
        ("it's", b"it's"),
        ("NULL", b"NULL"),
    ],
)
def test_escapes_byte_by_byte(plain, escaped):
    assert escape(plain).encode() == escaped


def test_the_table_of_escapes_is_what_escape_does():
    assert ESCAPES == {"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    assert {chr(code): escape(chr(code)) for code in range(0x300) if escape(chr(code)) != chr(code)} == ESCAPES


def decode(line):
    """Read one line as PostgreSQL's documentation says, character by character; NULL is None."""
    values, value, characters = [], [], iter(line)
    for character in characters:
        if character == "\\":
            following = next(characters)
            value.append("\\N" if following == "N" else {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}[following])
        elif character in "\t\n":
            values.append(None if value == ["\\N"] else "".join(value))
            value = []
        else:
            value.append(character)
    assert value == [], "the line does not end with its newline"
    return values


@given(st.lists(st.none() | texts, min_size=1, max_size=4))
def test_a_line_decodes_to_the_values_it_was_made_of(row):
    (line,) = encode_lines([tuple(row)], ["text"] * len(row))
    assert line.count("\n") == 1
    assert decode(line) == row


def test_each_kind_and_its_null():
    rows = [("a\\", 7, True, '{"a": "\\n"}'), ("", -1, False, "null"), (None, None, None, None)]
    assert list(encode_lines(rows, ("text", "integer", "boolean", "json"))) == [
        'a\\\\\t7\tt\t{"a": "\\\\n"}\n',
        "\t-1\tf\tnull\n",
        "\\N\t\\N\t\\N\t\\N\n",
    ]


def test_every_kind_that_cleaning_knows_has_an_encoder():
    assert set(ENCODERS) == KINDS


def test_a_row_of_another_length_is_an_error():
    with pytest.raises(ValueError, match="shorter"):
        list(encode_lines([("a",)], ("text", "text")))
    with pytest.raises(ValueError, match="longer"):
        list(encode_lines([("a", "b")], ("text",)))


def test_an_unknown_kind_is_an_error_before_the_first_row():
    with pytest.raises(KeyError):
        list(encode_lines([], ("text", "colour")))


def test_encodes_an_endless_iterator_row_by_row():
    rows = itertools.count()
    lines = encode_lines(((number,) for number in rows), ("integer",))
    assert [next(lines), next(lines)] == ["0\n", "1\n"]
    assert next(rows) == 2


SECONDS = dt.timedelta(days=-1, seconds=5, microseconds=7)


@pytest.mark.parametrize(
    ("kind", "value", "line"),
    [
        ("decimal", Decimal("-12.50"), b"-12.50"),
        ("decimal", Decimal("1E+3"), b"1E+3"),
        ("float", 0.1, b"0.1"),
        ("float", 1e300, b"1e+300"),
        ("date", dt.date(1, 2, 3), b"0001-02-03"),
        ("time", dt.time(1, 2, 3, 4), b"01:02:03.000004"),
        ("timestamp", dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.UTC), b"2024-01-02 03:04:05+00:00"),
        ("duration", SECONDS, b"-1 days 5.000007 seconds"),
        ("uuid", "0123abcd-0000-4000-8000-00000000000f", b"0123abcd-0000-4000-8000-00000000000f"),
        ("uuid", UUID(int=1), b"00000000-0000-0000-0000-000000000001"),
        ("address", ipaddress.ip_address("2001:db8::1"), b"2001:db8::1"),
        ("binary", b"", rb"\\x"),
        ("binary", b"\x00\\\n\xff", rb"\\x005c0aff"),
        ("array", [], b"{}"),
        ("array", [1, None, -2], b'{"1",NULL,"-2"}'),
        ("array", [[True], [False]], b'{{"t"},{"f"}}'),
        ("array", ["", "NULL", "a,b", "{}"], b'{"","NULL","a,b","{}"}'),
        ("array", ['"'], rb'{"\\""}'),
        ("array", ["\\"], rb'{"\\\\"}'),
        ("array", ["\n\t\r"], rb'{"\n\t\r"}'),
        ("array", [SECONDS], b'{"-1 days 5.000007 seconds"}'),
        ("range", "empty", b"empty"),
        ("range", (1, 5, "[)"), b'["1","5")'),
        ("range", (None, Decimal("1.5"), "(]"), b'(,"1.5"]'),
        ("range", (None, None, "()"), b"(,)"),
    ],
)
def test_each_kind_byte_by_byte(kind, value, line):
    assert [encoded.encode() for encoded in encode_lines([(value,), (None,)], (kind,))] == [line + b"\n", b"\\N\n"]


# Depth and width are bounded by hypothesis; numbers are those that Python's own JSON keeps exactly.
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
rows = st.lists(
    st.tuples(st.none() | texts, st.none() | st.integers(-(2**63), 2**63 - 1), st.none() | st.booleans(), json_values),
    max_size=5,
)


@pytest.mark.django_db
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows)
def test_every_kind_comes_back_from_postgres_as_it_was(db, rows):
    lines = encode_lines([(t, i, b, json.dumps(j)) for t, i, b, j in rows], ("text", "integer", "boolean", "json"))
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE IF NOT EXISTS encoded (n serial, t text, i bigint, b boolean, j jsonb)")
        cursor.execute("TRUNCATE encoded")
        cursor.copy_expert("COPY encoded (t, i, b, j) FROM STDIN", StringIteratorIO(lines), 7)
        assert cursor.rowcount == len(rows)
        cursor.execute("SELECT t, i, b, j::text FROM encoded ORDER BY n")
        stored = [(t, i, b, json.loads(j)) for t, i, b, j in cursor.fetchall()]
    assert stored == rows


FIRST, LAST = dt.datetime.fromisoformat("0001-01-02"), dt.datetime.fromisoformat("9999-12-30")
MOMENTS = st.datetimes(FIRST, LAST, timezones=st.just(dt.UTC))
NUMERICS = st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9)
SMALL = st.integers(-(2**31), 2**31 - 1)
# A type of PostgreSQL, the values as cleaning makes them, and what psycopg2 makes of them.
STORED = {
    "decimal": ("numeric", NUMERICS, None),
    "float": ("double precision", st.floats(allow_nan=False, allow_infinity=False), None),
    "date": ("date", st.dates(), None),
    "time": ("time", st.times(), None),
    "timestamp": ("timestamptz", MOMENTS, None),
    "duration": ("interval", st.timedeltas(dt.timedelta(days=-(10**6)), dt.timedelta(days=10**6)), None),
    "uuid": ("uuid", st.uuids().map(str), str),
    "address": ("inet", st.ip_addresses(), ipaddress.ip_address),
    "binary": ("bytea", st.binary(max_size=30), bytes),
    "text[]": ("text[]", st.lists(st.none() | texts, max_size=4), None),
    "text[][]": ("text[]", st.lists(st.lists(texts, min_size=2, max_size=2), min_size=1, max_size=3), None),
    "integer[]": ("bigint[]", st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=4), None),
    "boolean[]": ("boolean[]", st.lists(st.none() | st.booleans(), max_size=4), None),
    "decimal[]": ("numeric[]", st.lists(NUMERICS, max_size=4), None),
    "timestamp[]": ("timestamptz[]", st.lists(MOMENTS, max_size=3), None),
    "duration[]": ("interval[]", st.lists(st.timedeltas(dt.timedelta(0), dt.timedelta(days=9)), max_size=3), None),
    "integer range": ("int4range", st.tuples(SMALL, SMALL).map(lambda ends: (*sorted(ends), "[)")), None),
    "timestamp range": ("tstzrange", st.tuples(MOMENTS, MOMENTS).map(lambda ends: (*sorted(ends), "[]")), None),
    "decimal range": ("numrange", NUMERICS.map(lambda number: (number, None, "()")), None),
}


def kind_of(name):
    return "array" if name.endswith("[]") else "range" if name.endswith("range") else name


def is_same(stored, value):
    if type(value) is not tuple:
        return stored == value
    if value[0] == value[1] and value[2] != "[]":
        return stored.isempty
    return (stored.lower, stored.upper, stored._bounds) == value


@pytest.mark.django_db
@pytest.mark.parametrize("name", STORED)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(data=st.data(), read_size=st.sampled_from([1, 7, 8192]))
def test_values_of_every_type_come_back_from_postgres_as_they_were(db, name, data, read_size):
    type_, strategy, read = STORED[name]
    values = data.draw(st.lists(st.none() | strategy, max_size=4))
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMP TABLE IF NOT EXISTS every (n serial, v {type_})")
        cursor.execute("TRUNCATE every")
        lines = encode_lines([(value,) for value in values], (kind_of(name),))
        cursor.copy_expert("COPY every (v) FROM STDIN", StringIteratorIO(lines), read_size)
        assert cursor.rowcount == len(values)
        cursor.execute("SELECT v FROM every ORDER BY n")
        stored = [read(v) if read and v is not None else v for (v,) in cursor.fetchall()]
    assert len(stored) == len(values)
    for after, before in zip(stored, values, strict=True):
        assert is_same(after, before)


def test_every_kind_is_tried_on_postgres():
    assert {kind_of(name) for name in STORED} | {"text", "integer", "boolean", "json"} == KINDS


@pytest.mark.parametrize("text", ["", "a", "\\", "\\N", "\\\\t", "a\tb\nc\rd\\", "\\t\\n\\r", "\\\t\\\n"])
def test_unescape_undoes_escape(text):
    assert unescape(escape(text)) == text
