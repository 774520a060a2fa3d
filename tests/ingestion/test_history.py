"""Histories over whole runs: each version of a row with the time it was the current one."""

import pytest
from django.db import models
from django.db.models import Q

from ingestion.feeds import History
from tests.ingestion.catalog import counts, execute, products, rows, table_of, written

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def versions():
    fields = {
        "code": models.BigIntegerField(),
        "name": models.CharField(max_length=20),
        "valid_from": models.DateTimeField(),
        "valid_to": models.DateTimeField(null=True),
        "is_current": models.BooleanField(),
    }
    current = models.UniqueConstraint(fields=["code"], condition=Q(valid_to=None), name="one_current")
    with table_of({"constraints": [current]}, **fields) as model:
        yield model


def history(model):
    return History(model, key="code", valid_from="valid_from", valid_to="valid_to", is_current="is_current")


def test_history_keeps_each_version_and_its_time(catalog, versions):
    target = history(versions)
    assert counts(catalog.sync(target, products(1, 2), products(3))) == {"read": 3, "inserted": 3}
    summary = catalog.sync(target, products(1, 4), products(2, name="second"), products(2, 2, name="third"))
    assert counts(summary) == {"read": 5, "inserted": 1, "updated": 2, "unchanged": 1, "duplicates": 1}
    assert rows(versions, "code", "valid_from", "name", "is_current")[1:4] == [
        (2, versions.objects.get(name="product 2").valid_from, "product 2", False),
        (2, versions.objects.get(name="second").valid_from, "second", False),
        (2, versions.objects.get(name="third").valid_from, "third", True),
    ]
    ranges = list(versions.objects.filter(code=2).order_by("valid_from").values_list("valid_from", "valid_to"))
    assert [end for _, end in ranges] == [*[begin for begin, _ in ranges[1:]], None]
    assert all(end is None or begin < end for begin, end in ranges)
    assert set(versions.objects.filter(valid_to=None).values_list("code", "is_current")) == {
        (1, True), (2, True), (3, True), (4, True)
    }  # fmt: skip


def test_an_identical_second_run_adds_no_version(catalog, versions):
    catalog.sync(history(versions), products(1, 2), products(3))
    before = written("photos_order")
    assert counts(catalog.sync(history(versions), products(1, 2), products(3))) == {"read": 3, "unchanged": 3}
    assert written("photos_order") == before


def test_a_history_in_slices_and_without_a_flag(catalog, versions):
    execute("ALTER TABLE photos_order ALTER is_current SET DEFAULT true")
    target = History(versions, key="code", valid_from="valid_from", valid_to="valid_to")
    catalog.sync(target, products(1, 2))
    run = catalog.in_slices(target, products(1), products(2, name="new"), products(3))
    assert counts(run.summary()) == {"read": 3, "inserted": 1, "updated": 1, "unchanged": 1}
    assert rows(versions, "code") == [1, 2, 2, 3]


def test_a_version_that_the_database_refuses_is_rejected_and_the_current_one_stays(catalog, versions):
    catalog.sync(history(versions), products(1, 2))
    execute("ALTER TABLE photos_order ADD CONSTRAINT no_bad CHECK (name <> 'bad')")
    summary = catalog.sync(history(versions), products(1, name="good") + products(2, name="bad"))
    assert counts(summary) == {"read": 2, "updated": 1, "rejected": 1}
    assert set(versions.objects.filter(valid_to=None).values_list("code", "name")) == {(1, "good"), (2, "product 2")}


def test_a_version_lasts_at_least_a_microsecond_when_the_clock_was_set_back(catalog, versions):
    catalog.sync(history(versions), products(1))
    execute("UPDATE photos_order SET valid_from = valid_from + interval '1 hour'")
    assert counts(catalog.sync(history(versions), products(1, name="new"))) == {"read": 1, "updated": 1}
    old, new = versions.objects.order_by("valid_from")
    assert (old.valid_to - old.valid_from).total_seconds() == 0.000001
    assert new.valid_from == old.valid_to
