"""A reject's key: what it is found by, in whatever form the record has it, and keys that are too large."""

import datetime as dt
import json
import random
import uuid
from decimal import Decimal

import msgspec
import pytest
from django.db import models

from ingestion.cleaning import Column, compile_key, constant, key_text
from ingestion.errors import RecordRejected
from ingestion.feeds import Upsert
from ingestion.models import Reject
from tests.ingestion.catalog import table_of
from tests.ingestion.hostile import FIELDS, Hostile
from tests.remote import json_list

ID = Column(name="id", kind="integer", path=("id",), is_key=True)
TITLE = Column(name="t", kind="text", path=("title",))


def raw(record):
    return msgspec.Raw(record if isinstance(record, bytes) else json.dumps(record).encode())


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b'{"id":7,"title":1}', "7"),
        (b'{"id":"+7 ","title":1}', "7"),
        (b'{"id":7.0}', "7"),
        (b'{"id":7e0,"x":"\\ud800"}', "7e0"),  # the page's own text: such a record is no JSON by the book
        (b'{"id":"007","x":NaN}', "7"),
        (b'{"id":"a\\u0000b"}', "a\x00b"),
        (b'{"id":7,"x":"\xff"}', "7"),
        (b'{"id":7.5}', "7.5"),
        (b'{"id":null}', None),
        (b'{"id":7,"id":8}', None),
        (b"{}", None),
        (b"null", None),
        (b"[]", None),
        (b'{"id":7', None),
        (b"[" * 100_000, None),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_the_key_of_a_reject_is_known_where_it_can_be(record, expected):
    assert compile_key([ID, TITLE])(raw(record)) == expected


def test_a_key_of_several_columns_is_known_whole_or_not_at_all():
    columns = [
        Column(name="a", kind="integer", path=("a",), is_key=True),
        Column(name="c", kind="text", path=("b", "c"), is_key=True),
        Column(name="s", kind="text", path=(), constant=constant("shop").constant, is_key=True),
    ]
    assert compile_key(columns)(raw({"a": 1, "b": {"c": "x"}})) == "1, x, shop"
    assert compile_key(columns)(raw(b'{"a":1,"b":{"c":"x"},"n":NaN}')) == "1, x, shop"
    assert compile_key(columns)(raw({"a": 1, "b": 2})) is None
    assert compile_key([TITLE])(raw({"title": "x"})) is None


def test_the_key_is_that_of_the_record_that_the_rules_leave():
    rules = [lambda record: record | {"id": record["id"] + 100}]
    assert compile_key([ID], rules)(raw({"id": 7})) == "107"

    def refuse(record):
        raise RecordRejected("not_ours")

    assert compile_key([ID], [refuse])(raw({"id": 7})) == "7"
    assert compile_key([ID], [lambda record: None])(raw({"id": 7})) is None


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (7, "7"),
        ("a, b", "a, b"),
        (("a, b", "c"), '"a, b", c'),
        (("a", "b, c"), 'a, "b, c"'),
        (('"a', "b"), '"\\"a", b'),
        (Decimal("7.10"), "7.1"),
        (Decimal("1E+3"), "1000"),
        ((1, uuid.UUID(int=1)), "1, 00000000-0000-0000-0000-000000000001"),
        (dt.date(2024, 1, 2), "2024-01-02"),
        ("x" * 255, "x" * 255),
    ],
)
def test_keys_as_text(key, expected):
    assert key_text(key) == expected


def test_long_keys_are_told_apart_in_the_room_there_is():
    one, other = key_text("x" * 300), key_text("x" * 299 + "y")
    assert (len(one), len(other), one == other, one[:222]) == (255, 255, False, "x" * 222)
    assert one == key_text("x" * 300)


SOME = uuid.UUID("0123abcd-0000-4000-8000-00000000000f")


def open_keys():
    return list(Reject.objects.filter(resolved_at=None).order_by("id").values_list("key", flat=True))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("field", "bad", "good"),
    [
        (models.UUIDField(primary_key=True), f'"{{{str(SOME).upper()}}}"', f'"{SOME.hex}"'),
        (models.BigIntegerField(primary_key=True), '"+7"', "7.0"),
        (models.DecimalField(max_digits=5, decimal_places=2, primary_key=True), "7.10", '" 7.1 "'),
        (models.DateTimeField(primary_key=True), '"2024-01-01T02:00:00+02:00"', '"2024-01-01T00:00Z"'),
        (models.GenericIPAddressField(primary_key=True), '"2001:DB8::0:1"', '"2001:db8::1"'),
        (models.CharField(max_length=400, primary_key=True), f'"{"k" * 400}"', f'"{"k" * 400}"'),
    ],
    ids=["uuid", "integer", "decimal", "timestamp", "address", "long text"],
)
def test_a_reject_is_superseded_whatever_form_its_key_has(monkeypatch, field, bad, good):
    with table_of(**FIELDS | {"id": field}) as model:
        remote = Hostile(monkeypatch, model)
        remote.sync(f'[{{"id":{bad},"v":["bad"]}}]'.encode())
        (key,) = open_keys()
        remote.sync(f'[{{"id":{good},"v":["bad again"]}}]'.encode())
        assert open_keys() == [key, key]
        remote.sync(f'[{{"id":{good},"v":"good"}}]'.encode())
    assert (open_keys(), set(Reject.objects.values_list("resolution", flat=True))) == ([], {"superseded"})


@pytest.mark.django_db(transaction=True)
def test_a_reject_is_superseded_by_its_own_key_alone(monkeypatch):
    fields = {"a": models.CharField(max_length=9), "b": models.CharField(max_length=9), **FIELDS}
    fields["id"] = models.BigAutoField(primary_key=True)
    unique = models.UniqueConstraint(fields=["a", "b"], name="a_and_b")
    options = {"columns": {"a": "a", "b": "b", "v": "v"}}
    with table_of({"constraints": [unique]}, **fields) as model:
        remote = Hostile(monkeypatch, model)
        options["target"] = Upsert(model, key=("a", "b"))
        remote.sync(b'[{"a":"x, y","b":"z","v":[]}]', **options)
        remote.sync(b'[{"a":"x","b":"y, z","v":"good"}]', **options)
        assert open_keys() == ['"x, y", z']
        remote.sync(b'[{"a":"x, y","b":"z","v":"good"}]', **options)
    assert open_keys() == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("loaded_before", [False, True], ids=["into an empty table", "merged"])
def test_a_key_that_no_index_can_hold_is_quarantined(monkeypatch, loaded_before):
    # Random, because the index compresses.
    key = random.Random(7).randbytes(4000).hex()
    page = json_list([{"id": "a"}, {"id": key, "v": "x"}, {"id": "b"}])
    with table_of(**FIELDS | {"id": models.TextField(primary_key=True)}) as model:
        remote = Hostile(monkeypatch, model)
        if loaded_before:
            remote.sync(b'[{"id":"a","v":"old"}]')
        outcome = remote.sync(page)
    assert outcome.summary["state"] == "succeeded"
    inserted = {"inserted": 1, "updated": 1} if loaded_before else {"inserted": 2}
    assert outcome.counts == {"read": 3, "rejected": 1} | inserted
    (reject,) = outcome.rejects
    assert (reject.reason, reject.field, reject.position) == ("too_large", "photos_order_pkey", 1)
    assert (reject.key[:222], len(reject.key)) == (key[:222], 255)
    assert bytes(reject.raw) == json.dumps({"id": key, "v": "x"}).encode()
