"""Mirrors over whole runs: what is gone from the source goes from the table, and nothing else does."""

import pytest
from django.db import connection, models
from django.db.models import Q
from django.db.models.functions import Now

from ingestion import attempts, claims, pipeline, quarantine, runs
from ingestion.errors import PartTaken, RunFailed
from ingestion.feeds import Mirror, Replace, SoftDelete
from ingestion.models import FeedState, Part, Reject, State, Trigger
from tests.ingestion.catalog import counts, execute, products, rows, table_of, tables_of_runs, trigger, written

pytestmark = pytest.mark.django_db(transaction=True)


def test_mirror_deletes_what_the_source_no_longer_has(catalog, model):
    target = Mirror(model, key="code")
    assert counts(catalog.sync(target, products(1, 2, 3), products(4, 5, 6))) == {"read": 6, "inserted": 6}
    summary = catalog.sync(target, products(1, 2, 4), products(5, 6, 7, 7))
    assert counts(summary) == {"read": 7, "inserted": 1, "unchanged": 5, "deleted": 1, "duplicates": 1}
    assert rows(model, "code") == [1, 2, 4, 5, 6, 7]
    assert tables_of_runs() == []


@pytest.mark.parametrize("mode", [Mirror, Replace])
def test_an_identical_second_run_writes_nothing(catalog, model, mode):
    target = mode(model, key="code")
    catalog.sync(target, products(1, 2, 3), products(4))
    before = written("photos_order")
    assert counts(catalog.sync(target, products(1, 2, 3), products(4))) == {"read": 4, "unchanged": 4}
    assert written("photos_order") == before


def test_a_mirror_in_slices_deletes_by_all_that_was_seen(catalog, model):
    target = Mirror(model, key="code", allow_delete_share=0.5)
    catalog.sync(target, products(*range(12)))
    run = catalog.in_slices(target, *[products(code) for code in range(3, 14)])
    assert counts(run.summary()) == {"read": 11, "inserted": 2, "unchanged": 9, "deleted": 3}
    assert rows(model, "code") == [*range(3, 14)]
    assert tables_of_runs() == []


@pytest.mark.parametrize("mode", [Mirror, Replace])
def test_a_run_that_was_killed_in_the_middle_is_taken_over_with_what_it_has_seen(catalog, model, mode):
    """The first owner commits two chunks and is gone without a trace; its zombie cannot commit the third."""
    target = mode(model, key="code", allow_delete_share=0.5)
    catalog.sync(target, products(1, 2, 3, 4, 9))
    zombie: list[Part] = []

    def take_over(number):
        if number == 3 and zombie:
            Part.objects.update(leased_until=Now())
            taken.append(claims.claim(zombie.pop().pk))
            connection.close()

    taken: list[Part] = []
    catalog.declare(target, products(1), products(2), products(3), products(4), before=take_over)
    run, _ = runs.request("catalog", trigger=Trigger.COMMAND, wake_workers=False)
    part = run.parts.get()
    for _ in range(2):
        assert pipeline.advance(part.pk, slice_seconds=0) == State.QUEUED
    zombie.append(claims.claim(part.pk))
    with pytest.raises(PartTaken):
        pipeline.advance_claimed(zombie[0])
    assert pipeline.advance_claimed(taken[0]) == State.SUCCEEDED
    run.refresh_from_db()
    assert counts(run.summary()) == {"read": 4, "unchanged": 4, "deleted": 1}
    assert rows(model, "code") == [1, 2, 3, 4]


@pytest.mark.parametrize("mode", [Mirror, Replace])
def test_too_many_deletes_need_a_confirmation(catalog, model, mode):
    target = mode(model, key="code")
    catalog.sync(target, products(*range(10)))
    summary = catalog.sync(target, products(*range(7)), products(11))
    assert summary["error"].startswith(
        "delete_guard: 3 of 10 rows would be deleted: that is 30.0%, and the feed allows 20.0%"
    )
    assert (summary["state"], summary["deleted"]) == ("failed", 0)
    # What a mirror has upserted stays; a replacement has not begun.
    assert rows(model, "code") == [*range(10), *([11] if mode is Mirror else [])]
    assert tables_of_runs() == []
    summary = catalog.sync(target, products(*range(7)), products(11), confirm_deletes=True)
    assert (summary["state"], summary["deleted"]) == ("succeeded", 3)
    assert rows(model, "code") == [*range(7), 11]


@pytest.mark.parametrize(("share", "state"), [(0.1, "failed"), (0.2, "succeeded"), (0.3, "succeeded")])
def test_the_share_itself_is_allowed(catalog, model, share, state):
    target = Mirror(model, key="code", allow_delete_share=share)
    catalog.sync(target, products(*range(10)))
    assert catalog.sync(target, products(*range(8)))["state"] == state


