"""Pages that are as the last successful run loaded them are skipped; whenever that could be wrong, they are not."""

import pytest
from django.db import connection, transaction

from ingestion import quarantine
from ingestion.cleaning import text
from ingestion.loaders import Table, take_imprint
from ingestion.models import Memory, Reject, Run
from ingestion.signals import chunk_committed
from tests.ingestion.catalog import COLUMNS, counts, products, table_of
from tests.ingestion.shop import Shop, somebody

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_waiting")]


def test_the_second_of_two_equal_runs_skips_every_page_and_accounts_for_every_record(shop):
    first = shop.sync()
    assert (first["pages"], first["pages_skipped"], counts(first)) == (5, 0, {"read": 10, "inserted": 10})
    for _ in range(2):
        again = shop.sync()
        assert (again["state"], again["pages"], again["pages_skipped"]) == ("succeeded", 5, 5)
        assert counts(again) == {"read": 10, "unchanged": 10}
    assert len(shop.remote.requests) == 15


def test_without_the_option_nothing_is_skipped_or_remembered(shop):
    assert [shop.skipped(skip_unchanged_pages=False) for _ in range(2)] == [0, 0]
    assert not Memory.objects.exists()


def test_a_changed_page_is_loaded_and_the_others_are_skipped(shop):
    shop.sync()
    shop.pages[2][1]["name"] = "changed"
    summary = shop.sync()
    assert (summary["pages_skipped"], counts(summary)) == (4, {"read": 10, "updated": 1, "unchanged": 9})
    assert shop.names() == shop.expected()
    assert shop.skipped() == 5


def test_new_pages_are_loaded_and_pages_that_are_gone_are_not_missed(shop):
    shop.sync()
    shop.pages.append(products(90, 91))
    summary = shop.sync()
    assert (summary["pages_skipped"], counts(summary)) == (5, {"read": 12, "inserted": 2, "unchanged": 10})
    del shop.pages[3:]
    assert [shop.skipped(), shop.skipped()] == [3, 3]


def test_skipped_pages_are_committed_together(shop):
    shop.pages = [products(2 * number, 2 * number + 1) for number in range(1, 101)]
    shop.sync(chunk_rows=50_000)
    commits = []

    def listen(counts, **more):
        commits.append(counts.pages_skipped)

    chunk_committed.connect(listen, sender=shop.model)
    assert shop.skipped() == 100
    chunk_committed.disconnect(listen, sender=shop.model)
    assert (len(commits) < 10, sum(commits)) == (True, 100)


def test_a_full_run_loads_every_page_and_is_remembered(shop):
    shop.sync()
    assert [shop.skipped(full=True), shop.skipped()] == [0, 5]
    assert list(Run.objects.order_by("pk").values_list("full", flat=True)) == [False, True, False]


def test_a_run_with_a_limit_and_a_dry_run_skip_nothing_and_are_not_remembered(shop):
    assert [shop.skipped(limit=3), shop.skipped(dry_run=True)] == [0, 0]
    assert not Memory.objects.exists()
    shop.sync()
    assert [shop.skipped(limit=3), shop.skipped(dry_run=True)] == [0, 0]
    # They changed nothing, so what the run before them remembers is still true.
    assert shop.skipped() == 5


def test_a_run_with_a_limit_that_writes_ends_what_was_remembered(shop):
    shop.sync()
    shop.pages[0][0]["name"] = "limited"
    shop.sync(limit=1)
    shop.pages[0][0]["name"] = "product 2"
    assert shop.skipped() == 0
    assert shop.names() == shop.expected()


# The table

REMADE = """CREATE TABLE copied (LIKE photos_order INCLUDING ALL);
INSERT INTO copied SELECT * FROM photos_order;
DROP TABLE photos_order;
ALTER TABLE copied RENAME TO photos_order"""


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM photos_order WHERE code = 5",
        "DELETE FROM photos_order",
        "TRUNCATE photos_order",
        "UPDATE photos_order SET name = 'by hand' WHERE code = 5",
        "UPDATE photos_order SET name = name WHERE code = 5",
        "INSERT INTO photos_order (code, name) VALUES (5000, 'by hand')",
        "DELETE FROM photos_order WHERE code = 5; INSERT INTO photos_order (code, name) VALUES (5, 'by hand')",
        "ALTER TABLE photos_order ADD extra text",
        REMADE,
    ],
)
def test_a_table_that_somebody_changed_is_loaded_as_a_whole(shop, change):
    shop.sync()
    with somebody() as cursor:
        # A session that is busy: its counters reach the server's later than its commits.
        cursor.execute("UPDATE photos_order SET note = note WHERE false")
        cursor.execute(change)
        assert shop.skipped() == 0
    names = shop.names()
    assert {code: names[code] for code in shop.expected()} == shop.expected()
    # The session's counters may have arrived only now, and then the next run cannot tell from what.
    shop.sync()
    assert shop.skipped() == 5


