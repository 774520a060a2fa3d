"""What is remembered of a page that can be skipped, and what makes another page of it."""

import pytest
from django.db import connection

from ingestion import pipeline, runs
from ingestion.cleaning import text
from ingestion.feeds import RejectLimit, Upsert
from ingestion.models import Memory, Reject, State, Trigger
from ingestion.pagination import PageNumber
from ingestion.sources import JsonApi
from tests.ingestion.catalog import COLUMNS, counts, products

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_waiting")]

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
        run = shop.in_slices()
        assert (run.state, run.pages_skipped) == ("succeeded", 1)
    else:
        assert shop.skipped() == 1
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
