"""Cleaning of numbers, dates, times, identifiers, bytes, arrays and ranges: value by value, with what is counted."""

import datetime as dt
import ipaddress
from decimal import Decimal
from uuid import UUID

import pytest

from ingestion import cleaning
from ingestion.cleaning import Column
from tests.ingestion.counted import cleaned, column, reason, utc

PRICE = {"max_digits": 5, "decimal_places": 2}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"0.1", "0.1"),
        (b"0.10", "0.10"),
        (b"999.99", "999.99"),
        (b"-999.99", "-999.99"),
        (b"7", "7"),
        (b'"12.50"', "12.50"),
        (b"1.5e2", "1.5E+2"),
        (b"1.500", "1.50"),
        (b"0e99999", "0"),
        (b"0.000", "0"),
    ],
)
def test_decimals_are_exact(value, expected):
    assert cleaned("decimal", value, **PRICE) == (Decimal(expected), [])


def test_a_decimal_never_goes_through_a_float():
    digits = b"12345678901234567890.12345678901234567890"
    assert str(cleaned("decimal", digits)[0]) == digits.decode()
    assert str(cleaned("decimal", digits, max_digits=40, decimal_places=20)[0]) == digits.decode()


@pytest.mark.parametrize("value", [b"1000", b"1000.00", b'"1000"', b"1e3", b"-1000", b"1e300", b"9" * 400])
def test_decimals_with_too_many_digits_are_out_of_range(value):
    assert reason("decimal", value, **PRICE) == "out_of_range"


@pytest.mark.parametrize("value", [b"0.001", b"1e-3", b'"0.125"', b"999.999"])
def test_more_decimals_than_the_column_has_are_rejected(value):
    assert reason("decimal", value, **PRICE) == "too_precise"


@pytest.mark.parametrize(
    ("rounding", "value", "expected"),
    [
        ("half_even", b"0.125", "0.12"),
        ("half_up", b"0.125", "0.13"),
        ("down", b"0.129", "0.12"),
        ("half_up", b"-0.125", "-0.13"),
    ],
)
def test_decimals_are_rounded_where_the_feed_says_so(rounding, value, expected):
    rule = cleaning.decimal("v", rounding=rounding)
    assert cleaned("decimal", value, rule, **PRICE) == (Decimal(expected), ["c:round"])
    assert cleaned("decimal", b"0.12", rule, **PRICE) == (Decimal("0.12"), [])


def test_rounding_up_can_be_too_much():
    assert reason("decimal", b"999.999", cleaning.decimal("v", rounding="half_up"), **PRICE) == "out_of_range"


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1,5", "1.5"), ("1.234,5", "1234.5"), ("-1.234.567,89", "-1234567.89"), ("1234,5", "1234.5")],
)
def test_a_comma_is_read_where_the_feed_says_so(value, expected):
    rule = cleaning.decimal("v", comma=True, thousands=".")
    assert cleaned("decimal", value, rule) == (Decimal(expected), ["c:text"])
    assert reason("decimal", value) == "not_a_number"


@pytest.mark.parametrize("value", ["1.23,5", "12.5", "1,234.5", "1.2345,6", "1,5,6", ",", "1..234"])
def test_what_does_not_follow_the_declared_form_is_rejected(value):
    assert reason("decimal", value, cleaning.decimal("v", comma=True, thousands=".")) == "not_a_number"


@pytest.mark.parametrize(
    "value", ["1_000", "0x1", "one", "1 000", "١", "--1", "1e", ".", b"true", b"[]", b"{}", "1" * 1001]
)
def test_what_is_no_number_is_rejected(value):
    for kind in ("decimal", "float"):
        assert reason(kind, value) == "not_a_number"


@pytest.mark.parametrize("value", ["NaN", "nan", "Infinity", "-inf"])
def test_numbers_that_are_not_finite_are_rejected(value):
    for kind in ("decimal", "float"):
        assert reason(kind, value) == "non_finite_number"


