"""Replacements over whole runs: the table holds what the source has, at once, for every reader."""

import threading

import psycopg2
import pytest
from django.db import connection

from ingestion import pipeline
from ingestion.feeds import Replace
from ingestion.models import Run
from tests.ingestion.catalog import counts, execute, products, rows, tables_of_runs, written

pytestmark = pytest.mark.django_db(transaction=True)


def test_replace_makes_the_table_hold_what_the_source_has(catalog, model):
    target = Replace(model, key="code", allow_delete_share=0.5)
    assert counts(catalog.sync(target, products(1, 2), products(3, 4))) == {"read": 4, "inserted": 4}
    model.objects.update(note="by hand")
    summary = catalog.sync(target, products(2, 3, name="old"), products(3, 5, name="new"))
    assert counts(summary) == {"read": 4, "inserted": 1, "updated": 2, "deleted": 2, "duplicates": 1}
    assert rows(model, "code", "name", "note") == [
        (2, "old", "by hand"), (3, "new", "by hand"), (5, "new", "own")
    ]  # fmt: skip
    assert tables_of_runs() == []


def test_replace_without_a_key_compares_whole_rows_and_keeps_equal_ones_as_often_as_they_come(catalog, model):
    execute("ALTER TABLE photos_order DROP CONSTRAINT photos_order_code_key")
    target = Replace(model)
    assert counts(catalog.sync(target, products(1, 1, 2), products(1, 3))) == {"read": 5, "inserted": 5}
    before = written("photos_order")
    assert counts(catalog.sync(target, products(3, 1, 2), products(1, 1))) == {"read": 5, "unchanged": 5}
    assert written("photos_order") == before
    summary = catalog.sync(target, products(1, 1, 2, 2), products(3, name="changed"))
    assert counts(summary) == {"read": 5, "inserted": 2, "unchanged": 3, "deleted": 2}
    assert rows(model, "code", "name")[-1] == (3, "changed")
    assert rows(model, "code") == [1, 1, 2, 2, 3]


def test_replace_in_slices_changes_nothing_before_its_end(catalog, model):
    target = Replace(model, key="code", allow_delete_share=1)
    catalog.sync(target, products(1, 2))
    seen = []

    def look(number):
        seen.append(rows(model, "code"))
        connection.close()

    run = catalog.in_slices(target, products(3), products(4), products(5), before=look)
    assert counts(run.summary()) == {"read": 3, "inserted": 3, "deleted": 2}
    assert (rows(model, "code"), {*map(tuple, seen)}) == ([3, 4, 5], {(1, 2)})


def test_views_grants_indexes_and_foreign_keys_survive_a_replacement(catalog, model):
    target = Replace(model, key="code", allow_delete_share=1)
    catalog.sync(target, products(1, 2))
    execute(
        "CREATE VIEW names AS SELECT name FROM photos_order;"
        "CREATE INDEX extra ON photos_order (name);"
        "CREATE TABLE lines (code bigint REFERENCES photos_order (code)); INSERT INTO lines VALUES (1);"
        "GRANT SELECT ON photos_order TO pg_monitor"
    )
    try:
        before = execute("SELECT oid, relfilenode, relacl FROM pg_class WHERE relname IN ('photos_order', 'extra')")
        assert catalog.sync(target, products(1, 3))["state"] == "succeeded"
        assert execute("SELECT name FROM names ORDER BY 1") == [("product 1",), ("product 3",)]
        after = execute("SELECT oid, relfilenode, relacl FROM pg_class WHERE relname IN ('photos_order', 'extra')")
        assert after == before
    finally:
        execute("DROP VIEW names; DROP TABLE lines")


def test_readers_see_the_old_table_or_the_new_one(catalog, model):
    """A reader looks as often as it can, in plain statements and in one old snapshot, and is never kept waiting."""
    target = Replace(model, key="code", allow_delete_share=1)
    old, new = {*range(500)}, {*range(250, 900)}
    catalog.sync(target, products(*old))
    seen, stop = [], threading.Event()

    def read():
        plain, snapshot = (psycopg2.connect(**connection.get_connection_params()) for _ in range(2))
        plain.autocommit = True
        snapshot.set_session(isolation_level="REPEATABLE READ")
        with plain.cursor() as now, snapshot.cursor() as then:
            then.execute("SET lock_timeout = '5s'; SELECT count(*) FROM photos_order")
            while not stop.is_set():
                now.execute("SELECT code FROM photos_order")
                seen.append(frozenset(code for (code,) in now.fetchall()))
            then.execute("SELECT code FROM photos_order")
            seen.append(frozenset(code for (code,) in then.fetchall()))
        assert seen[-1] == old
        plain.close()
        snapshot.close()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        pages = [products(*range(first, first + 50)) for first in range(250, 900, 50)]
        assert catalog.sync(target, *pages)["state"] == "succeeded"
    finally:
        stop.set()
        reader.join()
    assert set(seen) <= {frozenset(old), frozenset(new)}
    assert set(rows(model, "code")) == new


def test_a_dry_run_of_a_replacement_shows_the_differences(catalog, model):
    target = Replace(model, key="code", allow_delete_share=1)
    catalog.sync(target, products(1, 2))
    catalog.declare(target, products(2, name="new"), products(3))
    report = pipeline.run_here("catalog", dry_run=True)
    assert counts(report.summary) == {"read": 2, "inserted": 1, "updated": 1, "deleted": 1}
    assert [(row.key["code"], row.before and row.before["name"]) for row in report.differences] == [
        (2, "product 2"), (3, None)
    ]  # fmt: skip
    assert (rows(model, "code"), tables_of_runs(), Run.objects.count()) == ([1, 2], [], 1)