@pytest.mark.parametrize(
    "harmless",
    [
        "VACUUM FREEZE photos_order",
        "VACUUM FULL photos_order",
        "ANALYZE photos_order",
        "CREATE INDEX ON photos_order (name)",
        "SELECT FROM photos_order FOR UPDATE",
        "BEGIN; UPDATE photos_order SET name = 'rolled back'; ROLLBACK",
    ],
)
def test_what_changes_no_row_changes_nothing(shop, harmless):
    shop.sync()
    with somebody() as cursor:
        cursor.execute(harmless)
    # The server counts rows that were rolled back as well, so that this one is loaded again for nothing.
    assert shop.skipped() == (0 if "ROLLBACK" in harmless else 5)


@pytest.mark.parametrize(("run", "skipped"), [("first", 0), ("second", 5)])
def test_a_change_beside_a_run_is_found_by_the_next_one(shop, run, skipped):
    """The change is in the table when the run ends: with rows of its own in the first, without any in the second."""
    if run == "second":
        shop.sync()

    def change(number):
        if number == 4:
            with somebody() as cursor:
                cursor.execute("UPDATE photos_order SET name = 'by hand' WHERE code = 2")

    shop.asked = change
    shop.options["chunk_bytes"] = 1
    assert shop.skipped() == skipped
    shop.asked = lambda number: None
    if shop.names()[2] == "by hand":  # not when the first page came after the change
        assert shop.skipped() == 0
    assert shop.names() == shop.expected()
    assert shop.skipped() == 5


def test_a_partitioned_table_is_looked_at_with_its_partitions(monkeypatch):
    with table_of() as model, connection.cursor() as cursor:
        cursor.execute(
            "DROP TABLE photos_order; CREATE TABLE photos_order (id bigint GENERATED BY DEFAULT AS IDENTITY,"
            " code bigint UNIQUE, name varchar(20), note varchar(20) DEFAULT 'own') PARTITION BY HASH (code);"
            "CREATE TABLE one PARTITION OF photos_order FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
            "CREATE TABLE other PARTITION OF photos_order FOR VALUES WITH (MODULUS 2, REMAINDER 1)"
        )
        shop = Shop(monkeypatch, model, 5)
        with shop.remote:
            assert [shop.skipped(), shop.skipped()] == [0, 5]
            cursor.execute("DELETE FROM one")
            assert [shop.skipped(), shop.skipped()] == [0, 5]


def test_a_view_has_no_versions_of_rows(model):
    with connection.cursor() as cursor:
        cursor.execute("CREATE VIEW seen AS SELECT * FROM photos_order")
        assert take_imprint(cursor, Table(name="seen", columns=("code",))) is None
        assert take_imprint(cursor, Table(name="nowhere", columns=("code",))) is None
        assert take_imprint(cursor, Table(name="photos_order", columns=("code",))) is not None


def test_counters_that_are_switched_off_tell_nothing(model):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL track_counts = off")
        assert take_imprint(cursor, Table(name="photos_order", columns=("code",))) is None


def test_a_replay_that_writes_ends_what_was_remembered(shop):
    shop.pages[1][0]["name"] = "x" * 30
    shop.sync()
    shop.pages[1][0]["name"] = "mended"
    shop.declare(columns=COLUMNS | {"name": text("name", truncate=True)})
    shop.sync()
    Reject.objects.update(resolved_at=None, resolution="")
    assert shop.skipped() == 5
    (run,) = quarantine.replay("shop", Reject.objects.all())
    assert run.updated == 1
    assert shop.skipped() == 0
    assert shop.names() == shop.expected()
