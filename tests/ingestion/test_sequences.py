"""Sequences that keep up with loaded values, while several parts of a run load at once."""

import contextlib
import threading

import psycopg2
import pytest
from django.db import connection

from ingestion.loaders import Table, move_sequence
from tests.processes import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

NUMBERS = Table(name="numbers", columns=("id",), key=("id",), serial="id")
# Found before PostgreSQL's own by whoever sets this search path: it waits in the middle of moving the sequence.
SLOW_PATH = "SET search_path = slow, pg_catalog, public"
SLOW = (
    "CREATE TABLE numbers (id bigserial PRIMARY KEY); CREATE SCHEMA slow;"
    "CREATE FUNCTION slow.setval(regclass, bigint) RETURNS bigint LANGUAGE sql VOLATILE AS"
    " $$ SELECT pg_catalog.pg_advisory_xact_lock(7); SELECT pg_catalog.setval($1, $2) $$"
)


@pytest.fixture
def connect():
    with connection.cursor() as cursor, contextlib.ExitStack() as stack:
        cursor.execute(SLOW)
        parameters = connection.get_connection_params() | {"cursor_factory": None, "options": "-c lock_timeout=20s"}
        yield lambda: stack.enter_context(contextlib.closing(psycopg2.connect(**parameters)))
        stack.close()
        cursor.execute("DROP TABLE numbers; DROP SCHEMA slow CASCADE")


def load(session, number):
    """Load a value and move the sequence, as a chunk does before its COMMIT."""
    with session.cursor() as cursor:
        cursor.execute("INSERT INTO numbers VALUES (%s)", [number])
        move_sequence(cursor, NUMBERS)


def last_value():
    with connection.cursor() as cursor:
        cursor.execute("SELECT last_value FROM numbers_id_seq")
        return cursor.fetchone()[0]


def waiting():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return cursor.fetchone()[0]


def test_two_chunks_that_end_at_once_never_move_it_back(connect):
    slow, quick, gate = connect(), connect(), connect()
    gate.cursor().execute("SELECT pg_advisory_lock(7)")
    slow.cursor().execute(SLOW_PATH)
    first = threading.Thread(target=load, args=(slow, 100))
    second = threading.Thread(target=load, args=(quick, 200))
    first.start()
    wait_until(lambda: waiting() == 1, seconds=10, what="the slow chunk in the middle of its move")
    second.start()
    wait_until(lambda: waiting() == 2 or not second.is_alive(), seconds=10, what="the second chunk's move")
    gate.cursor().execute("SELECT pg_advisory_unlock(7)")
    first.join()
    second.join()
    assert last_value() == 200


def test_whoever_has_moved_it_keeps_nobody_waiting(connect):
    """A dry run may keep its transaction open for hours."""
    dry, other = connect(), connect()
    load(dry, 100)
    load(other, 200)
    assert last_value() == 200
    dry.rollback()
    assert last_value() == 200


def test_it_stays_where_somebody_else_has_moved_it(connect):
    session = connect()
    with session.cursor() as cursor:
        cursor.execute("SELECT setval('numbers_id_seq', 500)")
    load(session, 100)
    assert last_value() == 500
