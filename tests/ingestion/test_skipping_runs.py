"""Runs in slices and in parts, and runs that fail, skip pages only where that is right."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from ingestion import claims, interventions, runs
from ingestion.models import Memory, RememberedPages, Run, State, Trigger
from ingestion.parts import PageRanges, Windows
from tests.ingestion.catalog import counts, products
from tests.ingestion.shop import somebody

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_waiting")]


def test_slices_go_on_skipping_and_remember_together(shop):
    assert shop.in_slices().pages_skipped == 0
    shop.pages[1][1]["name"] = "changed"
    run = shop.in_slices()
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
    part = claims.claim(run.parts.get().pk)
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