@pytest.mark.parametrize("value", ["+1", " 1 ", "1e0", "1."])
def test_other_forms_of_numbers_are_counted(value):
    assert cleaned("decimal", value) == (Decimal(1), ["c:text"])
    assert cleaned("float", value) == (1.0, ["c:text"])


@pytest.mark.parametrize(
    ("value", "expected"), [(b"0.1", 0.1), (b"5", 5.0), (b"-1.7e308", -1.7e308), (b"1e-300", 1e-300), (b"0", 0.0)]
)
def test_floats_are_the_nearest(value, expected):
    number, counted = cleaned("float", value)
    assert (number, type(number), counted) == (expected, float, [])


@pytest.mark.parametrize("value", ["1e309", b"9" * 400, b"1e-400", "-1e400"])
def test_what_a_float_cannot_hold_is_out_of_range(value):
    assert reason("float", value) == "out_of_range"


def test_whole_numbers_with_separators_of_thousands():
    rule = cleaning.integer("v", thousands="'")
    assert cleaned("integer", "1'234'567", rule) == (1_234_567, ["c:text"])
    assert reason("integer", "12'34", rule) == "not_an_integer"
    assert reason("integer", "1'234") == "not_an_integer"
    assert cleaned("integer", "1.234.567", cleaning.integer("v", thousands=".")) == (1_234_567, ["c:text"])
    for value in ("1.23", "1.234,5", "1,234"):
        assert reason("integer", value, cleaning.integer("v", thousands=".")) == "not_an_integer"


SOME_UUID = "0123abcd-0000-4000-8000-00000000000f"


@pytest.mark.parametrize(
    "value",
    [
        SOME_UUID.upper(),
        SOME_UUID.replace("-", ""),
        f"{{{SOME_UUID}}}",
        f"urn:uuid:{SOME_UUID}",
        f" {SOME_UUID} ",
    ],
)
def test_a_uuid_in_any_usual_form(value):
    assert cleaned("uuid", value) == (SOME_UUID, ["c:form"])
    assert cleaned("uuid", SOME_UUID) == (SOME_UUID, [])
    # The database compares keys by their type.
    assert cleaned("uuid", value, is_key=True)[0] == UUID(SOME_UUID)


@pytest.mark.parametrize("value", ["", "x", SOME_UUID[:-1], f"{{{SOME_UUID}", SOME_UUID + "0", b"7", b"[]", "g" * 32])
def test_what_is_no_uuid_is_rejected(value):
    assert reason("uuid", value) == ("invalid_uuid" if value != "" else "missing_value")


@pytest.mark.parametrize(
    ("value", "expected", "counted"),
    [
        ("10.0.0.1", "10.0.0.1", []),
        ("2001:db8::1", "2001:db8::1", []),
        ("2001:DB8:0:0::1", "2001:db8::1", ["c:form"]),
    ],
)
def test_addresses(value, expected, counted):
    assert cleaned("address", value) == (expected, counted)


@pytest.mark.parametrize("value", ["10.0.0.256", "10.0.0.0/8", "fe80::1%eth0", "010.0.0.1", b"167772161", "host"])
def test_what_is_no_address_is_rejected(value):
    assert reason("address", value) == "invalid_address"


@pytest.mark.parametrize(
    ("encoding", "value"),
    [("base64", "AP/+"), ("base64url", "AP_-"), ("hex", "00fffe"), ("hex", "00FFFE")],
)
def test_bytes_are_read_as_declared(encoding, value):
    rule = cleaning.binary("v", encoding=encoding)
    assert cleaned("binary", value, rule) == (b"\x00\xff\xfe", [])
    assert reason("binary", value, rule, max_length=2) == "too_long"
    assert reason("binary", value) == "invalid_binary"


@pytest.mark.parametrize(
    ("encoding", "value"), [("base64", "AP/"), ("base64", "A P/+"), ("hex", "0"), ("hex", "zz"), ("hex", b"12")]
)
def test_what_is_not_written_as_declared_is_rejected(encoding, value):
    assert reason("binary", value, cleaning.binary("v", encoding=encoding)) == "invalid_binary"


