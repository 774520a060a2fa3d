"""Every type of column that Django has: through a feed's plan into a table of PostgreSQL, and read back by Django."""

import datetime as dt
import json
from dataclasses import replace
from decimal import Decimal
from uuid import UUID

import pytest
from django.contrib.postgres import fields as postgres
from django.core import validators
from django.db import connection, models, transaction

from ingestion import cleaning, feeds, loaders
from ingestion.errors import ConfigurationError
from ingestion.feeds import Feed, Mirror, Upsert
from ingestion.http import Response
from ingestion.pagination import SinglePage
from ingestion.preparation import Preparer
from ingestion.sources import JsonApi, split_records
from ingestion.streams import StringIteratorIO
from ingestion.types import Page
from photos.models import Photo
from tests.ingestion.orders import order

SOURCE = JsonApi(url="http://127.0.0.1:9/", pagination=SinglePage())
FIELDS = {
    "price": models.DecimalField(max_digits=9, decimal_places=2),
    "ratio": models.FloatField(),
    "day": models.DateField(),
    "clock": models.TimeField(),
    "at": models.DateTimeField(null=True),
    "took": models.DurationField(),
    "token": models.UUIDField(unique=True),
    "host": models.GenericIPAddressField(null=True),
    "blob": models.BinaryField(),
    "mail": models.EmailField(),
    "link": models.URLField(blank=True),
    "slug": models.SlugField(max_length=9),
    "code": models.CharField(max_length=9, validators=[validators.RegexValidator(r"[A-Z]+\Z")]),
    "path": models.FileField(upload_to="x"),
    "level": models.IntegerField(validators=[validators.MinValueValidator(10)]),
    "tags": postgres.ArrayField(models.CharField(max_length=5), size=3),
    "grid": postgres.ArrayField(postgres.ArrayField(models.SmallIntegerField())),
    "span": postgres.IntegerRangeField(),
    "open": postgres.DateTimeRangeField(null=True),
    "more": models.JSONField(default=dict),
}
COLUMNS = {name: name for name in FIELDS} | {"blob": cleaning.binary("blob", encoding="hex")}
GOOD = {
    "price": "1234567.89", "ratio": 0.1, "day": "2024-02-29", "clock": "10:00:00.000001",
    "at": "2024-02-29T10:00:00.5+02:00", "took": "P1DT1S", "token": "0123abcd-0000-4000-8000-00000000000f",
    "host": "2001:db8::1", "blob": "005cff", "mail": "a@example.org", "link": "https://example.org/?a=b\\c",
    "slug": "a-b_c", "code": "ABC", "path": "a/b.txt", "level": 10, "tags": ["a", '"\\,', ""], "grid": [[1, 2], [3, 4]],
    "span": [1, 5], "open": {"lower": "2024-01-01T00:00:00Z"}, "more": {"n": [None, "\t"]},
}  # fmt: skip


def make_feed(model, columns=COLUMNS, key="token"):
    return Feed(name="x", source=SOURCE, columns=columns, target=Upsert(model, key=key))


@pytest.fixture
def table(db):
    model = order(**FIELDS)
    with connection.schema_editor() as editor:
        editor.create_model(model)
    return model


def prepared(model, records, columns=COLUMNS):
    body = json.dumps(records).encode()
    page = Page(
        number=1, records=split_records(Response(status=200, headers={}, body=body), ()), size_bytes=1, following=None
    )
    plan = feeds.resolve(make_feed(model, columns))
    return plan, Preparer(plan.columns)(page)


def load(model, records):
    plan, page = prepared(model, records)
    assert page.rejections == []
    with transaction.atomic(), connection.cursor() as cursor:
        lines = loaders.Lines(open=lambda: StringIteratorIO(iter(page.lines)), keys=page.keys)
        return loaders.upsert(cursor, plan.table, lines)


@pytest.mark.django_db
def test_every_type_is_loaded_and_read_back(table):
    loaded = load(table, [GOOD])
    assert (loaded.inserted, loaded.unchanged) == (1, 0)
    (row,) = table.objects.values()
    span, opening = row.pop("span"), row.pop("open")
    assert (span.lower, span.upper) == (1, 5)
    assert (opening.lower, opening.upper) == (dt.datetime(2024, 1, 1, tzinfo=dt.UTC), None)
    assert bytes(row.pop("blob")) == b"\x00\\\xff"
    assert row == {
        **{name: GOOD[name] for name in ("mail", "link", "slug", "code", "path", "level", "tags", "grid", "more")},
        "id": 1,
        "price": Decimal("1234567.89"),
        "ratio": 0.1,
        "day": dt.date(2024, 2, 29),
        "clock": dt.time(10, 0, 0, 1),
        "at": dt.datetime(2024, 2, 29, 8, 0, 0, 500_000, tzinfo=dt.UTC),
        "took": dt.timedelta(days=1, seconds=1),
        "token": UUID(GOOD["token"]),
        "host": "2001:db8::1",
    }


