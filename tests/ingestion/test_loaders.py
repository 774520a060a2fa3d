"""Loaders against real tables: exact counts, nothing written when nothing differs, odd names and contents."""

import re

import psycopg2
import pytest
from django.db import DataError, connection, transaction
from psycopg2 import sql

from ingestion import loaders
from ingestion.encoding import encode_lines
from ingestion.loaders import Lines, RunTables, Table, Upserting, Wanted, append
from ingestion.streams import StringIteratorIO

pytestmark = pytest.mark.django_db

TABLE = Table(name='odd "Name"', columns=("Key", "value", "doc"), key=("Key",), documents=("doc",))


@pytest.fixture
def cursor():
    with connection.cursor() as cursor:
        cursor.execute(
            'CREATE TABLE "odd ""Name""" ("Key" bigint PRIMARY KEY, value varchar(20), doc jsonb, '
            "own text DEFAULT 'kept')"
        )
        yield cursor


def stream(rows, kinds=("integer", "text", "json")):
    return StringIteratorIO(encode_lines(rows, kinds))


def upsert(cursor, table, rows, kinds=("integer", "text", "json"), **options):
    """Load rows whose key is their first columns."""
    width = len(table.key)
    keys = [row[0] if width == 1 else row[:width] for row in rows]
    return loaders.upsert(cursor, table, Lines(open=lambda: stream(rows, kinds), keys=keys), Wanted(**options))


def stored(cursor):
    cursor.execute('SELECT "Key", value, doc::text, own FROM "odd ""Name""" ORDER BY 1')
    return cursor.fetchall()


def counts(loaded):
    return (loaded.stored, loaded.inserted, loaded.updated, loaded.unchanged, loaded.duplicates)


def test_first_upsert_inserts_every_row(cursor):
    loaded = upsert(cursor, TABLE, [(2, "b", '{"x": 1}'), (1, "a", "[]")])
    assert counts(loaded) == (2, 2, 0, 0, 0)
    assert stored(cursor) == [(1, "a", "[]", "kept"), (2, "b", '{"x": 1}', "kept")]


def test_upsert_counts_inserted_updated_unchanged_and_duplicates_exactly(cursor):
    upsert(cursor, TABLE, [(1, "a", "[]"), (2, "b", "[]"), (3, None, None)])
    rows = [(1, "a", "[]"), (2, "B", "[]"), (3, None, None), (4, "x", "{}"), (4, "y", "{}"), (2, "C", "[]")]
    assert counts(upsert(cursor, TABLE, rows)) == (6, 1, 1, 2, 2)
    assert [row[:2] for row in stored(cursor)] == [(1, "a"), (2, "C"), (3, None), (4, "y")]


def test_null_and_value_differ_both_ways(cursor):
    upsert(cursor, TABLE, [(1, None, None), (2, "b", "1")])
    assert counts(upsert(cursor, TABLE, [(1, "a", None), (2, None, "1")])) == (2, 0, 2, 0, 0)


def test_last_line_of_a_key_wins_over_many_pages_of_staging(cursor):
    rows = [(number % 7, f"turn {number // 7}", None) for number in range(7 * 3000)]
    assert counts(upsert(cursor, TABLE, rows)) == (21000, 7, 0, 0, 20993)
    assert {row[1] for row in stored(cursor)} == {"turn 2999"}


def test_columns_the_feed_does_not_own_stay(cursor):
    upsert(cursor, TABLE, [(1, "a", "[]")])
    cursor.execute('UPDATE "odd ""Name""" SET own = \'by hand\'')
    upsert(cursor, TABLE, [(1, "b", "[]")])
    assert stored(cursor) == [(1, "b", "[]", "by hand")]


def test_json_that_differs_only_in_form_is_unchanged(cursor):
    upsert(cursor, TABLE, [(1, "a", '{"x": 1, "y": 2.0}')])
    assert counts(upsert(cursor, TABLE, [(1, "a", '{ "y":2.00,\n"x":1 }')])) == (1, 0, 0, 1, 0)


@pytest.mark.parametrize(("before", "after"), [("[]", None), (None, "[]"), (None, "null"), ("[1]", "[2]")])
def test_json_that_differs_is_written(cursor, before, after):
    upsert(cursor, TABLE, [(1, "a", before)])
    assert counts(upsert(cursor, TABLE, [(1, "a", after)])) == (1, 0, 1, 0, 0)
    assert counts(upsert(cursor, TABLE, [(1, "a", after)])) == (1, 0, 0, 1, 0)


def test_upsert_of_nothing_counts_nothing(cursor):
    assert counts(upsert(cursor, TABLE, [])) == (0, 0, 0, 0, 0)


def test_a_table_that_is_all_key_inserts_only_what_is_new(cursor):
    table = Table(name=TABLE.name, columns=("Key",), key=("Key",))
    upsert(cursor, table, [(1,)], ["integer"])
    assert counts(upsert(cursor, table, [(1,), (2,), (2,)], ["integer"])) == (3, 1, 0, 1, 1)


