"""Cleaning of moments, dates, times and durations: in which forms they come, and what is rejected."""

import datetime as dt

import pytest

from ingestion import cleaning
from tests.ingestion.counted import cleaned, reason, utc


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