INTEGERS = Column(name="c", kind="integer", path=(), limits=(-32768, 32767))
TEXTS = Column(name="c", kind="text", path=(), max_length=3, null=True)


def array_of(item):
    return Column(name="c", kind="array", path=(), item=item)


def test_arrays_are_cleaned_member_by_member():
    assert cleaned("array", ["a", None, b"".decode()], item=TEXTS) == (["a", None, ""], [])
    assert cleaned("array", [1, "2", 3.0], item=INTEGERS) == ([1, 2, 3], ["c:integral", "c:text"])
    assert cleaned("array", [], item=INTEGERS) == ([], [])
    assert reason("array", ["abcd"], item=TEXTS) == "too_long"
    assert reason("array", [None], item=INTEGERS) == "missing_value"
    assert reason("array", [1, 2], item=INTEGERS, max_length=1) == "too_long"
    for value in ("{1,2}", b"1", b"{}"):
        assert reason("array", value, item=INTEGERS) == "wrong_type"


def test_arrays_of_arrays_are_rectangular():
    assert cleaned("array", [[1, 2], [3, 4]], item=array_of(INTEGERS))[0] == [[1, 2], [3, 4]]
    for value in ([[1], [2, 3]], [[]], [[1], []]):
        assert reason("array", value, item=array_of(INTEGERS)) == "ragged_array"
    assert reason("array", [[[1]], [[1, 2]]], item=array_of(array_of(INTEGERS))) == "ragged_array"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"lower": 1, "upper": 5}, (1, 5, "[)")),
        ({"lower": 1, "upper": 5, "bounds": "[]"}, (1, 5, "[]")),
        ({"lower": 1}, (1, None, "[)")),
        ([1, None], (1, None, "[)")),
        ("[1,5)", (1, 5, "[)")),
        ("(,5]", (None, 5, "(]")),
        ("empty", "empty"),
    ],
)
def test_ranges(value, expected):
    assert cleaned("range", value, item=INTEGERS)[0] == expected


@pytest.mark.parametrize("value", [{}, {"low": 1}, [1], [1, 2, 3], "1-5", [5, 1], {"lower": 1, "bounds": "[["}, b"1"])
def test_what_is_no_range_is_rejected(value):
    assert reason("range", value, item=INTEGERS) == "invalid_range"


@pytest.mark.parametrize(
    "kind", ["decimal", "float", "date", "time", "timestamp", "duration", "uuid", "address", "range"]
)
def test_blank_text_is_null(kind):
    assert cleaned(kind, " ", null=True) == (None, ["c:blank"])
    assert reason(kind, "") == "missing_value"
    assert reason(kind, "", is_key=True) == "missing_key"


@pytest.mark.parametrize(
    ("kind", "default", "expected"),
    [
        ("decimal", Decimal("1.5"), Decimal("1.5")),
        ("decimal", 1.5, Decimal("1.5")),
        ("float", 1.5, 1.5),
        ("date", dt.date(2024, 1, 2), dt.date(2024, 1, 2)),
        ("time", dt.time(1, 2), dt.time(1, 2)),
        ("timestamp", utc(2024, 1, 2), utc(2024, 1, 2)),
        ("duration", dt.timedelta(1), dt.timedelta(1)),
        ("uuid", UUID(SOME_UUID), SOME_UUID),
        ("address", ipaddress.ip_address("10.0.0.1"), "10.0.0.1"),
        ("binary", b"\x00", b"\x00"),
        ("array", ["a"], ["a"]),
    ],
)
def test_defaults_may_be_of_the_column_s_own_type(kind, default, expected):
    assert cleaning.clean_default(column(kind), default) == expected


def test_choices_of_every_kind():
    choices = frozenset({Decimal("1.5")})
    assert cleaned("decimal", "1.50", choices=choices)[0] == Decimal("1.5")
    assert reason("decimal", "1.6", choices=choices) == "not_a_choice"
