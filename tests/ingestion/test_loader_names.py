"""Loaders and names: tables and columns that are called like something in the loaders' own statements."""

import pytest
from django.db import connection
from psycopg2 import sql

from ingestion import loaders
from ingestion.encoding import encode_lines
from ingestion.loaders import (
    Appending,
    Lines,
    Lookup,
    Replacing,
    RunTables,
    Table,
    Upserting,
    Versioning,
    Versions,
    Wanted,
)
from ingestion.loaders.tables import names
from ingestion.streams import StringIteratorIO

pytestmark = pytest.mark.django_db

TABLES = RunTables(feed=1, run=1)
NAMES = ["100%", "%s", "latest", "target", "differing", "is_new", "nothing", "at", "times", "row", 'q"u', "x" * 63]
WANTED = {"counts": Wanted(), "keys": Wanted(keys=True), "sample": Wanted(sample_size=9)}


@pytest.fixture
def cursor():
    with connection.cursor() as cursor:
        yield cursor


def make(cursor, table, more=""):
    """Make the table: text in the last column, whole numbers in the others."""
    columns = [sql.SQL("{} bigint").format(sql.Identifier(name)) for name in table.columns[:-1]]
    columns.append(sql.SQL("{} text").format(sql.Identifier(table.columns[-1])))
    key = sql.SQL(", UNIQUE ({})" if table.key and not more else "").format(*[names(table.key)] * bool(table.key))
    cursor.execute(
        sql.SQL("CREATE TABLE {} ({}{}{})").format(table.identifier, sql.SQL(", ").join(columns), sql.SQL(more), key)
    )


def lines(*rows):
    return Lines(
        open=lambda: StringIteratorIO(encode_lines(rows, ("integer", "text"))), keys=[number for number, _ in rows]
    )


def named(name, place, *, key=True):
    """Return a table with the name in one place."""
    columns = (name if place == "key" else "id", name if place == "value" else "title")
    return Table(name=name if place == "table" else "named", columns=columns, key=columns[:1] if key else ())


def counts(loaded):
    return (loaded.inserted, loaded.updated, loaded.unchanged, loaded.duplicates)


@pytest.mark.parametrize("wanted", WANTED.values(), ids=WANTED)
@pytest.mark.parametrize("place", ["table", "key", "value"])
@pytest.mark.parametrize("name", NAMES)
def test_upsert(cursor, name, place, wanted):
    table = named(name, place)
    make(cursor, table)
    mode = Upserting(table=table)
    assert counts(mode.load(cursor, lines((1, "a"), (2, "b")), TABLES, wanted)) == (2, 0, 0, 0)
    loaded = mode.load(cursor, lines((1, "a"), (2, "c"), (2, "d"), (3, "e")), TABLES, wanted)
    assert counts(loaded) == (1, 1, 1, 1)
    cursor.execute(sql.SQL("SELECT * FROM {} ORDER BY 1").format(table.identifier))
    assert cursor.fetchall() == [(1, "a"), (2, "d"), (3, "e")]


@pytest.mark.parametrize("place", ["table", "key", "value"])
@pytest.mark.parametrize("name", NAMES)
def test_history(cursor, name, place):
    table = named(name, place)
    make(cursor, table, ", began timestamptz, ended timestamptz")
    mode = Versioning(table=table, versions=Versions(valid_from="began", valid_to="ended"))
    assert counts(mode.load(cursor, lines((1, "a"), (2, "b")), TABLES, Wanted(sample_size=9))) == (2, 0, 0, 0)
    loaded = mode.load(cursor, lines((1, "a"), (2, "c"), (2, "d"), (3, "e")), TABLES, Wanted())
    assert counts(loaded) == (1, 1, 1, 1)


@pytest.mark.parametrize("key", [True, False], ids=["key", "no key"])
@pytest.mark.parametrize("place", ["table", "key", "value"])
@pytest.mark.parametrize("name", NAMES)
def test_replace(cursor, name, place, key):
    table = named(name, place, key=key)
    make(cursor, table)
    Appending(table=table).load(cursor, lines((1, "a"), (2, "b")), TABLES, Wanted())
    mode = Replacing(table=table)
    mode.open(cursor, TABLES)
    mode.load(cursor, lines((2, "b"), (3, "c")), TABLES, Wanted())
    finished = mode.finish(cursor, TABLES, Wanted())
    assert (finished.deleted, *counts(finished)) == (1, 1, 0, 1, 0)


@pytest.mark.parametrize("place", ["table", "key", "value"])
@pytest.mark.parametrize("name", NAMES)
def test_lookup(cursor, name, place):
    table = named(name, place)
    make(cursor, table)
    lookup = Lookup(table=table.name, natural=table.key, types=("bigint",), target=table.columns[1])
    assert loaders.create(cursor, lookup, [("1",), ("2",)]) == 2
    cursor.execute(sql.SQL("UPDATE {} SET {} = 'found'").format(table.identifier, sql.Identifier(table.columns[1])))
    assert loaders.find(cursor, lookup, [("1",), ("3",)]) == {("1",): "found"}