def test_composite_key(cursor):
    cursor.execute("CREATE TABLE pairs (a bigint, b text, c text, UNIQUE (a, b))")
    table = Table(name="pairs", columns=("a", "b", "c"), key=("a", "b"))
    kinds = ("integer", "text", "text")
    upsert(cursor, table, [(1, "x", "1"), (1, "y", "1")], kinds)
    rows = [(1, "x", "1"), (1, "y", "2"), (2, "x", "1")]
    assert counts(upsert(cursor, table, rows, kinds)) == (3, 1, 1, 1, 0)


def test_append_stores_every_line(cursor):
    loaded = append(cursor, TABLE, stream([(1, "a\tb\n\\N", "[]"), (2, r"\.", "[]"), (3, None, None)]))
    assert counts(loaded) == (3, 3, 0, 0, 0)
    assert [row[1] for row in stored(cursor)] == ["a\tb\n\\N", r"\.", None]


def test_exception_of_the_generator_comes_out_as_it_was(cursor):
    def rows():
        yield (1, "a", "[]")
        raise LookupError("secret text")

    with pytest.raises(LookupError, match="secret text"), transaction.atomic():
        loaders.upsert(cursor, TABLE, Lines(open=lambda: stream(rows()), keys=[1, 2]))
    assert stored(cursor) == []


def test_a_line_the_database_refuses_names_line_and_column(cursor):
    with pytest.raises(DataError) as refused, transaction.atomic():
        upsert(cursor, TABLE, [(1, "a", "[]"), (2, "x" * 21, "[]")])
    assert re.search(r"line 2, column value", refused.value.__cause__.diag.context)


def test_no_staging_is_left_and_a_second_load_in_the_same_transaction_works(cursor):
    upsert(cursor, TABLE, [(1, "a", "[]")])
    upsert(cursor, TABLE, [(2, "a", "[]")])
    cursor.execute("SELECT count(*) FROM pg_class WHERE relname = 'ingestion_stage'")
    assert cursor.fetchone() == (0,)


def test_new_keys_between_and_beside_old_ones(cursor):
    upsert(cursor, TABLE, [(number, "a", None) for number in (10, 20, 30)])
    rows = [(number, "a", None) for number in (5, 15, 20, 40)]
    assert counts(upsert(cursor, TABLE, rows)) == (4, 3, 0, 1, 0)


def test_sample_shows_the_first_differences_in_the_order_of_their_keys(cursor):
    upsert(cursor, TABLE, [(number, "a", "[]") for number in (1, 2, 3)])
    rows = [(4, "new", None), (3, "b", "[]"), (2, "a", "[]"), (1, "c", "[]"), (5, "new", None)]
    loaded = upsert(cursor, TABLE, rows, sample_size=3)
    assert [(row.key, row.before and row.before["value"], row.after["value"]) for row in loaded.sample] == [
        ({"Key": 1}, "a", "c"),
        ({"Key": 3}, "a", "b"),
        ({"Key": 4}, None, "new"),
    ]
    assert counts(loaded) == (5, 2, 2, 1, 0)


def test_text_keys(cursor):
    cursor.execute("CREATE TABLE words (word text PRIMARY KEY, n bigint)")
    table = Table(name="words", columns=("word", "n"), key=("word",))
    kinds = ("text", "integer")
    assert counts(upsert(cursor, table, [("é'", 1), ("b\\", 2)], kinds)) == (2, 2, 0, 0, 0)
    assert counts(upsert(cursor, table, [("é'", 1), ("b\\", 3), ("c", 1)], kinds)) == (3, 1, 1, 1, 0)


@pytest.mark.parametrize("kind", ["mood", "inet"])
def test_keys_of_other_types_that_come_as_text(cursor, kind):
    cursor.execute("CREATE TYPE mood AS ENUM ('1.0.0.1', '1.0.0.2', '1.0.0.3')")
    cursor.execute(f"CREATE TABLE states (code {kind} PRIMARY KEY, n bigint)")
    table = Table(name="states", columns=("code", "n"), key=("code",))
    kinds = ("text", "integer")
    assert counts(upsert(cursor, table, [("1.0.0.1", 1), ("1.0.0.2", 2)], kinds)) == (2, 2, 0, 0, 0)
    assert counts(upsert(cursor, table, [("1.0.0.3", 1)], kinds)) == (1, 1, 0, 0, 0)
    assert counts(upsert(cursor, table, [("1.0.0.1", 1), ("1.0.0.2", 3)], kinds)) == (2, 0, 1, 1, 0)