@pytest.mark.parametrize("pages", [(), ([],)])
@pytest.mark.parametrize("target", [lambda m: Mirror(m, key="code"), lambda m: Replace(m, key="code"), Replace])
def test_an_empty_pull_never_deletes_confirmed_or_not(catalog, model, target, pages):
    assert catalog.sync(target(model), *pages)["state"] == "succeeded"
    catalog.sync(target(model), products(1, 2))
    summary = catalog.sync(target(model), *pages, confirm_deletes=True)
    assert summary["error"].startswith("delete_guard: 2 of 2 rows would be deleted: the source gave no good record")
    assert rows(model, "code") == [1, 2]


def test_a_limited_run_of_a_mirror_deletes_nothing(catalog, model):
    target = Mirror(model, key="code", allow_delete_share=1)
    catalog.sync(target, products(1, 2, 3))
    summary = catalog.sync(target, products(1, 4), products(5), limit=2)
    assert (summary["state"], counts(summary)) == ("succeeded", {"read": 2, "inserted": 1, "unchanged": 1})
    assert rows(model, "code") == [1, 2, 3, 4]
    assert tables_of_runs() == []


def test_a_limited_run_replaces_nothing_and_says_so(catalog, model):
    catalog.sync(Replace(model), products(1, 2, 3))
    summary = catalog.sync(Replace(model), products(4, 5), limit=1)
    assert summary["error"].startswith("delete_guard: the run has not read the source to its end")
    assert rows(model, "code") == [1, 2, 3]


@pytest.mark.parametrize("mode", [Mirror, Replace])
def test_a_row_whose_record_is_rejected_is_not_deleted(catalog, model, mode):
    target = mode(model, key="code", allow_delete_share=1)
    catalog.sync(target, products(1, 2, 3))
    summary = catalog.sync(target, products(1), [{"code": " 2 ", "name": "x" * 30}])
    assert counts(summary) == {"read": 2, "unchanged": 1, "deleted": 1, "rejected": 1}
    assert rows(model, "code", "name") == [(1, "product 1"), (2, "product 2")]


@pytest.mark.parametrize("mode", [Mirror, Replace])
def test_a_row_that_the_database_refuses_is_not_deleted(catalog, model, mode):
    target = mode(model, key="code", allow_delete_share=1)
    catalog.sync(target, products(1, 2, 3))
    execute("ALTER TABLE photos_order ADD CONSTRAINT short CHECK (length(name) < 12)")
    summary = catalog.sync(target, products(1), products(2, name="quite a bit longer"))
    assert counts(summary) == {"read": 2, "unchanged": 1, "deleted": 1, "rejected": 1}
    assert rows(model, "code", "name") == [(1, "product 1"), (2, "product 2")]


@pytest.mark.parametrize("mode", [Mirror, Replace])
def test_a_record_without_a_readable_key_could_be_any_row(catalog, model, mode):
    target = mode(model, key="code", allow_delete_share=1)
    catalog.sync(target, products(1, 2))
    pages = (products(1), [{"name": "who?"}])
    summary = catalog.sync(target, *pages)
    assert "1 rejected records have no readable key" in summary["error"]
    assert rows(model, "code") == [1, 2]
    assert counts(catalog.sync(target, products(1, 2), pages[1])) == {"read": 3, "unchanged": 2, "rejected": 1}
    assert counts(catalog.sync(target, *pages, confirm_deletes=True))["deleted"] == 1


def test_a_mirror_answers_for_its_scope_alone(catalog, model):
    model.objects.create(code=100, name="100% ours", note="other")
    target = Mirror(model, key="code", scope=Q(note="own") & ~Q(name__contains="%"))
    catalog.sync(target, products(*range(10)))
    summary = catalog.sync(target, products(*range(9)))
    assert counts(summary) == {"read": 9, "unchanged": 9, "deleted": 1}
    assert rows(model, "code") == [*range(9), 100]


SOFT = {
    "removed_at": models.DateTimeField(null=True),
    "removed": models.BooleanField(db_default=False),
}


