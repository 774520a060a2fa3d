"""BAD_INPUT.md, "Values", row by row: from a remote's bytes to the table, the quarantine and the run's counters.

Each test is one row, each parameter one input, written as JSON.
"""

import datetime as dt
import json
import uuid
from contextlib import contextmanager
from decimal import Decimal

import pytest
from django.core.validators import MinValueValidator
from django.db import connection, models

from ingestion.cleaning import boolean, date, decimal, integer, text, timestamp, whole_record
from tests.ingestion.catalog import table_of
from tests.ingestion.hostile import FIELDS, Hostile, assert_loaded, assert_quarantined, good
from tests.remote import json_list

pytestmark = pytest.mark.django_db(transaction=True)

INTEGER = models.BigIntegerField(null=True)
DECIMAL = models.DecimalField(max_digits=12, decimal_places=2, null=True)
DATE = models.DateField(null=True)
TIME = models.TimeField(null=True)
MOMENT = models.DateTimeField(null=True)
FLAG = models.BooleanField(null=True)
UUID = models.UUIDField(null=True)
SHORT = models.CharField(max_length=5, null=True)


def name_of(value):
    return ascii(value)[:40] if isinstance(value, str | dt.date | dt.time | Decimal) else None


def utc(*parts):
    return dt.datetime(*parts, tzinfo=dt.UTC)


@pytest.fixture
def hostile(monkeypatch):
    @contextmanager
    def with_column(field, **meta):
        with table_of(meta or None, **FIELDS | {"v": field}) as model:
            yield Hostile(monkeypatch, model)

    return with_column


def columns(rule):
    return {"id": "id", "v": rule, "raw": whole_record}


def sent(value):
    return b'{"id":5,"v":' + value.encode() + b"}"


@pytest.fixture
def is_loaded(hostile):
    """Check that a value is loaded as another one, by this rule of coercion if any."""

    def check(field, value, expected, coercion=None, rule="v"):
        with hostile(field) as remote:
            outcome = remote.beside_good_ones(sent(value), columns=columns(rule))
        coercions = [coercion] if isinstance(coercion, str) else coercion or []
        assert_loaded(outcome, expected, {f"v:{name}": 1 for name in sorted(coercions)})

    return check


@pytest.fixture
def is_quarantined(hostile):
    """Check that the record with a value is in the quarantine for this reason."""

    def check(field, value, reason, rule="v", **meta):
        with hostile(field, **meta) as remote:
            outcome = remote.beside_good_ones(sent(value), columns=columns(rule))
        assert_quarantined(outcome, sent(value), reason, "v")

    return check


@pytest.mark.parametrize(
    ("value", "expected", "coercion"),
    [
        ("1.0", 1, "integral"),
        ("1e3", 1000, "integral"),
        ("-1.50e1", -15, "integral"),
        ('" 1 "', 1, "text"),
        ('"+1"', 1, "text"),
        ('"007"', 7, "text"),
        ('""', None, "blank"),
        ('" "', None, "blank"),
        ("9007199254740993.0", 9007199254740993, "integral"),
    ],
    ids=name_of,
)
def test_what_is_integral_without_doubt_is_coerced(is_loaded, value, expected, coercion):
    is_loaded(INTEGER, value, expected, coercion)


@pytest.mark.parametrize(
    "value", ["1.5", "1e-3", '"1.0"', '"1e3"', '"1,000"', '"1_000"', '"0x1"', '"١"', "true", "[1]"]
)
def test_what_is_not_integral_without_doubt_is_quarantined(is_quarantined, value):
    is_quarantined(INTEGER, value, "not_an_integer")


@pytest.mark.parametrize(
    ("value", "expected"),
    [('"1,5"', "1.50"), ('"1.234,5"', "1234.50"), ('"-1.234.567,89"', "-1234567.89")],
    ids=name_of,
)
def test_a_local_decimal_is_coerced_where_the_feed_declares_the_form(is_loaded, value, expected):
    is_loaded(DECIMAL, value, Decimal(expected), "text", decimal("v", comma=True, thousands="."))


