"""Cleaning of numbers, dates, times, identifiers, bytes, arrays and ranges: value by value, with what is counted."""

import datetime as dt
import ipaddress
import json
from collections import Counter
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest

from ingestion import cleaning
from ingestion.cleaning import Column, compile_columns
from ingestion.errors import RecordRejected


def column(kind, rule=None, **options):
    form = rule.form if rule else None
    return Column(name="c", kind=kind, path=("v",), form=form, **options)


def cleaned(kind, value, rule=None, **options):
    """Clean the record {"v": value}, bytes being JSON text; return the value and the rules that were counted."""
    counted = Counter()
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    (only,) = compile_columns([column(kind, rule, **options)], coercions=counted)(msgspec.Raw(b'{"v":' + text + b"}"))
    return only, sorted(counted)


def reason(kind, value, rule=None, **options):
    with pytest.raises(RecordRejected) as raised:
        cleaned(kind, value, rule, **options)
    assert raised.value.field == "c"
    return raised.value.reason


def utc(*parts):
    return dt.datetime(*parts, tzinfo=dt.UTC)


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


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-02-29T12:34:56Z", utc(2024, 2, 29, 12, 34, 56)),
        ("2024-02-29 12:34:56z", utc(2024, 2, 29, 12, 34, 56)),
        ("2024-02-29T12:34:56.5+02:00", utc(2024, 2, 29, 10, 34, 56, 500_000)),
        ("2024-02-29T12:34:56,123456-0130", utc(2024, 2, 29, 14, 4, 56, 123_456)),
        ("2024-02-29T12:34Z", utc(2024, 2, 29, 12, 34)),
        ("2024-02-29 12:34:56 +02", utc(2024, 2, 29, 10, 34, 56)),
        ("0001-01-01T00:00:00Z", utc(1, 1, 1)),
        ("9999-12-31T23:59:59.999999Z", utc(9999, 12, 31, 23, 59, 59, 999_999)),
        ("2024-02-29T12:34:56.1234560Z", utc(2024, 2, 29, 12, 34, 56, 123_456)),
    ],
)
def test_timestamps_of_iso_8601(value, expected):
    moment, counted = cleaned("timestamp", value)
    assert (moment, moment.utcoffset(), counted) == (expected, dt.timedelta(0), [])


@pytest.mark.parametrize(
    ("value", "expected", "rule"),
    [
        ("2024-02-29T12:34:56.123456789Z", utc(2024, 2, 29, 12, 34, 56, 123_456), "nanoseconds"),
        ("2024-02-29T23:59:59.999999999Z", utc(2024, 2, 29, 23, 59, 59, 999_999), "nanoseconds"),
        ("2024-12-31T24:00:00Z", utc(2025, 1, 1), "midnight"),
        (" 2024-02-29T12:34:56Z\n", utc(2024, 2, 29, 12, 34, 56), "strip"),
    ],
)
def test_timestamps_that_are_coerced(value, expected, rule):
    assert cleaned("timestamp", value) == (expected, [f"c:{rule}"])


