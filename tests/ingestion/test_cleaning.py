"""Cleaning: what is loaded as it is, what is coerced, what is rejected and why.

Records are written as the bytes that a remote sends. Python's own JSON would not write most of them.
"""

import json

import pytest

from ingestion.cleaning import (
    KINDS,
    compile_columns,
)
from ingestion.errors import ConfigurationError
from tests.ingestion.cleaned import cleaned, column, raw, reason, rejection

BIGINT = (-(2**63), 2**63 - 1)


# Text

PRECIOUS = [
    "",
    " ",
    " padded ",
    "\t",
    "\n",
    "\r\n",
    "\\",
    "\\N",
    "\\.",
    "ends with \\",
    '"',
    "'",
    "\x01\x08\x0b\x0c\x1f\x7f",
    "\x85\u2028\u2029",
    "\u200e\u200f\u202e",
    "😀👩‍👩‍👧",
    "\ufffe\uffff\U0010ffff",
    "é",
    "e\u0301",
    "\ufeffbom",
    "{}%s{0}",
]


@pytest.mark.parametrize("value", PRECIOUS, ids=ascii)
def test_text_is_loaded_as_it_is(value):
    assert cleaned("text", value) == value
    assert cleaned("text", json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize("value", [b'"\\u0000"', b'"a\\u0000b"'])
def test_text_with_nul_is_rejected(value):
    assert reason("text", value) == "nul_character"


def test_text_may_have_just_as_many_characters_as_the_column():
    assert cleaned("text", "é😀x", max_length=3) == "é😀x"
    assert reason("text", "é😀xy", max_length=3) == "too_long"
    assert cleaned("text", "x" * 100_000) == "x" * 100_000


def test_spaces_beyond_the_length_count():
    # PostgreSQL would cut them without a word.
    assert reason("text", "abc ", max_length=3) == "too_long"


def test_text_is_cut_where_the_feed_says_so():
    assert cleaned("text", "é😀xy", max_length=3, truncate=True) == "é😀x"
    assert cleaned("text", "é", max_length=3, truncate=True) == "é"


def test_a_key_is_never_cut():
    assert reason("text", "abcd", max_length=3, truncate=True, is_key=True) == "too_long"


@pytest.mark.parametrize(
    ("value", "expected"), [(b"7", "7"), (b"-0", "0"), (b"12345678901234567890", "12345678901234567890")]
)
def test_whole_numbers_have_one_text(value, expected):
    assert cleaned("text", value) == expected


@pytest.mark.parametrize("value", [b"1.5", b"1.0", b"1e3", b"true", b"[]", b'{"a":1}'])
def test_what_has_no_one_text_is_rejected(value):
    assert reason("text", value) == "wrong_type"


def test_text_among_choices():
    choices = frozenset({"red", "7"})
    assert cleaned("text", "red", choices=choices) == "red"
    assert cleaned("text", b"7", choices=choices) == "7"
    assert reason("text", "Red", choices=choices) == "not_a_choice"
    assert reason("text", "", choices=choices) == "not_a_choice"
    assert cleaned("text", "redder", choices=choices, max_length=3, truncate=True) == "red"


# Integers


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"0", 0),
        (b"-7", -7),
        (b"1.0", 1),
        (b"-1.0", -1),
        (b"1e3", 1000),
        (b"1.5E1", 15),
        (b"0e99999", 0),
        (b"-0.0", 0),
        # A float would make 9007199254740992 of it.
        (b"9007199254740993.0", 9007199254740993),
        (b'"1"', 1),
        (b'" 1 "', 1),
        (b'"+1"', 1),
        (b'"-1"', -1),
        (b'"007"', 7),
        (b'"\\u00a01\\n"', 1),
    ],
)
def test_integral_values_become_integers(value, expected):
    number = cleaned("integer", value)
    assert number == expected
    assert type(number) is int


@pytest.mark.parametrize(
    "value",
    [
        b"1.5",
        b"1e-3",
        b"1.0000000000000000000001",  # a float would make 1 of it
        b"1e-400",
        b'"1.0"',
        b'"1e3"',
        b'"1,5"',
        b'"1 000"',
        b'"1_000"',
        b'"0x10"',
        b'"--1"',
        b'"one"',
        '"١"'.encode(),  # ARABIC-INDIC DIGIT ONE
        b'"' + b"1" * 41 + b'"',
        b'"' + b"1" * 5000 + b'"',
        b"true",
        b"[]",
        b"[1]",
        b"{}",
    ],
)
def test_what_is_not_integral_without_doubt_is_rejected(value):
    assert reason("integer", value) == "not_an_integer"