@pytest.mark.parametrize("value", ['"1,5"', '"1.234,5"', '"1 234.5"', '"1e"', '"NaN?"'])
def test_a_local_decimal_is_quarantined_where_nothing_is_declared(is_quarantined, value):
    is_quarantined(DECIMAL, value, "not_a_number")


def test_a_point_is_quarantined_where_a_comma_is_declared(is_quarantined):
    is_quarantined(DECIMAL, '"1.5"', "not_a_number", decimal("v", comma=True, thousands="."))
    is_quarantined(INTEGER, '"1.23"', "not_an_integer", integer("v", thousands="."))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("0.125", "too_precise"),
        ("10000000000", "out_of_range"),
        ('"NaN"', "non_finite_number"),
        ('"inf"', "non_finite_number"),
    ],
)
def test_a_decimal_beyond_the_column_is_quarantined(is_quarantined, value, reason):
    is_quarantined(DECIMAL, value, reason)


WORDS = ["now", "NOW", "today", "tomorrow", "yesterday", "epoch", "infinity", "-infinity", "allballs"]


@pytest.mark.parametrize("field", [DATE, MOMENT, TIME], ids=["date", "timestamp", "time"])
def test_words_that_postgresql_takes_for_moments_are_quarantined(hostile, field):
    with hostile(field) as remote:
        outcome = remote.sync(json_list([*good(1, 2, 3), *({"id": 4, "v": word} for word in WORDS)]))
    assert outcome.counts == {"read": 12, "inserted": 3, "rejected": 9}
    assert [(r.reason, r.field, r.position) for r in outcome.rejects] == [
        ("invalid_timestamp", "v", position) for position in range(3, 12)
    ]


@pytest.mark.parametrize("field", [DATE, MOMENT], ids=["date", "timestamp"])
@pytest.mark.parametrize(
    "value", ['"2024-02-30"', '"01/02/2024"', "1700000000", "1700000000.5", '"1700000000"', '"20240102"']
)
def test_dates_that_are_none_are_quarantined(is_quarantined, field, value):
    is_quarantined(field, value, "invalid_timestamp")


@pytest.mark.parametrize(
    ("value", "rule", "expected", "coercions"),
    [
        ('"01/02/2024"', date("v", formats=("%d/%m/%Y",)), dt.date(2024, 2, 1), ["format"]),
        ('"01/02/2024"', date("v", formats=("%m/%d/%Y",)), dt.date(2024, 1, 2), ["format"]),
        ("1706832000", date("v", unit="s"), dt.date(2024, 2, 2), ["epoch", "time_dropped"]),
        ('"1706832000000"', date("v", unit="ms"), dt.date(2024, 2, 2), ["epoch", "time_dropped"]),
    ],
)
def test_dates_are_coerced_where_the_feed_declares_format_or_unit(is_loaded, value, rule, expected, coercions):
    is_loaded(DATE, value, expected, coercions, rule)


def test_30_february_is_quarantined_in_a_declared_format_too(is_quarantined):
    is_quarantined(DATE, '"30/02/2024"', "invalid_timestamp", date("v", formats=("%d/%m/%Y",)))


@pytest.mark.parametrize("value", ['"2024-07-01T12:00:00"', '"2024-07-01 12:00"', '"2024-07-01"'], ids=name_of)
def test_a_naive_timestamp_takes_the_declared_zone_or_is_quarantined(is_loaded, is_quarantined, value):
    is_quarantined(MOMENT, value, "naive_timestamp")
    hour, coercions = (10, ["zone"]) if "12" in value[11:] else (-2, ["date", "zone"])
    expected = utc(2024, 7, 1) + dt.timedelta(hours=hour)
    is_loaded(MOMENT, value, expected, coercions, timestamp("v", zone="Europe/Berlin"))