@pytest.mark.parametrize("field", SOFT)
def test_a_soft_delete_marks_rows_once_and_takes_the_mark_away_again(catalog, field):
    with table_of(code=models.BigIntegerField(unique=True), name=models.CharField(max_length=20), **SOFT) as model:
        target = Mirror(model, key="code", delete=SoftDelete(field=field), allow_delete_share=0.5)
        catalog.sync(target, products(1, 2, 3))
        assert counts(catalog.sync(target, products(1, 2))) == {"read": 2, "unchanged": 2, "deleted": 1}
        marked = rows(model, "code", field)
        assert [bool(mark) for _, mark in marked] == [False, False, True]
        before = written("photos_order")
        assert counts(catalog.sync(target, products(1, 2))) == {"read": 2, "unchanged": 2}
        assert (written("photos_order"), rows(model, "code", field)) == (before, marked)
        summary = catalog.sync(target, products(1, 2, 3, 4))
        assert counts(summary) == {"read": 4, "inserted": 1, "updated": 1, "unchanged": 2}
        assert not any(mark for _, mark in rows(model, "code", field))


def test_rows_that_others_refer_to_fail_the_end_and_what_was_loaded_stays(catalog, model):
    target = Mirror(model, key="code", allow_delete_share=1)
    catalog.sync(target, products(1, 2))
    execute(
        "CREATE TABLE lines (code bigint REFERENCES photos_order (code) DEFERRABLE INITIALLY DEFERRED);"
        "INSERT INTO lines VALUES (2)"
    )
    try:
        summary = catalog.sync(target, products(1, 3))
        assert summary["error"].startswith("finish_refused: database error 23503: ")
        assert (summary["inserted"], summary["deleted"], rows(model, "code")) == (1, 0, [1, 2, 3])
        assert tables_of_runs() == []
    finally:
        execute("DROP TABLE lines")


def test_a_trigger_that_changes_keys_never_leads_to_deletes(catalog, model):
    target = Mirror(model, key="code", allow_delete_share=1)
    trigger("NEW.code = NEW.code + 100; RETURN NEW;", "BEFORE INSERT")
    summary = catalog.sync(target, products(1, 2))
    assert "2 rows that this run loaded are not in the table" in summary["error"]
    assert rows(model, "code") == [101, 102]


@pytest.mark.parametrize("mode", [Mirror, Replace])
def test_a_run_whose_tables_are_gone_fails_instead_of_deleting(catalog, model, mode):
    target = mode(model, key="code", allow_delete_share=1)
    catalog.sync(target, products(1, 2, 3))
    catalog.declare(target, products(1), products(2))
    run, _ = runs.request("catalog", trigger=Trigger.COMMAND, wake_workers=False)
    part = run.parts.get()
    assert pipeline.advance(part.pk, slice_seconds=0) == State.QUEUED
    for name in tables_of_runs():
        execute(f'DROP TABLE "{name}"')
    assert pipeline.advance(part.pk, slice_seconds=0) == State.FAILED
    run.refresh_from_db()
    assert run.error.startswith("run_table_lost: ")
    assert rows(model, "code") == [1, 2, 3]


def test_tables_of_a_failed_run_are_kept_until_the_next_one(catalog, model):
    target = Mirror(model, key="code")
    catalog.declare(target, products(1), products(2))
    run, _ = runs.request("catalog", trigger=Trigger.COMMAND, wake_workers=False)
    part = run.parts.get()
    assert pipeline.advance(part.pk, slice_seconds=0) == State.QUEUED
    attempts.end(claims.claim(part.pk), State.FAILED, error="no")
    feed = FeedState.objects.get(name="catalog").pk
    assert tables_of_runs() == [f"ingestion_keys_{feed}_{run.pk}"]
    assert catalog.sync(target, products(1))["state"] == "succeeded"
    assert tables_of_runs() == []


def test_a_replay_into_a_mirror_deletes_nothing(catalog, model):
    target = Mirror(model, key="code", allow_delete_share=1)
    execute("ALTER TABLE photos_order ADD CONSTRAINT not_three CHECK (code <> 3)")
    assert counts(catalog.sync(target, products(1, 2, 3))) == {"read": 3, "inserted": 2, "rejected": 1}
    execute("ALTER TABLE photos_order DROP CONSTRAINT not_three")
    (run,) = quarantine.replay("catalog", Reject.objects.all())
    assert (run.state, counts(run.summary())) == ("succeeded", {"read": 1, "inserted": 1})
    assert (rows(model, "code"), tables_of_runs()) == ([1, 2, 3], [])


def test_a_replay_into_a_replacement_is_refused_and_its_rejects_stay_open(catalog, model):
    execute("ALTER TABLE photos_order ADD CONSTRAINT not_three CHECK (code <> 3)")
    catalog.sync(Replace(model, key="code"), products(1, 2, 3))
    execute("ALTER TABLE photos_order DROP CONSTRAINT not_three")
    with pytest.raises(RunFailed, match="delete_guard"):
        list(quarantine.replay("catalog", Reject.objects.all()))
    assert (rows(model, "code"), Reject.objects.get().resolved_at) == ([1, 2], None)