@pytest.mark.parametrize(
    ("low", "high"), [(-32768, 32767), (-2147483648, 2147483647), BIGINT, (0, 32767), (0, 2147483647)]
)
def test_both_ends_of_every_integer_range(low, high):
    for good in (low, high):
        assert cleaned("integer", good, limits=(low, high)) == good
        assert cleaned("integer", str(good), limits=(low, high)) == good
    for bad in (low - 1, high + 1):
        assert reason("integer", bad, limits=(low, high)) == "out_of_range"
        assert reason("integer", str(bad), limits=(low, high)) == "out_of_range"
        assert reason("integer", f"{bad}.0".encode(), limits=(low, high)) == "out_of_range"


@pytest.mark.parametrize("value", [b"9223372036854775808", b"1e300", b'"' + b"9" * 40 + b'"', b"1" * 4300])
def test_integers_past_bigint_are_out_of_range(value):
    assert reason("integer", value) == "out_of_range"


@pytest.mark.parametrize("value", ["", " ", "\t\n", "\u00a0"])
def test_blank_text_is_null_for_an_integer(value):
    assert cleaned("integer", value, null=True) is None
    assert cleaned("integer", value, default=5) == 5
    assert reason("integer", value) == "missing_value"
    assert reason("integer", value, is_key=True) == "missing_key"


def test_integers_among_choices():
    assert cleaned("integer", "2", choices=frozenset({1, 2})) == 2
    assert reason("integer", 3, choices=frozenset({1, 2})) == "not_a_choice"


# Booleans


@pytest.mark.parametrize("value", [b"true", b"1", b'"true"', b'"TRUE"', b'"t"', b'"yes"', b'" Yes "', b'"on"', b'"1"'])
def test_values_that_are_true(value):
    assert cleaned("boolean", value) is True


@pytest.mark.parametrize("value", [b"false", b"0", b'"false"', b'"False"', b'"f"', b'"no"', b'"off"', b'"0"'])
def test_values_that_are_false(value):
    assert cleaned("boolean", value) is False


@pytest.mark.parametrize(
    "value", [b"2", b"-1", b"1.0", b'"2"', b'""', b'"y"', b'"ja"', b'"null"', b"[]", b"{}", b"1" * 4300]
)
def test_values_that_are_neither(value):
    assert reason("boolean", value) == "not_a_boolean"


# JSON


@pytest.mark.parametrize(
    "value",
    [
        b"0",
        b"1.10",  # decoded and encoded again it would be 1.1
        b"12345678901234567890.123456789",
        b"1e-400",
        b"true",
        b'"text"',
        b'"\\\\u0000"',
        b'"\\ud83d\\ude00"',
        b'{"b":1,"a":[null,{}]}',
        b'{"a": 1, "a": 2}',
    ],
)
def test_json_is_taken_as_received(value):
    assert cleaned("json", value) == value.decode()
    (deeper,) = compile_columns([column("json", "a.b")])(raw(b'{"a":{"b":' + value + b"}}"))
    assert deeper == value.decode()


def test_json_null_is_null():
    assert cleaned("json", b"null", null=True) is None
    assert reason("json", b"null") == "missing_value"
    assert cleaned("json", b"null", default="{}") == "{}"


@pytest.mark.parametrize("value", [b'"\\u0000"', b'{"a\\u0000":1}', b'[[{"a":"\\\\\\u0000"}]]'])
def test_json_with_nul_in_a_key_or_value_is_rejected(value):
    assert reason("json", value) == "nul_character"
    whole = compile_columns([column("json", path=None)])
    assert rejection(whole, raw(b'{"x":' + value + b"}")).reason == "nul_character"


def test_nul_elsewhere_in_the_record_does_not_concern_a_column():
    (value,) = compile_columns([column("text")])(raw(b'{"v":"good","other":"\\u0000"}'))
    assert value == "good"


@pytest.mark.parametrize("record", [b'{"a":1}', b' { "a" :\t1.10 , "a": "\\u0041\\\\u0000"}\n', '{"é":"😀"}'.encode()])
def test_a_whole_record_is_its_text_as_received(record):
    (value,) = compile_columns([column("json", path=None)])(raw(record))
    assert value == record.decode()


def test_a_whole_record_as_text_obeys_the_column():
    assert compile_columns([column("text", path=None, max_length=7)])(raw(b'{"a":1}')) == ('{"a":1}',)
    too_long = compile_columns([column("text", path=None, max_length=6)])
    assert rejection(too_long, raw(b'{"a":1}')).reason == "too_long"


@pytest.mark.parametrize("kind", sorted(KINDS - {"json", "text"}))
def test_a_whole_record_needs_a_column_that_can_hold_it(kind):
    with pytest.raises(ConfigurationError, match="'c': the whole record needs a JSON or text column"):
        compile_columns([column(kind, path=None)])