@pytest.mark.parametrize(
    ("field", "value", "expected", "coercions"),
    [
        (MOMENT, '"2024-12-31T23:59:59.123456789Z"', utc(2024, 12, 31, 23, 59, 59, 123456), ["nanoseconds"]),
        (MOMENT, '"2024-12-31T23:59:59.999999999Z"', utc(2024, 12, 31, 23, 59, 59, 999999), ["nanoseconds"]),
        (MOMENT, '"2024-12-31T24:00:00Z"', utc(2025, 1, 1), ["midnight"]),
        (TIME, '"12:34:56.1234567"', dt.time(12, 34, 56, 123456), ["nanoseconds"]),
        (DATE, '"2024-12-31T12:34:56Z"', dt.date(2024, 12, 31), ["time_dropped"]),
        (DATE, '"2024-12-31 00:00:01"', dt.date(2024, 12, 31), ["time_dropped"]),
        (DATE, '"2024-12-31T24:00:00"', dt.date(2025, 1, 1), ["midnight"]),
    ],
    ids=name_of,
)
def test_nanoseconds_midnight_and_times_of_dates_are_coerced(is_loaded, field, value, expected, coercions):
    is_loaded(field, value, expected, coercions)


@pytest.mark.parametrize("value", ['"24:00"', '"24:00:00"', '"12:00Z"', '"12:00:60"'], ids=name_of)
def test_a_time_of_no_day_is_quarantined(is_quarantined, value):
    is_quarantined(TIME, value, "invalid_timestamp")


TRUE = ['"yes"', '"YES"', '"on"', '"t"', '"true"', '"1"', "1", '" yes "']
FALSE = ['"no"', '"off"', '"f"', '"False"', '"0"', "0"]


@pytest.mark.parametrize("value", [*TRUE, *FALSE])
def test_words_and_digits_become_booleans(is_loaded, value):
    is_loaded(FLAG, value, value in TRUE, "text" if value[0] == '"' else "number")


@pytest.mark.parametrize("value", ["2", "-1", "1.0", '"2"', '"y"', '"maybe"', '""', "[]"])
def test_what_is_neither_true_nor_false_is_quarantined(is_quarantined, value):
    is_quarantined(FLAG, value, "not_a_boolean")


def test_words_of_the_feed_replace_the_usual_ones(is_loaded, is_quarantined):
    rule = boolean("v", true=("ja",), false=("nein",))
    is_loaded(FLAG, '"Ja"', True, "text", rule)
    is_quarantined(FLAG, '"yes"', "not_a_boolean", rule)


SOME = "0123abcd-0000-4000-8000-00000000000f"


@pytest.mark.parametrize(
    "value", [SOME.upper(), SOME.replace("-", ""), f"{{{SOME}}}", f"urn:uuid:{SOME}", f" {SOME}\n"], ids=name_of
)
def test_a_uuid_is_taken_in_any_usual_form(is_loaded, value):
    is_loaded(UUID, json.dumps(value), uuid.UUID(SOME), "form")


@pytest.mark.parametrize("value", [f'"{SOME[:-1]}"', f'"{SOME}0"', f'"{{{SOME}"', '"x"', "7", "true"])
def test_what_is_no_uuid_is_quarantined(is_quarantined, value):
    is_quarantined(UUID, value, "invalid_uuid")


def test_text_longer_than_the_column_is_quarantined_or_cut(is_loaded, is_quarantined):
    is_loaded(SHORT, '"é😀xyz"', "é😀xyz")
    for value in ('"é😀xyz!"', '"abcde "'):
        is_quarantined(SHORT, value, "too_long")
    is_loaded(SHORT, '"é😀xyz!"', "é😀xyz", "truncate", text("v", truncate=True))


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        (models.CharField(max_length=5, null=True, choices=[("a", "A"), ("b", "B")]), '"c"', "not_a_choice"),
        (models.CharField(max_length=5, null=True, choices=[("a", "A"), ("b", "B")]), '"A"', "not_a_choice"),
        (models.IntegerField(null=True, choices=[(1, "one")]), "2", "not_a_choice"),
        (models.PositiveIntegerField(null=True), "-1", "out_of_range"),
        (models.PositiveSmallIntegerField(null=True), "32768", "out_of_range"),
        (models.SmallIntegerField(null=True), "-32769", "out_of_range"),
        (models.IntegerField(null=True, validators=[MinValueValidator(7)]), "6", "invalid_value"),
        (models.EmailField(null=True), '"nobody"', "invalid_value"),
    ],
)
def test_what_the_model_refuses_is_quarantined(is_quarantined, field, value, reason):
    is_quarantined(field, value, reason)


