r"""COPY's text format: literal bytes by hand, an independent decoder, and PostgreSQL itself."""

import itertools
import json

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion.cleaning import KINDS
from ingestion.encoding import ENCODERS, ESCAPES, encode_lines, escape
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