@pytest.mark.django_db
def test_equal_rows_of_every_type_are_not_written_again(table):
    load(table, [GOOD])
    again = load(table, [GOOD, GOOD | {"token": GOOD["token"].upper(), "price": 1234567.89}])
    assert (again.inserted, again.updated, again.unchanged, again.duplicates) == (0, 0, 1, 1)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("price", "12345678.9", "out_of_range"), ("price", "0.001", "too_precise"),
        ("ratio", "NaN", "non_finite_number"), ("host", "x", "invalid_address"),
        ("day", "2024-02-30", "invalid_timestamp"), ("at", "now", "invalid_timestamp"),
        ("at", "2024-02-29T10:00:00", "naive_timestamp"), ("token", "x", "invalid_uuid"),
        ("blob", "0", "invalid_binary"), ("mail", "nobody", "invalid_value"), ("link", "javascript:1", "invalid_value"),
        ("slug", "a b", "invalid_value"), ("slug", "a" * 10, "too_long"), ("code", "abc", "invalid_value"),
        ("level", 9, "invalid_value"), ("level", 2**31, "out_of_range"), ("tags", ["abcdef"], "too_long"),
        ("tags", ["a"] * 4, "too_long"), ("tags", [None], "missing_value"), ("grid", [[1], [2, 3]], "ragged_array"),
        ("grid", [[32768]], "out_of_range"), ("span", [5, 1], "invalid_range"), ("price", None, "missing_value"),
    ],
)  # fmt: skip
def test_what_a_type_cannot_hold_is_rejected(name, value, reason):
    _, page = prepared(order(**FIELDS), [GOOD, GOOD | {name: value}])
    assert [(found.reason, found.field) for found in page.rejections] == [(reason, name)]
    assert len(page.keys) == 1


def test_empty_text_is_not_validated():
    _, page = prepared(order(**FIELDS), [GOOD | {"link": ""}])
    assert page.rejections == []


def test_a_relation_takes_the_key_it_refers_to():
    model = order(photo=models.ForeignKey(Photo, models.CASCADE, null=True, to_field="remote_id"))
    columns = feeds.resolve(make_feed(model, {"id": "id", "photo": "p"}, key="id")).columns
    assert (columns[1].kind, columns[1].limits, columns[1].null) == ("integer", (-(2**63), 2**63 - 1), True)


@pytest.mark.parametrize("name", ["host", "token", "day", "at", "price", "blob", "took", "clock"])
@pytest.mark.django_db
def test_keys_of_every_type_are_compared_by_their_type(name):
    model = order(**FIELDS | {name: type(FIELDS[name])(**(FIELDS[name].deconstruct()[3] | {"unique": True}))})
    with connection.schema_editor() as editor:
        editor.create_model(model)
    target = Mirror(model, key=name)
    plan = feeds.resolve(Feed(name="x", source=SOURCE, columns=COLUMNS, target=target))
    records = json.dumps([GOOD]).encode()
    page = Preparer(plan.columns)(
        Page(number=1, records=split_records(Response(status=200, headers={}, body=records), ()), size_bytes=1,
             following=None)
    )  # fmt: skip
    for expected in ((1, 0), (0, 1)):
        with transaction.atomic(), connection.cursor() as cursor:
            lines = loaders.Lines(open=lambda: StringIteratorIO(iter(page.lines)), keys=page.keys)
            loaded = loaders.upsert(cursor, plan.table, lines)
        assert (loaded.inserted, loaded.unchanged) == expected


def test_an_array_cannot_be_a_key():
    with pytest.raises(ConfigurationError, match=r"photos\.Order\.tags is an array, which cannot be a key"):
        feeds.resolve(make_feed(order(**FIELDS), key="tags"))


def test_bytes_are_never_a_path_alone():
    with pytest.raises(ConfigurationError, match="BinaryField"):
        feeds.resolve(make_feed(order(**FIELDS), COLUMNS | {"blob": "blob"}))


def test_an_option_that_cannot_be_used_is_a_mistake():
    columns = COLUMNS | {"at": cleaning.timestamp("at", zone="Mars/Base")}
    with pytest.raises(ConfigurationError, match=r"photos\.Order\.at: no time zone is named 'Mars/Base'"):
        feeds.resolve(make_feed(order(**FIELDS), columns))


def test_rules_reach_the_columns():
    model = order(name=models.CharField(max_length=9), kind=models.CharField(max_length=9))
    rules = {
        "id": "id",
        "name": cleaning.text(cleaning.first_of("a", "b"), strip=True),
        "kind": cleaning.constant("k"),
    }
    columns = {column.name: column for column in feeds.resolve(make_feed(model, rules, key="id")).columns}
    assert columns["name"].others == (("b",),)
    assert columns["name"].form == cleaning.text("x", strip=True).form
    assert (columns["kind"].constant, columns["kind"].path) == ("k", ())
    with pytest.raises(ConfigurationError, match="'kind' cannot have the default 'too long by one'"):
        feeds.resolve(make_feed(model, rules | {"kind": cleaning.constant("too long by one")}, key="id"))


def test_all_kinds_are_among_the_types():
    found = {column.kind for column in feeds.resolve(make_feed(order(**FIELDS))).columns}
    assert found | {"boolean"} == cleaning.KINDS
    assert replace(make_feed(order(**FIELDS)), rules=()).rules == ()