@pytest.mark.parametrize("sent", [b'{"id":5,"v":null}', b'{"id":5}'])
def test_null_in_a_column_that_is_not_null_is_quarantined(hostile, sent):
    full = [{"id": number, "v": number} for number in range(1, 7)]
    with hostile(models.BigIntegerField()) as remote:
        outcome = remote.sync(json_list(full[:3]), json_list([full[3], sent, full[5]]))
    assert_quarantined(outcome, sent, "missing_value", "v")


def test_what_a_check_of_the_database_refuses_is_quarantined(hostile):
    rule = models.CheckConstraint(condition=models.Q(v__lt=100), name="below_100")
    with hostile(INTEGER, constraints=[rule]) as remote:
        outcome = remote.beside_good_ones(sent("100"))
    assert_quarantined(outcome, sent("100"), "check_violation", "below_100")


def test_what_a_unique_constraint_beside_the_key_refuses_is_quarantined(hostile):
    rule = models.UniqueConstraint(fields=["v"], name="v_is_unique")
    with hostile(INTEGER, constraints=[rule]) as remote:
        outcome = remote.sync(b'[{"id":1,"v":7},{"id":2},{"id":3}]', b'[{"id":4},' + sent("7") + b',{"id":6}]')
    assert_quarantined(outcome, sent("7"), "unique_violation", "v_is_unique")


@pytest.mark.parametrize("is_deferred", [False, True], ids=["at once", "deferred"])
def test_a_foreign_key_to_nothing_is_quarantined(hostile, is_deferred):
    with hostile(INTEGER) as remote, connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE photos_order ADD CONSTRAINT v_refers FOREIGN KEY (v) REFERENCES photos_order (id) "
            + ("DEFERRABLE INITIALLY DEFERRED" if is_deferred else "")
        )
        outcome = remote.beside_good_ones(sent("77"))
    assert_quarantined(outcome, sent("77"), "foreign_key_violation", "v_refers")


TWICE = b'[{"id":1,"v":"a"},{"id":1,"v":"b"},{"id":2}]'


def test_of_a_key_twice_in_a_chunk_the_last_wins(hostile):
    with hostile(SHORT) as remote:
        outcome = remote.sync(TWICE)
    assert (outcome.counts, [row[:2] for row in outcome.rows]) == (
        {"read": 3, "inserted": 2, "duplicates": 1},
        [(1, "b"), (2, None)],
    )


def test_of_a_key_in_two_chunks_the_last_wins(hostile):
    with hostile(SHORT) as remote:
        outcome = remote.sync(TWICE, b'[{"id":2,"v":"c"},{"id":1,"v":"b"},{"id":3}]')
    assert outcome.counts == {"read": 6, "inserted": 3, "updated": 1, "unchanged": 1, "duplicates": 1}
    assert [row[:2] for row in outcome.rows] == [(1, "b"), (2, "c"), (3, None)]


def test_of_a_key_in_two_runs_the_last_wins(hostile):
    with hostile(SHORT) as remote:
        remote.sync(TWICE)
        outcome = remote.sync(b'[{"id":2},{"id":1,"v":"z"}]')
    assert outcome.counts == {"read": 2, "updated": 1, "unchanged": 1}
    assert [row[:2] for row in outcome.rows] == [(1, "z"), (2, None)]


def test_a_bad_version_of_a_key_leaves_the_good_row(hostile):
    with hostile(SHORT) as remote:
        remote.sync(json_list(good(1, 2, 3)), b'[{"id":1,"v":"good"},{"id":2,"v":"too long"},{"id":3,"v":"fine"}]')
        outcome = remote.sync(b'[{"id":1,"v":["bad"]},{"id":3,"v":"new"}]')
    assert outcome.counts == {"read": 2, "updated": 1, "rejected": 1}
    assert [row[:2] for row in outcome.rows] == [(1, "good"), (2, None), (3, "new")]