NO_MOMENTS = [
    *["now", "today", "tomorrow", "yesterday", "epoch", "infinity", "-infinity", "allballs", "2024-02-30"],
    *["01/02/2024"],
    *["2024-13-01", "2024-00-10", "0000-01-01", "20240131", "2024-01-31T25:00:00Z", "2024-01-31T24:00:01Z"],
    *["2024-01-31T12:60:00Z", "2024-01-31T12:34:60Z", "2024-01-31T12:34:56+25:00", "2024-01-31T12:34:56+01:60"],
    *["2024-01-31T12:34:56 UTC", "10000-01-01T00:00:00Z", "2024-01-31T", "2024-01-31Z", "٢٠٢٤-01-31", b"1700000000"],
    *[b"1.5", b"true", b"[]", b"{}", "1700000000", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"],
]  # fmt: skip


@pytest.mark.parametrize("value", NO_MOMENTS, ids=ascii)
def test_what_is_no_moment_is_rejected(value):
    assert reason("timestamp", value) == "invalid_timestamp"
    if value not in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        assert reason("date", value) == "invalid_timestamp"


def test_a_timestamp_without_a_zone_takes_the_declared_one():
    rule = cleaning.timestamp("v", zone="Europe/Berlin")
    assert reason("timestamp", "2024-07-01T12:00:00") == "naive_timestamp"
    assert reason("timestamp", "2024-07-01") == "naive_timestamp"
    assert cleaned("timestamp", "2024-07-01T12:00:00", rule) == (utc(2024, 7, 1, 10), ["c:zone"])
    assert cleaned("timestamp", "2024-01-01T12:00:00", rule) == (utc(2024, 1, 1, 11), ["c:zone"])
    assert cleaned("timestamp", "2024-07-01T12:00:00Z", rule) == (utc(2024, 7, 1, 12), [])
    assert cleaned("timestamp", "2024-07-01", rule) == (utc(2024, 6, 30, 22), ["c:date", "c:zone"])
    # The hour that is there twice, the first time.
    assert cleaned("timestamp", "2024-10-27T02:30:00", rule)[0] == utc(2024, 10, 27, 0, 30)


@pytest.mark.parametrize(
    ("unit", "value", "expected"),
    [
        ("s", b"1700000000", utc(2023, 11, 14, 22, 13, 20)),
        ("s", b"1700000000.25", utc(2023, 11, 14, 22, 13, 20, 250_000)),
        ("ms", b"1700000000250", utc(2023, 11, 14, 22, 13, 20, 250_000)),
        ("us", b"1700000000250001", utc(2023, 11, 14, 22, 13, 20, 250_001)),
        ("ns", b"1700000000250001999", utc(2023, 11, 14, 22, 13, 20, 250_001)),
        ("s", b'"1700000000"', utc(2023, 11, 14, 22, 13, 20)),
        ("s", b"-1", utc(1969, 12, 31, 23, 59, 59)),
        ("s", b"0", utc(1970, 1, 1)),
    ],
)
def test_numbers_are_moments_where_the_feed_says_their_unit(unit, value, expected):
    assert cleaned("timestamp", value, cleaning.timestamp("v", unit=unit)) == (expected, ["c:epoch"])


@pytest.mark.parametrize("value", [b"1e30", b"99999999999999", b"true"])
def test_numbers_beyond_the_calendar_are_rejected(value):
    assert reason("timestamp", value, cleaning.timestamp("v", unit="s")) == "invalid_timestamp"


def test_declared_formats_are_the_only_ones():
    rule = cleaning.timestamp("v", formats=("%d/%m/%Y %H:%M", "%d.%m.%Y %z"), zone="UTC")
    assert cleaned("timestamp", "01/02/2024 03:04", rule) == (utc(2024, 2, 1, 3, 4), ["c:format", "c:zone"])
    assert cleaned("timestamp", "01.02.2024 +0100", rule) == (utc(2024, 1, 31, 23), ["c:format"])
    assert reason("timestamp", "2024-02-01T03:04:00Z", rule) == "invalid_timestamp"
    assert reason("timestamp", "30/02/2024 03:04", rule) == "invalid_timestamp"


@pytest.mark.parametrize(
    ("value", "rule", "expected", "counted"),
    [
        ("2024-02-29", None, dt.date(2024, 2, 29), []),
        ("2024-02-29T23:30:00Z", None, dt.date(2024, 2, 29), ["c:time_dropped"]),
        ("2024-02-29T12:34:56", None, dt.date(2024, 2, 29), ["c:time_dropped"]),
        ("2024-02-29T23:30:00Z", cleaning.date("v", zone="Asia/Tokyo"), dt.date(2024, 3, 1), ["c:time_dropped"]),
        ("29.02.24", cleaning.date("v", formats=("%d.%m.%y",)), dt.date(2024, 2, 29), ["c:format"]),
        (b"0", cleaning.date("v", unit="s"), dt.date(1970, 1, 1), ["c:epoch", "c:time_dropped"]),
    ],
)
def test_dates(value, rule, expected, counted):
    assert cleaned("date", value, rule) == (expected, counted)


@pytest.mark.parametrize(
    ("value", "expected", "counted"),
    [
        ("00:00", dt.time(0, 0), []),
        ("23:59:59.999999", dt.time(23, 59, 59, 999_999), []),
        ("12:34:56.1234567", dt.time(12, 34, 56, 123_456), ["c:nanoseconds"]),
    ],
)
def test_times_of_day(value, expected, counted):
    assert cleaned("time", value) == (expected, counted)
    assert cleaned("time", "0930", cleaning.time("v", formats=("%H%M",))) == (dt.time(9, 30), ["c:format"])


@pytest.mark.parametrize("value", ["24:00", "24:00:00", "12:60", "12", "12:00Z", "12:00+01:00", "now", b"12", "1:00"])
def test_what_is_no_time_of_day_is_rejected(value):
    assert reason("time", value) == "invalid_timestamp"


@pytest.mark.parametrize(
    ("value", "expected", "counted"),
    [
        ("P1DT2H3M4.5S", dt.timedelta(days=1, hours=2, minutes=3, seconds=4.5), []),
        ("PT36H", dt.timedelta(hours=36), []),
        ("P2W", dt.timedelta(days=14), []),
        ("-PT1S", dt.timedelta(seconds=-1), []),
        ("P1D", dt.timedelta(days=1), []),
        ("01:02:03", dt.timedelta(hours=1, minutes=2, seconds=3), []),
        ("3 days 00:00:01.25", dt.timedelta(days=3, seconds=1.25), []),
        ("PT0.0000019S", dt.timedelta(microseconds=1), ["c:nanoseconds"]),
    ],
)
def test_durations(value, expected, counted):
    assert cleaned("duration", value) == (expected, counted)


@pytest.mark.parametrize("value", ["P", "PT", "P1Y", "P1M", "P1DT", "1:2", "soon", b"5", "P99999999999D", b"[]"])
def test_what_is_no_duration_is_rejected(value):
    assert reason("duration", value) == "invalid_timestamp"


def test_a_number_is_a_duration_where_the_feed_says_its_unit():
    assert cleaned("duration", b"1500", cleaning.duration("v", unit="ms")) == (dt.timedelta(seconds=1.5), ["c:unit"])


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
