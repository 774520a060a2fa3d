"""Chunks grow while COPY reads them, within their limits, and nothing of them is lost when they are read again."""

import time

import pytest
from django.db import connection

from ingestion import chunks, claims, feeds, loaders, runs
from ingestion.allowances import Allowance
from ingestion.cleaning import Column
from ingestion.collecting import Chunk
from ingestion.feeds import Upsert
from ingestion.http import Response
from ingestion.loaders import Lines, Table
from ingestion.loaders.upserting import upsert
from ingestion.models import State, Trigger
from ingestion.prefetch import Prefetcher
from ingestion.preparation import Preparer
from ingestion.sources import split_records
from ingestion.streams import StringIteratorIO
from ingestion.types import Page
from photos.feeds import PHOTOS
from tests.ingestion.catalog import products, table_of

COLUMNS = (
    Column(name="id", kind="integer", path=("id",), is_key=True, limits=(0, 10**9)),
    Column(name="title", kind="text", path=("title",), max_length=20),
)
PATIENCE = 30


def page(number, keys, *, last=False, rules=()):
    body = ("[" + ",".join(f'{{"id": {key}, "title": "t{key}"}}' for key in keys) + "]").encode()
    records = split_records(Response(status=200, headers={}, body=body), ())
    following = None if last else {"page": number + 1}
    return Preparer(COLUMNS, rules)(Page(number=number, records=records, size_bytes=len(body), following=following))


def chunk_of(first, *more):
    waiting = list(more)

    def take(accept):
        return waiting.pop(0) if waiting and accept(waiting[0].keys) else None

    return Chunk(pages=[first], take=take), waiting


def everything(keys):
    return True


def test_pages_join_while_the_lines_are_read():
    chunk, waiting = chunk_of(page(1, [1, 2]), page(2, [3]), page(3, [4]))
    lines = chunk.growing_lines(everything)
    assert next(lines) == "1\tt1\n2\tt2\n"
    assert list(chunk.keys) == [1, 2]
    assert next(lines) == "3\tt3\n"
    assert (list(chunk.keys), chunk.following) == ([1, 2, 3], {"page": 3})
    assert list(lines) == ["4\tt4\n"]
    assert (list(chunk.keys), chunk.read, waiting) == ([1, 2, 3, 4], 4, [])


def test_a_page_that_is_not_accepted_waits_for_the_next_chunk():
    chunk, waiting = chunk_of(page(1, [1]), page(2, [2]), page(3, [3]))
    assert list(chunk.growing_lines(lambda keys: list(keys) != [3])) == ["1\tt1\n", "2\tt2\n"]
    assert list(chunk.keys) == [1, 2]
    assert [list(left.keys) for left in waiting] == [[3]]


def test_keys_that_an_array_cannot_hold_wait_for_a_chunk_of_their_own():
    beyond = page(3, [3])
    beyond.keys = [2**63]
    chunk, waiting = chunk_of(page(1, [1, 2]), page(2, []), beyond)
    assert list(chunk.growing_lines(everything)) == ["1\tt1\n2\tt2\n"]
    assert (list(chunk.keys), waiting) == ([1, 2], [beyond])
    chunk, waiting = chunk_of(beyond, page(4, [4]))
    assert list(chunk.growing_lines(everything)) == ["3\tt3\n", "4\tt4\n"]
    assert (chunk.keys, waiting) == ([2**63, 4], [])
    assert Chunk(pages=[page(1, [1]), beyond]).keys == [1, 2**63]


def test_a_chunk_does_not_grow_beyond_the_last_page():
    assert sum(1 for _ in chunk_of(page(1, [1], last=True), page(2, [2]))[0].growing_lines(everything)) == 1


@pytest.mark.parametrize("rules", [(), (lambda record: record,)])
def test_text_that_was_given_is_there_again_when_asked_for(rules):
    prepared = page(1, range(50), rules=rules)
    first = "".join(prepared.give_lines())
    assert first.count("\n") == 50
    assert bool(prepared.lines) == bool(rules)  # functions of a feed might say something else the next time
    assert "".join(prepared.give_lines()) == first


def test_the_prefetcher_gives_a_page_that_comes_soon_and_is_accepted():
    def pages():
        yield page(1, [1])
        time.sleep(0.1)
        yield page(2, [2])

    with Prefetcher(pages(), Allowance.of(PHOTOS)) as ahead:
        assert ahead.take(timeout_seconds=PATIENCE).number == 1
        assert ahead.take_ready(timeout_seconds=PATIENCE, accept=lambda found: found.number == 3) is None
        assert ahead.take_ready(timeout_seconds=PATIENCE, accept=lambda found: found.number == 2).number == 2
        assert ahead.take_ready(timeout_seconds=PATIENCE) is None