def test_chunk_after_chunk(cursor):
    """What was a chunk's habit serves the next one, whatever that brings."""
    mode = Upserting(table=TABLE)
    asked = []

    def watch(execute, statement, params, many, context):
        text = statement if isinstance(statement, str) else statement.as_string(connection.connection)
        asked.append("SELECT EXISTS" in text)
        return execute(statement, params, many, context)

    def load(which, value="a", **options):
        asked.clear()
        lines = Lines(open=lambda: stream([(key, value, None) for key in which]), keys=which)
        with connection.execute_wrapper(watch):
            loaded = mode.load(cursor, lines, RunTables(feed=1, run=1), Wanted(**options))
        return any(asked), *counts(loaded)[1:]

    assert load([1, 2, 3]) == (True, 3, 0, 0, 0)
    assert load([2, 1]) == (True, 0, 0, 2, 0)
    assert load([2, 3]) == (False, 0, 0, 2, 0)
    assert load([3, 3, 2], "b") == (False, 0, 2, 0, 1)
    assert load([8, 9, 1], "b") == (False, 2, 1, 0, 0)
    assert load([4, 5]) == (True, 2, 0, 0, 0)
    assert load([9, 4], "b", keys=True) == (True, 0, 1, 1, 0)
    assert load([5, 7], "c", keys=True) == (False, 1, 1, 0, 0)
    expected = {1: "b", 2: "b", 3: "b", 4: "b", 5: "c", 7: "c", 8: "b", 9: "b"}
    assert {row[0]: row[1] for row in stored(cursor)} == expected


def test_memory_of_the_server_is_kept_from_the_second_merge_of_a_session_on(cursor):
    """Once in a session: see Note [Kept memory]. It changes nothing else, so that only the statement tells."""
    mode = Upserting(table=TABLE)
    asked = []

    def watch(execute, statement, params, many, context):
        asked.append("repeat(" in str(statement))
        return execute(statement, params, many, context)

    def load(*which):
        asked.clear()
        lines = Lines(open=lambda: stream([(key, "a", None) for key in which]), keys=which)
        with connection.execute_wrapper(watch), connection.cursor() as own:
            mode.load(own, lines, RunTables(feed=1, run=1), Wanted())
        return sum(asked)

    assert [load(1, 2), load(1), load(2), load(1, 2), load(1)] == [0, 0, 1, 0, 0]
    mode._habit.session = -1  # as after a lost connection
    assert [load(1), load(2), load(1)] == [0, 1, 0]


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        (([1, 2], [3, 4]), (4, 2, 0, 2, 0)),
        (([1, 2], [4, 3]), (4, 2, 0, 2, 0)),
        (([2, 3], [1]), (3, 1, 0, 2, 0)),
        (([1, 2], [2, 3]), (4, 1, 0, 2, 1)),
        (([1, 1], [5]), (3, 1, 0, 1, 1)),
    ],
)
def test_lines_that_join_while_the_others_are_staged(cursor, pages, expected):
    upsert(cursor, TABLE, [(1, "a", None), (2, "a", None)])
    assert counts(loaders.upsert(cursor, TABLE, growing(pages))) == expected
    assert [row[:2] for row in stored(cursor)] == [(key, "a") for key in sorted({1, 2, *pages[0], *pages[1]})]


def growing(pages):
    """Lines of the first page's keys, which those of the others join when they are asked for."""
    keys = list(pages[0])

    def lines(accept):
        yield from encode_lines([(key, "a", None) for key in pages[0]], ("integer", "text", "json"))
        for page in pages[1:]:
            if not accept(page):
                return
            keys.extend(page)
            yield from encode_lines([(key, "a", None) for key in page], ("integer", "text", "json"))

    return Lines(
        open=lambda: stream([(key, "a", None) for key in keys]),
        keys=keys,
        grow=lambda accept: StringIteratorIO(lines(accept)),
    )


@pytest.mark.django_db(transaction=True)
def test_a_key_that_somebody_else_inserts_meanwhile_is_merged():
    """The other one commits between the look for the keys and the COPY."""
    table = Table(name="shared", columns=("id", "title"), key=("id",))
    rows = [(1, "ours"), (2, "ours")]

    def open_stream():
        if not opened:
            other = psycopg2.connect(**connection.get_connection_params())
            with other, other.cursor() as rival:
                rival.execute("INSERT INTO shared VALUES (2, 'theirs')")
            other.close()
        opened.append(True)
        return stream(rows, ("integer", "text"))

    opened = []
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE shared (id bigint PRIMARY KEY, title text)")
        try:
            with transaction.atomic():
                loaded = loaders.upsert(cursor, table, Lines(open=open_stream, keys=[1, 2]))
            assert counts(loaded) == (2, 1, 1, 0, 0)
            assert len(opened) == 2
            cursor.execute("SELECT id, title FROM shared ORDER BY id")
            assert cursor.fetchall() == [(1, "ours"), (2, "ours")]
        finally:
            cursor.execute("DROP TABLE shared")


@pytest.mark.django_db(transaction=True)
def test_identical_rows_are_neither_written_nor_locked():
    table = Table(name="photos_copy", columns=("id", "title"), key=("id",))
    rows = [(number, f"title {number}") for number in range(100)]
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE photos_copy (id bigint PRIMARY KEY, title text)")
        try:
            for _ in range(2):
                with transaction.atomic():
                    loaded = upsert(cursor, table, rows, ("integer", "text"))
            assert counts(loaded) == (100, 0, 0, 100, 0)
            cursor.execute("SELECT count(*) FROM photos_copy WHERE xmax <> '0'")
            assert cursor.fetchone() == (0,)
        finally:
            cursor.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("photos_copy")))
