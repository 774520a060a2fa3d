"""Watermarks of records: read as a column is read, quickly where all are written alike, and not at all where bad."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.cleaning import Rule, field, first_of, integer, timestamp
from ingestion.errors import RunFailed
from ingestion.gauging import Gauge
from ingestion.tabular import TextRecords
from ingestion.types import Page, Record, Records

AT = datetime(2026, 1, 5, 12, tzinfo=UTC)


def listed(*values, name="at"):
    return Records(json.dumps([{"id": number, name: value} for number, value in enumerate(values)]).encode())


def highest(rule: Rule, *values):
    return Gauge(rule).read(listed(*values)).highest()


@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        (field("at"), ["2026-01-05T12:00:00Z", "2026-01-05T11:59:59Z"], AT),
        # The text that sorts last is not the latest moment.
        (field("at"), ["2026-01-05T14:00:00+03:00", "2026-01-05T12:00:00Z"], AT),
        (field("at"), ["2026-01-05 12:00:00.123456789Z"], AT.replace(microsecond=123456)),
        (timestamp("at", zone="Europe/Berlin"), ["2026-01-05T13:00:00", "2026-01-05T12:59:00"], AT),
        (timestamp("at", zone="Europe/Berlin"), ["2026-01-05T13:00:00", "2026-01-05T11:59:00Z"], AT),
        (timestamp("at", unit="s"), [1767614400, 1767614399], AT),
        (timestamp("at", unit="s"), [1767614400.25, 1767614399], AT + timedelta(seconds=0.25)),
        (timestamp("at", unit="ms"), [1767614400000, "1767614400001"], AT + timedelta(milliseconds=1)),
        (timestamp("at", formats=("%d.%m.%Y %H:%M",), zone="UTC"), ["05.01.2026 12:00", "31.12.2025 12:00"], AT),
        (integer("at"), [3, 10, 9], 10),
        (integer("at"), [3, "10", 9], 10),
        (integer("at"), [-5, 0], 0),
    ],
)
def test_the_highest_watermark_in_each_form(rule, values, expected):
    assert highest(rule, *values) == expected
    assert highest(rule, *reversed(values)) == expected


@pytest.mark.parametrize(
    ("rule", "bad"),
    [
        (field("at"), [None, "", "now", "9999", 5, True, {}, "2026-01-05T12:00:01"]),
        (timestamp("at", unit="s"), [None, "", 10**30, "soon", []]),
        (integer("at"), [None, "", 1.5, 10**30, "x", False]),
    ],
)
def test_what_cannot_be_read_is_missing_and_does_not_count(rule, bad):
    good = 4 if rule.kind == "integer" else 1767614400 if rule.form else "2026-01-05T12:00:00Z"
    for value in bad:
        marks = Gauge(rule).read(listed(value, good, value))
        assert marks.missing == [0, 2], value
        assert marks.highest() == (4 if rule.kind == "integer" else AT)
        assert marks.highest(without={1}) is None
    assert Gauge(rule).read(listed(*bad)).highest() is None
    assert Gauge(rule).read(listed()).highest() is None


def test_the_first_of_several_fields_that_has_a_value_counts():
    texts = ['{"changed": null, "made": "2026-01-05T12:00:00Z"}', '{"changed": "2026-01-05T11:00:00Z"}', '{"id": 3}']
    marks = Gauge(first_of("changed", "made")).read(Records(f"[{','.join(texts)}]".encode()))
    assert (marks.highest(), marks.highest({0}), marks.missing) == (AT, AT - timedelta(hours=1), [2])


def test_a_field_inside_an_object():
    texts = ['{"meta": {"at": "2026-01-05T12:00:00Z"}}', '{"meta": {}}', '{"meta": null}', '{"meta": [1]}', "{}"]
    for count in (1, 2, 5):
        marks = Gauge(field("meta.at")).read(Records(f"[{','.join(texts[:count])}]".encode()))
        assert (marks.highest(), marks.missing) == (AT, list(range(1, count)))


def test_rows_of_text_and_records_that_are_no_json():
    rows = TextRecords(("id", "at"), [["1", "2"], ["2026-01-05T12:00:00Z", None]])
    assert Gauge(field("at")).read(rows).highest() == AT
    assert Gauge(field("nothing")).read(rows).missing == [0, 1]
    records = [Record(b'{"at": "2026-01-05T12:00:00Z"}'), Record(b'{"at": NaN}'), Record(b"7")]
    marks = Gauge(field("at")).read(records)
    assert (marks.highest(), marks.missing, marks.unreadable) == (AT, [1, 2], {1, 2})


TIMES = st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(st.lists(TIMES, min_size=1, max_size=20))
def test_the_quick_way_and_the_other_one_agree(times):
    texts = [at.isoformat() for at in times]
    quick = Gauge(field("at")).read(listed(*texts))
    # One that cannot be read sends the others the slow way.
    slow = Gauge(field("at")).read(listed(*texts, "never"))
    assert quick.highest() == slow.highest() == max(times)
    assert (quick.missing, slow.missing) == ([], [len(times)])
    seconds = [int(at.timestamp()) for at in times]
    assert highest(timestamp("at", unit="s"), *seconds) == highest(timestamp("at", unit="s"), *map(str, seconds))


def page(*values, refused=None):
    return Page(number=3, records=listed(*values), size_bytes=0, following=None, refused=refused or {})


def test_records_without_a_watermark_are_loaded_rejected_or_fail_the_run():
    given_page = page("2026-01-05T12:00:00Z", None)
    assert Gauge(field("at"), "load").judge(given_page)[0] is given_page
    refused = Gauge(field("at"), "reject").judge(given_page)[0].refused
    assert [(at, error.reason) for at, error in refused.items()] == [(1, "no_watermark")]
    with pytest.raises(RunFailed, match=r"^watermark: record 1 of page 3 has none at 'at'$"):
        Gauge(field("at"), "fail").judge(given_page)
    good = page("2026-01-05T12:00:00Z")
    assert Gauge(field("at"), "fail").judge(good)[0] is Gauge(field("at"), "reject").judge(good)[0] is good