TABLE = Table(name="growing", columns=("id", "title"), key=("id",))


@pytest.fixture
def cursor(transactional_db):
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE growing (id bigint PRIMARY KEY, title varchar(20))")
        yield cursor
        cursor.execute("DROP TABLE growing")


def load(cursor, chunk):
    lines = Lines(
        open=lambda: StringIteratorIO(chunk.lines()),
        grow=lambda accept: StringIteratorIO(chunk.growing_lines(accept)),
        keys=chunk.keys,
    )
    from django.db import transaction

    with transaction.atomic():
        return upsert(cursor, TABLE, lines)


def rows(cursor):
    cursor.execute("SELECT id, title FROM growing ORDER BY id")
    return dict(cursor.fetchall())


def test_rising_keys_beyond_the_table_s_join_and_others_wait(cursor):
    cursor.execute("INSERT INTO growing VALUES (5, 'old')")
    chunk, waiting = chunk_of(page(1, [10, 11]), page(2, [13, 12]), page(3, [12, 14]), page(4, [15]))
    loaded = load(cursor, chunk)
    assert (loaded.inserted, loaded.stored, list(chunk.keys)) == (4, 4, [10, 11, 13, 12])
    assert [left.number for left in waiting] == [3, 4]
    assert rows(cursor) == {5: "old", 10: "t10", 11: "t11", 12: "t12", 13: "t13"}


def test_keys_that_come_twice_within_a_page_wait(cursor):
    chunk, waiting = chunk_of(page(1, [1]), page(2, [2, 2]))
    assert load(cursor, chunk).inserted == 1
    assert [left.number for left in waiting] == [2]


def test_below_the_table_s_highest_key_nothing_joins(cursor):
    cursor.execute("INSERT INTO growing VALUES (100, 'old')")
    chunk, waiting = chunk_of(page(1, [1]), page(2, [2]))
    assert load(cursor, chunk).inserted == 1
    assert len(waiting) == 1


def test_what_is_compared_joins_whatever_its_keys(cursor):
    cursor.execute("INSERT INTO growing VALUES (1, 't1'), (2, 'old')")
    chunk, waiting = chunk_of(page(1, [1, 2]), page(2, [2, 1]), page(3, [7]))
    loaded = load(cursor, chunk)
    assert (loaded.inserted, loaded.updated, loaded.unchanged, loaded.duplicates) == (1, 1, 1, 2)
    assert waiting == []
    assert rows(cursor) == {1: "t1", 2: "t2", 7: "t7"}


def test_a_key_that_somebody_else_inserts_meanwhile_sends_the_grown_chunk_to_the_merge(cursor, monkeypatch):
    chunk, _ = chunk_of(page(1, [1]), page(2, [2]))
    copied = loaders.upserting.append

    def late(cursor, table, stream):
        cursor.execute("INSERT INTO growing VALUES (2, 'theirs')")
        return copied(cursor, table, stream)

    monkeypatch.setattr(loaders.upserting, "append", late)
    loaded = load(cursor, chunk)
    assert (loaded.inserted, loaded.updated, loaded.unchanged) == (2, 0, 0)
    assert rows(cursor) == {1: "t1", 2: "t2"}


@pytest.fixture
def commits():
    """Tell whether each transaction that moved a part was going to wait for the disk, as PostgreSQL sees it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE commits (waits text);"
            " CREATE FUNCTION note_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " INSERT INTO commits VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;"
            " CREATE TRIGGER noted AFTER UPDATE OF cursor ON ingestion_part EXECUTE FUNCTION note_commit()"
        )
        try:
            yield cursor
        finally:
            cursor.execute("DROP FUNCTION note_commit CASCADE; DROP TABLE commits")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("last", "waits"), [(True, "on"), (False, "off")])
def test_a_chunk_that_grows_to_the_last_page_is_committed_durably(catalog, commits, last, waits):
    with table_of() as model:
        catalog.declare(Upsert(model, key="code"), products(1), products(2), *([] if last else [products(3)]))
        feed = feeds.get("catalog")
        part = claims.claim(runs.request("catalog", trigger=Trigger.COMMAND)[0].parts.get().pk)
        plan = feeds.resolve(feed)
        first, second, *_ = map(Preparer(plan.columns), feed.source.pages(None))
        waiting = [second]
        chunk = Chunk(pages=[first], take=lambda accept: waiting.pop() if waiting else None)
        assert chunks.load(chunk, part, plan) == (State.SUCCEEDED if last else State.RUNNING)
        assert model.objects.count() == 2
    commits.execute("SELECT waits FROM commits")
    assert commits.fetchall() == [(waits,)]
