"""PostgreSQL agrees with cleaning: whatever it accepts, COPY takes, and it comes out as it went in."""

import json
import string

import msgspec
import pytest
from django.db import connection
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ingestion.cleaning import Column, compile_columns
from ingestion.encoding import encode_lines
from ingestion.errors import RecordRejected
from ingestion.streams import StringIteratorIO

STRING_PARTS = [
    *["\\u0000", "\\\\u0000", "\\\\", "\\ud800", "\\udc00", "\\ud83d\\ude00", "\\u0001", "\\n", "\\/", "\\b", "\\N"],
    *["\\x", "\\u00", "\n", "\t", "\x00", "\x1f", "\x7f", "\x85", "\u2028", "\uffff", "a", "é", "😀"],
]
# JSON text that is mostly right: built of parts that each were trouble somewhere.
strings_json = st.one_of(
    st.text(max_size=6).map(json.dumps),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6).map(lambda t: json.dumps(t, ensure_ascii=False)),
    st.lists(st.sampled_from(STRING_PARTS), max_size=5).map(lambda parts: '"' + "".join(parts) + '"'),
)
numbers_json = st.one_of(
    st.integers().map(str),
    st.floats().map(json.dumps),
    st.builds(
        lambda sign, digits, zeros, fraction, exponent: sign + "9" * digits + "0" * zeros + fraction + exponent,
        st.sampled_from(["", "-", "+", "0"]),
        st.sampled_from([0, 1, 30, 4300, 5000]),
        st.sampled_from([0, 1]),
        st.sampled_from([0, 1, 9000, 16_383, 16_384, 17_000]).map(lambda ones: "." + "1" * ones if ones else ""),
        st.one_of(
            st.just(""),
            st.builds("e{}".format, st.sampled_from([308, 309, 400, -324, -8000, -16_383, -16_384, -99_999, 99_999])),
            st.sampled_from(["E+9", "e-1073741824", "e1073741824", "e99999999999999999999", "e-99999999999999999999"]),
        ),
    ),
)
values_json = st.recursive(
    st.sampled_from(["null", "true", "false", "nul", "NaN", "Infinity", "[,]"]) | numbers_json | strings_json,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda parts: "[" + ", ".join(parts) + "]")
        | st.lists(st.tuples(strings_json, inner), max_size=3).map(
            lambda pairs: "{" + ",\n".join(f"{name} : {value}" for name, value in pairs) + "}"
        )
    ),
    max_leaves=5,
)
records_json = st.builds(
    '{{"v":{},"t":{},"x":{}}}'.format,
    numbers_json | st.integers(-3, 3).map(str),
    strings_json | numbers_json,
    values_json,
).map(lambda text: text.encode("utf-8", "surrogatepass"))

COLUMNS = [
    Column(name="v", kind="integer", path=("v",), null=True),
    Column(name="t", kind="text", path=("t",), max_length=5, truncate=True, null=True),
    Column(name="x", kind="json", path=("x",), null=True),
    Column(name="b", kind="boolean", path=("b",), null=True),
    Column(name="whole", kind="json", path=None),
]
clean_all = compile_columns(COLUMNS)


def copied(records):
    """COPY the records that cleaning accepts, all or nothing; return what the database has of each."""
    rows = []
    for record in records:
        try:
            rows.append(clean_all(msgspec.Raw(record)))
        except RecordRejected:
            continue
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMP TABLE IF NOT EXISTS accepted"
            " (n serial, v bigint, t varchar(5), x jsonb, b boolean, whole jsonb)"
        )
        cursor.execute("TRUNCATE accepted")
        lines = encode_lines(rows, [column.kind for column in COLUMNS])
        cursor.copy_expert("COPY accepted (v, t, x, b, whole) FROM STDIN", StringIteratorIO(lines))
        assert cursor.rowcount == len(rows)
        cursor.execute("SELECT v, t, x::text, b, whole::text FROM accepted ORDER BY n")
        return cursor.fetchall()


@pytest.mark.django_db
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.lists(records_json, min_size=1, max_size=8))
@example([b'{"v":1,"t":"","x":1e-16384}'])
@example([b'{"v":1,"t":"","x":0e1073741824}'])
@example([b'{"v":0e-99999,"t":"","x":null}'])
@example([b'{"v":1,"t":"","x":{"\\u0000":1}}'])
def test_copy_never_refuses_what_cleaning_accepts(db, records):
    copied(records)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "character", [*string.printable, *"\x01\x08\x0b\x0c\x1f\x7f\x85\u2028\ufeff\uffff😀"], ids=ascii
)
def test_every_special_character_comes_out_as_it_went_in(character):
    record = json.dumps({"t": f"{character}a{character}", "x": {character: character}}).encode()
    ((_, text, nested_json, _, whole),) = copied([record])
    assert text == f"{character}a{character}"
    assert json.loads(nested_json) == {character: character}
    assert json.loads(whole) == json.loads(record)


@pytest.mark.django_db
def test_numbers_in_json_are_stored_digit_by_digit():
    ((_, _, nested_json, _, whole),) = copied([b'{"x":[1.10,12345678901234567890.12345678901234567890,1e-30,-0]}'])
    assert nested_json == "[1.10, 12345678901234567890.12345678901234567890, 0.000000000000000000000000000001, 0]"
    assert whole == '{"x": ' + nested_json + "}"
