"""Relations whose rows somebody else makes or deletes while a chunk is loaded."""

import threading
import time

import psycopg2
import pytest
from django.db import connection

from ingestion.feeds import Upsert
from tests.ingestion.albums import COLUMNS, albums, columns, pictures, reasons
from tests.ingestion.catalog import counts, rows

pytestmark = pytest.mark.django_db(transaction=True)


def until_somebody_waits(other):
    deadline = time.monotonic() + 30
    # For this one: other tests wait in the same server.
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
    with psycopg2.connect(**connection.get_connection_params()) as watch, watch.cursor() as cursor:
        while time.monotonic() < deadline:
            cursor.execute(waiting, [other.info.backend_pid])
            if cursor.fetchone()[0]:
                break
            watch.rollback()
            time.sleep(0.01)
    watch.close()


def beside(catalog, other, change, *arguments, **options):
    """Run the feed; when it waits for the other connection, that one makes its change and commits."""

    def cross():
        until_somebody_waits(other)
        with other.cursor() as cursor:
            cursor.execute(change)
        other.commit()

    thread = threading.Thread(target=cross)
    thread.start()
    summary = catalog.sync(*arguments, **options)
    thread.join()
    other.close()
    return summary


def test_somebody_else_makes_the_same_row_at_the_same_time(catalog):
    with albums() as (album, model):
        other = psycopg2.connect(**connection.get_connection_params())
        with other.cursor() as cursor:
            cursor.execute("INSERT INTO photos_album (code, title) VALUES ('a', 'theirs')")
        target = Upsert(model, key="code")
        summary = beside(catalog, other, "SELECT 1", target, pictures((1, "a"), (2, "b")), columns=columns("create"))
        assert (counts(summary), summary["coercions"]) == ({"read": 2, "inserted": 2}, {"album:created": 1})
        assert rows(album, "code", "title") == [("a", "theirs"), ("b", "untitled")]


def test_somebody_else_deletes_the_row_after_it_was_found(catalog):
    with albums() as (album, model):
        album.objects.create(code="a")
        album.objects.create(code="b")
        with connection.cursor() as cursor:
            cursor.execute(
                "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$"
                " BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$;"
                "CREATE TRIGGER wait BEFORE INSERT ON photos_picture EXECUTE FUNCTION wait()"
            )
        other = psycopg2.connect(**connection.get_connection_params())
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(7)")
        target = Upsert(model, key="code")
        page = pictures((1, "a"), (2, "b"), (3, "a"), (4, "b"))
        try:
            summary = beside(catalog, other, "DELETE FROM photos_album WHERE code = 'a'", target, page, columns=COLUMNS)
        finally:
            with connection.cursor() as cursor:
                cursor.execute("DROP FUNCTION wait() CASCADE")
        assert counts(summary) == {"read": 4, "inserted": 2, "rejected": 2}
        assert {reason for reason, _, _ in reasons()} == {"foreign_key_violation"}
        assert rows(model, "code") == [2, 4]
