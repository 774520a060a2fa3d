"""How the loaders' statements are carried out, where another plan of the database's takes longer, or does not end."""

from contextlib import contextmanager
from itertools import chain

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from ingestion import loaders
from ingestion.encoding import encode_lines
from ingestion.loaders import Lines, RunTables, Scope, Table
from ingestion.loaders.upserting import Rising
from ingestion.loaders.vanishing import add_keys, count_missing, make_keys
from ingestion.streams import StringIteratorIO

TABLE = Table(name="planned", columns=("id", "title"), key=("id",))
ROWS = 20_000


@pytest.fixture
def cursor(db):
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE planned (id bigint PRIMARY KEY, title text)")
        cursor.execute("INSERT INTO planned SELECT n, 'title ' || n FROM generate_series(1, %s) AS n", [ROWS])
        cursor.execute("ANALYZE planned")
        yield cursor


@contextmanager
def explained(cursor, beginning):
    """Fill a list with the plans of the statements with this beginning."""
    plans = []

    def explain(execute, statement, params, many, context):
        text = statement if isinstance(statement, str) else statement.as_string(connection.connection)
        if text.startswith(beginning):
            execute(f"EXPLAIN {text}", params, many, context)
            plans.append("\n".join(line for (line,) in context["cursor"].fetchall()))
        return execute(statement, params, many, context)

    with connection.execute_wrapper(explain):
        yield plans


@pytest.mark.parametrize("keys", [range(5_001, 8_001), range(8_000, 5_000, -1)], ids=["rising", "falling"])
def test_neighbours_are_compared_along_the_index_and_not_put_into_a_hash_table(cursor, keys):
    rows = [(key, f"title {key}") for key in keys]
    lines = Lines(open=lambda: StringIteratorIO(encode_lines(rows, ("integer", "text"))), keys=list(keys))
    with explained(cursor, "WITH") as plans:
        assert loaders.upsert(cursor, TABLE, lines).unchanged == len(rows)
    (plan,) = plans
    assert "Merge" in plan
    assert "Hash" not in plan


def test_rows_that_a_run_has_not_seen_are_joined_and_not_looked_for_one_by_one(cursor):
    tables = RunTables(feed=1, run=1)
    make_keys(cursor, TABLE, tables)
    add_keys(cursor, TABLE, tables, range(2, ROWS + 1), loaded=True)
    with explained(cursor, "SELECT (SELECT count(*)") as plans:
        assert count_missing(cursor, TABLE, [tables.keys], Scope(), inserted=0).rows == 1
    (plan,) = plans
    assert "Anti Join" in plan
    assert "SubPlan" not in plan


@given(st.lists(st.lists(st.integers(-50, 50), max_size=4) | st.just([60, 61]) | st.just([62]), min_size=1, max_size=6))
def test_rising_keys_are_told_from_others_page_by_page(pages):
    rising = Rising(pages[0])
    assert all(rising.add(page) for page in pages[1:])
    keys = list(chain.from_iterable(pages))
    assert rising.count_distinct(keys) == len(set(keys))
    if keys:
        assert rising.bounds(keys) == (min(keys), max(keys))
