"""Pages that are as the last successful run loaded them are skipped; whenever that could be wrong, they are not."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
import stamina
from django.db import connection, transaction

from ingestion import interventions, pipeline, quarantine, runs
from ingestion.cleaning import text
from ingestion.feeds import RejectLimit, Upsert
from ingestion.loaders import Table, take_imprint
from ingestion.models import Memory, Reject, RememberedPages, Run, State, Trigger
from ingestion.pagination import PageNumber
from ingestion.parts import PageRanges, Windows
from ingestion.signals import chunk_committed
from ingestion.sources import JsonApi
from tests.ingestion.catalog import COLUMNS, counts, products, table_of
from tests.ingestion.shop import Shop, somebody

pytestmark = pytest.mark.django_db(transaction=True)

PAGES = 5


@pytest.fixture(autouse=True)
def _no_waiting():
    with stamina.set_testing(True, attempts=1, cap=True):
        yield


@pytest.fixture
def model():
    with table_of() as model:
        yield model


@pytest.fixture
def shop(monkeypatch, model):
    shop = Shop(monkeypatch, model, PAGES)
    with shop.remote:
        yield shop


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
        shop = Shop(monkeypatch, model, PAGES)
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


# What is remembered of a page


def test_a_page_with_a_reject_is_read_each_time(shop):
    shop.pages[1][0]["name"] = "x" * 30
    shop.options["reject_limit"] = RejectLimit(records=5)
    for expected in ({"inserted": 9}, {"unchanged": 9}, {"unchanged": 9}):
        summary = shop.sync()
        assert counts(summary) == {"read": 10, "rejected": 1} | expected
        assert summary["pages_skipped"] == (0 if "inserted" in expected else 4)
    assert Reject.objects.count() == 3


def test_a_page_that_the_database_refused_a_record_of_is_read_each_time(shop):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE photos_order ADD CONSTRAINT no_seven CHECK (code <> 7)")
    assert counts(shop.sync()) == {"read": 10, "inserted": 9, "rejected": 1}
    shop.sync()
    summary = shop.sync()
    assert (summary["pages_skipped"], counts(summary)) == (4, {"read": 10, "unchanged": 9, "rejected": 1})


def test_coercions_and_records_that_rules_leave_out_are_counted_for_skipped_pages(shop):
    shop.pages[0][1]["name"] = " spaces "
    shop.pages[3][0]["draft"] = True
    shop.declare(columns=COLUMNS | {"name": text("name", strip=True)}, rules=(leave_drafts_out,))
    seen = [shop.sync() for _ in range(3)]
    assert [summary["pages_skipped"] for summary in seen] == [0, 5, 5]
    assert [(summary["skipped"], summary["coercions"]) for summary in seen] == [(1, {"name:strip": 1})] * 3
    assert counts(seen[2]) == {"read": 9, "unchanged": 9}


def leave_drafts_out(record):
    return None if record.get("draft") else record


def test_pages_with_a_key_twice_are_read_each_time(shop):
    shop.pages[1] = products(4, 4)
    shop.sync()
    summary = shop.sync()
    assert (summary["pages_skipped"], counts(summary)) == (4, {"read": 10, "unchanged": 9, "duplicates": 1})


def test_a_page_behind_a_change_that_may_have_the_same_key_is_loaded(shop):
    shop.pages[3] = [{"code": 2, "name": "the last one"}, *products(9)]
    shop.sync()
    shop.pages[0][0]["name"] = "changed before"
    summary = shop.sync()
    assert (summary["pages_skipped"], shop.names()[2]) == (3, "the last one")
    assert counts(summary) == {"read": 10, "updated": 2, "unchanged": 8}


@pytest.mark.parametrize("slices", [False, True])
def test_pages_in_another_order_than_their_keys_are_loaded_behind_a_change(shop, slices):
    shop.pages = [products(10, 1), products(9, 2), products(8, 3), products(7, 4)]
    shop.sync()
    shop.pages[1][0]["name"] = "changed"
    if slices:
        run = in_slices(shop)
        assert (run.state, run.pages_skipped) == ("succeeded", 1)
    else:
        assert shop.skipped() == 1
    assert shop.names() == shop.expected()


def in_slices(shop):
    """Run the feed in slices of one chunk, each claimed anew, as workers do that take over from each other."""
    shop.declare()
    run, _ = runs.request("shop", trigger=Trigger.COMMAND, wake_workers=False)
    part = run.parts.get()
    while pipeline.advance(part.pk, slice_seconds=0) == State.QUEUED:
        pass
    run.refresh_from_db()
    return run


# The runs


def test_slices_go_on_skipping_and_remember_together(shop):
    assert in_slices(shop).pages_skipped == 0
    shop.pages[1][1]["name"] = "changed"
    run = in_slices(shop)
    assert (run.state, run.pages_skipped) == ("succeeded", 4)
    assert RememberedPages.objects.filter(memory=run.pk).count() > 1
    assert shop.skipped() == 5


def test_a_run_that_failed_and_wrote_nothing_leaves_the_memory_as_it_is(shop):
    shop.sync()
    shop.broken = {5}
    assert shop.sync()["state"] == "failed"
    shop.broken = set()
    assert shop.skipped() == 5
    assert Memory.objects.count() == 1


def test_a_run_that_failed_after_it_wrote_ends_the_memory(shop):
    shop.sync()
    shop.pages[0][0]["name"], shop.broken = "changed", {5}
    shop.options["chunk_bytes"] = 1
    assert shop.sync()["state"] == "failed"
    assert shop.names()[2] == "changed"
    shop.pages[0][0]["name"], shop.broken = "product 2", set()
    assert shop.skipped() == 0
    assert shop.names() == shop.expected()


def test_a_part_that_waited_for_its_next_attempt_goes_on_skipping(shop):
    shop.sync()
    shop.broken = {5}
    shop.declare()
    run, _ = runs.request("shop", trigger=Trigger.COMMAND, wake_workers=False)
    part = runs.claim(run.parts.get().pk)
    # The process is killed here, and its lease runs out.
    Run.objects.filter(pk=run.pk).update(state=State.QUEUED)
    run.parts.update(state=State.QUEUED, owner="", leased_until=None)
    shop.broken = set()
    assert part.run_id == run.pk
    summary = shop.sync()
    assert (summary["run"], summary["pages_skipped"]) == (run.pk, 5)


def test_a_run_that_is_resumed_reads_what_is_left(shop):
    """While it lay there anybody may have changed the table."""
    shop.sync()
    shop.pages[0][0]["name"], shop.broken = "changed", {5}
    shop.options["chunk_bytes"] = 1
    run = Run.objects.get(pk=shop.sync()["run"])
    assert (run.state, run.pages) == ("failed", 4)
    shop.broken = set()
    with somebody() as cursor:
        cursor.execute("DELETE FROM photos_order WHERE code > 9")
    interventions.resume(run.pk, wake_workers=False)
    assert shop.sync()["run"] == run.pk
    assert shop.names() == shop.expected()
    shop.sync()
    assert shop.skipped() == 5


def test_fields_of_skipped_pages_have_not_vanished(shop):
    shop.pages[1][0]["extra"] = 1
    shop.pages[2][0]["other"] = 1
    shop.sync(drift="fail")
    shop.pages[0][0]["name"] = "changed"
    assert shop.skipped() == 4
    assert shop.skipped() == 5
    for page in shop.pages[1:3]:
        page[0].pop("extra", page[0].pop("other", None))
    summary = shop.sync(full=True)
    assert summary["state"] == "failed"
    assert summary["error"].startswith("drift: ")


def test_each_part_skips_what_it_read_before(shop):
    shop.sync(parts=PageRanges(pages=2))
    assert Run.objects.get().parts.count() == 3
    assert shop.skipped() == 5
    shop.pages[1][0]["name"] = "changed"
    shop.pages.append(products(12, 13))
    summary = shop.sync()
    assert (summary["pages_skipped"], counts(summary)) == (4, {"read": 12, "updated": 1, "inserted": 2, "unchanged": 9})
    assert shop.skipped() == 6


def test_one_failed_part_keeps_the_run_from_being_remembered(shop):
    shop.sync(parts=PageRanges(pages=2))
    shop.broken, shop.pages[0][0]["name"] = {5}, "changed"
    assert shop.sync()["state"] == "failed"
    shop.broken = set()
    assert [shop.skipped(), shop.skipped()] == [0, 5]


def test_the_same_pages_in_another_window_of_time_are_other_pages(shop):
    start = datetime(2024, 1, 1, tzinfo=UTC)
    windows = Windows(since="since", until="until", step=timedelta(days=30_000), start=start)
    assert shop.skipped(parts=windows) == 0
    assert shop.skipped() == 5
    assert shop.skipped(parts=replace(windows, start=start - timedelta(days=1))) == 0


@dataclass(frozen=True)
class Twice:
    """Everything, once for each of two names that only a header tells."""

    def plan(self, source, *, now):
        return [{"tenant": "a"}, {"tenant": "b"}]

    def bind(self, source, share):
        return replace(source, headers={"Tenant": share["tenant"]})

    def problem(self, source):
        return None


def test_parts_that_ask_for_their_first_page_alike_are_remembered_beside_each_other(shop):
    assert [shop.skipped(parts=Twice()), shop.skipped()] == [0, 10]
    shop.pages[1][0]["name"] = "changed"
    assert shop.skipped() == 8
    assert shop.names() == shop.expected()


# The definition


@pytest.mark.parametrize(
    "changed",
    [
        {"columns": COLUMNS | {"name": text("name", strip=True)}},
        {"columns": {"code": "code"}},
        {"rules": (leave_drafts_out,)},
        {"rules": (lambda record: record,)},
    ],
)
def test_another_definition_loads_every_page(shop, changed):
    shop.sync(columns=COLUMNS | {"note": "name"})
    assert shop.skipped() == 5
    assert [shop.skipped(**changed), shop.skipped()] == [0, 5]


def test_another_target_or_page_size_loads_every_page(shop):
    shop.sync()
    assert [shop.skipped(target=Upsert(shop.model, key="code", insert_only=("name",))), shop.skipped()] == [0, 5]
    source = JsonApi(
        url=shop.remote.url + "/?a=b",
        pagination=PageNumber(param="page", size=2, size_param="size", total_header="X-Total-Count"),
    )
    assert [shop.skipped(source=source), shop.skipped()] == [0, 5]


def test_another_way_of_reading_the_same_bytes_is_another_page(shop):
    shop.sync()
    shop.content_type = "application/json; charset=iso-8859-1"
    assert [shop.skipped(), shop.skipped()] == [0, 5]


def test_the_option_taken_away_forgets(shop):
    shop.sync()
    shop.sync(skip_unchanged_pages=False)
    assert not Memory.objects.exists()
    assert shop.skipped(skip_unchanged_pages=True) == 0


def test_a_definition_that_changes_in_mid_run_is_not_remembered(shop):
    shop.declare()
    run, _ = runs.request("shop", trigger=Trigger.COMMAND, wake_workers=False)
    assert pipeline.advance(run.parts.get().pk, slice_seconds=0) == State.QUEUED
    assert shop.sync(columns=COLUMNS | {"name": text("name", strip=True)})["run"] == run.pk
    assert [shop.skipped(), shop.skipped()] == [0, 5]


def test_a_function_that_cannot_be_compared_skips_nothing(shop):
    state = object()

    def rule(record):
        return record if state else None

    shop.declare(rules=(rule,))
    assert [shop.skipped(), shop.skipped()] == [0, 0]
    assert not Memory.objects.exists()


def test_a_total_that_shrinks_fails_the_run_though_pages_are_skipped(shop):
    shop.sync()
    shop.asked = lambda number: shop.pages.pop() if number == 3 else None
    summary = shop.sync()
    assert (summary["state"], summary["error"].partition(":")[0]) == ("failed", "total")
