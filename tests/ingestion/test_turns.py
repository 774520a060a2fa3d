"""A run of several parts: divided once, advanced by several workers at once, finished once by whichever ends last."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta

import psycopg2
import pytest
from django.db import connection
from django.db.models.functions import Now

from ingestion import attempts, claims, division, interventions, pipeline, quarantine, runs, turns, waking
from ingestion.errors import AlreadyRunning, PartTaken, RetryLater
from ingestion.feeds import Mirror, RejectLimit, Replace, Upsert
from ingestion.models import Part, Reject, Run, State, Trigger
from tests.ingestion.catalog import EachList, counts, products, rows, tables_of_runs

pytestmark = pytest.mark.django_db(transaction=True)


woken: list[int] = []


def record_wake(part: int) -> None:
    woken.append(part)


@pytest.fixture(autouse=True)
def _wakes(settings):
    woken.clear()
    settings.INGESTION_WAKE = "tests.ingestion.test_turns.record_wake"


def request() -> Run:
    run, _ = runs.request("catalog", trigger=Trigger.COMMAND, wake_workers=False)
    return run


def states(run: Run) -> str:
    """Return the state of each part, in order, by its first letter; h is for those that wait for their turn."""
    parts = run.parts.order_by("number").values_list("state", "next_attempt_at")
    return "".join("h" if part == ("waiting", None) else part[0][0] for part in parts)


def at_once(parts: Sequence[Part]) -> list[object]:
    """Advance parts that were claimed, each in a thread with a connection of its own."""

    def advance(part: Part) -> object:
        try:
            return pipeline.advance_claimed(part)
        except PartTaken as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(advance, parts))


def work_off(run: Run) -> Run:
    """Advance whatever is due until nothing is, as a worker does."""
    Part.objects.update(woken_at=None)  # whoever was woken has not heard of it
    while due := waking.due_parts():
        for part in due:
            pipeline.advance(part, slice_seconds=60)
    run.refresh_from_db()
    return run


def test_the_first_slice_divides_the_run_and_wakes_those_whose_turn_it_is(catalog, model):
    catalog.declare(Upsert(model, key="code"), *[products(n) for n in range(6)], parts=EachList(), parts_at_once=3)
    run = request()
    first = run.parts.get()
    assert (first.share, states(run)) == (None, "q")
    assert pipeline.advance(first.pk, slice_seconds=60) == State.SUCCEEDED
    assert [part.share for part in run.parts.order_by("number")] == [{"list": number} for number in range(6)]
    # The turn of the part that has ended went to the fourth one.
    assert states(run) == "sqqqhh"
    assert woken == list(run.parts.filter(number__in=(2, 3)).order_by("number").values_list("pk", flat=True))
    run = work_off(run)
    assert (run.state, counts(run.summary())) == ("succeeded", {"read": 6, "inserted": 6})
    assert states(run) == "ssssss"
    assert rows(model, "code") == [*range(6)]


def test_a_feed_without_parts_keeps_one_that_covers_everything(catalog, model):
    catalog.declare(Upsert(model, key="code"), products(1), products(2))
    run = work_off(request())
    assert [(part.share, part.state) for part in run.parts.all()] == [({}, "succeeded")]
    assert woken == []


def test_a_run_in_the_foreground_advances_all_its_parts_and_wakes_nobody(catalog, model):
    pages = [products(n, n + 100) for n in range(5)]
    summary = catalog.sync(Upsert(model, key="code"), *pages, parts=EachList(), parts_at_once=2)
    assert (summary["state"], counts(summary)) == ("succeeded", {"read": 10, "inserted": 10})
    assert (Part.objects.count(), woken) == (5, [])


def test_a_run_in_the_foreground_waits_for_the_part_that_somebody_else_advances(catalog, model):
    began, go_on = threading.Event(), threading.Event()

    def before(number):
        if number == 2:
            began.set()
            assert go_on.wait(30)
        if number == 3:
            go_on.set()

    pages = [products(n) for n in range(3)]
    catalog.declare(Upsert(model, key="code"), *pages, parts=EachList(), parts_at_once=3, before=before)
    run = request()
    pipeline.advance(run.parts.get().pk, slice_seconds=60)
    elsewhere = threading.Thread(target=at_once, args=([claims.claim(run.parts.get(number=2).pk)],))
    elsewhere.start()
    assert began.wait(30)
    with pytest.raises(AlreadyRunning):
        pipeline.run_here("catalog")
    part = claims.claim_next(run.pk)
    pipeline._advance_all(part)
    elsewhere.join()
    run.refresh_from_db()
    assert (part.number, run.state, run.read) == (3, "succeeded", 3)


def test_a_source_with_nothing_to_divide_ends_at_once(catalog, model):
    summary = catalog.sync(Upsert(model, key="code"), parts=EachList())
    assert (summary["state"], counts(summary), Part.objects.count()) == ("succeeded", {}, 1)


def test_a_run_is_divided_once_whoever_is_killed_while_planning(catalog, model):
    """The first owner is thought dead while it plans; the second one divides; the first one leaves without effect."""
    taken: list[Part] = []

    def take_over():
        if not taken:
            Part.objects.update(leased_until=Now() - timedelta(seconds=1))
            taken.append(claims.claim(Part.objects.get().pk))

    pages = [products(n) for n in range(3)]
    catalog.declare(Upsert(model, key="code"), *pages, parts=EachList(take_over))
    run = request()
    with pytest.raises(PartTaken):
        pipeline.advance(run.parts.get().pk, slice_seconds=60)
    assert states(run) == "r"
    assert pipeline.advance_claimed(taken[0]) == State.SUCCEEDED
    assert counts(work_off(run).summary()) == {"read": 3, "inserted": 3}
    assert run.parts.count() == 3


def test_a_part_whose_process_was_killed_after_the_division_goes_on_with_its_share(catalog, model):
    catalog.declare(Upsert(model, key="code"), *[products(n) for n in range(3)], parts=EachList())
    run = request()
    part = claims.claim(run.parts.get().pk)
    turns.divide(part, [{"list": number} for number in range(3)], at_once=4)
    Part.objects.filter(pk=part.pk).update(leased_until=Now() - timedelta(seconds=1))
    assert counts(work_off(run).summary()) == {"read": 3, "inserted": 3}
    assert run.parts.count() == 3


def divided(run: Run) -> list[Part]:
    """Divide a run and claim all its parts."""
    first = claims.claim(run.parts.get().pk)
    lists = len(pipeline.feeds.get("catalog").source.lists)
    turns.divide(first, [{"list": number} for number in range(lists)], at_once=lists)
    return [first, *(claims.claim(part) for part in run.parts.exclude(pk=first.pk).values_list("pk", flat=True))]


PARTS = 8


@pytest.mark.parametrize("mode", [Upsert, Mirror, Replace])
def test_parts_that_end_at_once_finish_the_run_once(catalog, model, mode):
    """Each part has keys of its own, and all share one, in different orders: a deadlock is tried again."""
    model.objects.bulk_create(model(code=code, name="old") for code in range(1000, 1010))
    target = Upsert(model, key="code") if mode is Upsert else mode(model, key="code", allow_delete_share=1)
    together = threading.Barrier(PARTS)
    pages = [products(*[*range(n * 10, n * 10 + 9), 999][:: 1 if n % 2 else -1]) for n in range(PARTS)]
    catalog.declare(target, *pages, parts=EachList(), before=lambda number: together.wait(30) and None)
    run = request()
    assert at_once(divided(run)) == [State.SUCCEEDED] * PARTS
    run.refresh_from_db()
    found = run.summary()
    assert (found["state"], found["read"]) == ("succeeded", PARTS * 10)
    assert found["deleted"] == (0 if mode is Upsert else 10)
    codes = [n * 10 + digit for n in range(PARTS) for digit in range(9)] + [999]
    assert rows(model, "code") == ([*codes, *range(1000, 1010)] if mode is Upsert else codes)
    assert tables_of_runs() == []


def test_the_last_read_of_a_key_in_two_parts_wins(catalog, model):
    pages = (products(1, name="first"), products(1, name="second"))
    summary = catalog.sync(Upsert(model, key="code"), *pages, parts=EachList())
    assert counts(summary) == {"read": 2, "inserted": 1, "updated": 1}
    assert rows(model, "code", "name") == [(1, "second")]


@pytest.mark.parametrize("mode", [Mirror, Replace])
def test_a_part_that_fails_fails_the_run_when_the_others_have_ended_and_nothing_is_deleted(catalog, model, mode):
    catalog.sync(mode(model, key="code"), products(1, 2, 3, 9))

    def fail(number):
        if number == 2:
            raise RetryLater("503")

    pages = [products(1), products(2), products(3)]
    summary = catalog.sync(mode(model, key="code", allow_delete_share=1), *pages, parts=EachList(), before=fail)
    assert (summary["state"], summary["error"], summary["read"]) == ("failed", "503", 2)
    run = Run.objects.get(pk=summary["run"])
    assert (states(run), run.finished_at is not None) == ("sfs", True)
    assert rows(model, "code") == [1, 2, 3, 9]


def test_a_part_that_waits_does_not_make_the_run_wait_while_others_go_on(catalog, model):
    catalog.declare(Upsert(model, key="code"), products(1), products(2), parts=EachList())
    run = request()
    first, second = divided(run)
    attempts.retry_later(first, reason="503", wait=None, limit=5)
    run.refresh_from_db()
    assert run.state == "running"
    attempts.retry_later(second, reason="503", wait=None, limit=5)
    run.refresh_from_db()
    assert run.state == "waiting"


def test_a_part_that_waits_for_an_attempt_gives_its_turn_to_the_next_one(catalog, model):
    """At most two of four parts are at work or due, whoever waits and whose wait is over."""
    catalog.declare(Upsert(model, key="code"), *[products(n) for n in range(4)], parts=EachList(), parts_at_once=2)
    run = request()
    first = claims.claim(run.parts.get().pk)
    turns.divide(first, [{"list": number} for number in range(4)], at_once=2)
    second = claims.claim(run.parts.get(number=2).pk)
    assert states(run) == "rrhh"
    attempts.retry_later(first, reason="503", wait=timedelta(hours=1), limit=5)
    assert states(run) == "wrqh"
    third = claims.claim(run.parts.get(number=3).pk)
    Part.objects.filter(pk=first.pk).update(next_attempt_at=Now())
    with pytest.raises(PartTaken, match="waits for its turn"):
        claims.claim(first.pk)
    assert states(run) == "hrrh"
    attempts.end(third, State.SUCCEEDED)
    # The first one by number, and it is due at once.
    assert states(run) == "qrsh"
    first = claims.claim(first.pk)
    assert (first.attempts, first.gave_turn) == (2, False)
    attempts.end(second, State.SUCCEEDED)
    assert states(run) == "rssq"


def test_a_part_whose_wait_is_over_takes_the_turn_that_is_free(catalog, model):
    catalog.declare(Upsert(model, key="code"), *[products(n) for n in range(2)], parts=EachList(), parts_at_once=2)
    run = request()
    first, _ = divided(run)
    attempts.retry_later(first, reason="503", wait=timedelta(hours=1), limit=5)
    Part.objects.filter(pk=first.pk).update(next_attempt_at=Now())
    assert waking.due_parts() == [first.pk]
    assert claims.claim(first.pk).state == State.RUNNING


def test_a_part_that_waits_for_its_host_keeps_its_turn(catalog, model, settings):
    """The others are read from the same one."""
    settings.PARTS_PER_HOST = 1
    catalog.declare(Upsert(model, key="code"), *[products(n) for n in range(4)], parts=EachList(), parts_at_once=2)
    run = request()
    Run.objects.update(host="api.example.com")
    first = claims.claim(run.parts.get().pk)
    turns.divide(first, [{"list": number} for number in range(4)], at_once=2)
    with pytest.raises(PartTaken, match=r"waits for room at api\.example\.com"):
        claims.claim(run.parts.get(number=2).pk)
    assert states(run) == "rwhh"
    attempts.end(first, State.SUCCEEDED)
    assert states(run) == "swqh"


def test_rejects_count_over_all_parts(catalog, model):
    bad = [{"code": 1, "name": "x" * 30}]
    limit = RejectLimit(records=2, share=0)
    summary = catalog.sync(Upsert(model, key="code"), bad, bad, bad, parts=EachList(), reject_limit=limit)
    assert summary["error"].startswith("reject_limit: 3 of 3 records were rejected")
    assert (summary["rejected"], states(Run.objects.get())) == (2, "ssf")


def test_a_reject_tells_its_part_where_there_are_several(catalog, model):
    bad = [{"code": 1, "name": "x" * 30}]
    catalog.sync(Upsert(model, key="code"), bad, products(2), bad, parts=EachList())
    found = Reject.objects.order_by("part")
    assert [reject.place for reject in found] == ["part 1, page 1, record 0", "part 3, page 1, record 0"]
    assert [quarantine.as_values(reject)["part"] for reject in found] == [1, 3]
    assert str(found[1]) == "too_long on part 3, page 1, record 0"
    catalog.sync(Upsert(model, key="code"), bad)
    assert Reject.objects.latest("pk").place == "page 1, record 0"


@pytest.mark.parametrize(("limit", "read"), [(1, 1), (2, 2), (3, 3), (5, 5), (100, 6)])
def test_a_limit_counts_over_all_parts(catalog, model, limit, read):
    pages = [products(n, n + 100) for n in range(3)]
    summary = catalog.sync(Upsert(model, key="code"), *pages, parts=EachList(), limit=limit)
    assert (summary["state"], counts(summary)) == ("succeeded", {"read": read, "inserted": read})


def test_a_limited_run_of_parts_deletes_nothing(catalog, model):
    target = Mirror(model, key="code", allow_delete_share=1)
    catalog.sync(target, products(1, 2, 3))
    catalog.sync(target, products(1), products(2), products(4), parts=EachList(), limit=2)
    assert rows(model, "code") == [1, 2, 3]
    assert tables_of_runs() == []


def test_a_dry_run_of_parts_shows_all_and_leaves_nothing(catalog, model):
    catalog.declare(Upsert(model, key="code"), products(1), products(2), products(3), parts=EachList())
    report = pipeline.run_here("catalog", dry_run=True)
    assert counts(report.summary) == {"read": 3, "inserted": 3}
    assert [difference.key["code"] for difference in report.differences] == [1, 2, 3]
    assert (Run.objects.count(), model.objects.count()) == (0, 0)


def test_an_interrupt_ends_the_parts_that_nobody_advances(catalog, model):
    def interrupt(number):
        if number == 2:
            raise KeyboardInterrupt

    summary = catalog.sync(
        Upsert(model, key="code"), *[products(n) for n in range(4)], parts=EachList(), before=interrupt
    )
    assert (summary["state"], summary["error"], states(Run.objects.get())) == ("cancelled", "interrupted", "sccc")


def test_parts_without_number_are_refused(catalog, model):
    pages = [[]] * (division.MOST_PARTS + 1)
    summary = catalog.sync(Upsert(model, key="code"), *pages, parts=EachList())
    assert summary["error"] == "too_many_parts: 10001 parts, of at most 10000: make them larger"


def test_of_ten_thousand_parts_dispatch_sees_those_whose_turn_it_is(catalog, model):
    catalog.declare(Upsert(model, key="code"), parts=EachList(), parts_at_once=4)
    run = request()
    part = claims.claim(run.parts.get().pk)
    turns.divide(part, [{"list": number} for number in range(division.MOST_PARTS)], at_once=4)
    assert len(waking.due_parts()) == 3
    assert waking.due_parts() == []
    attempts.end(part, State.SUCCEEDED)
    assert waking.due_parts(beside=part.pk) == [run.parts.get(number=5).pk]
    with pytest.raises(PartTaken):
        claims.claim(run.parts.get(number=6).pk, now=True)


def test_a_resumed_run_gives_turns_to_its_unfinished_parts(catalog, model):
    broken = {2, 4, 5, 6}

    def fail(number):
        if number in broken:
            raise RetryLater("503")

    target = Mirror(model, key="code", allow_delete_share=1)
    model.objects.create(code=99, name="gone")
    pages = [products(n) for n in range(6)]
    summary = catalog.sync(target, *pages, parts=EachList(), parts_at_once=2, before=fail)
    run = Run.objects.get(pk=summary["run"])
    assert (run.state, states(run)) == ("failed", "sfsfff")
    interventions.resume(run.pk, wake_workers=False)
    assert states(run) == "sqsqhh"
    broken.clear()
    run = work_off(run)
    assert (run.state, counts(run.summary())) == ("succeeded", {"read": 6, "inserted": 6, "deleted": 1})


def test_a_cancelled_run_wakes_none_of_its_parts(catalog, model):
    catalog.declare(Upsert(model, key="code"), *[products(n) for n in range(4)], parts=EachList(), parts_at_once=2)
    run = request()
    pipeline.advance(run.parts.get().pk, slice_seconds=60)
    interventions.cancel(run.pk)
    assert (states(run), waking.due_parts()) == ("sccc", [])


def test_the_next_turn_is_found_while_another_part_is_being_committed(catalog, model):
    """The run's row is locked at the end of each chunk, by whichever part."""
    catalog.declare(Upsert(model, key="code"), *[products(n) for n in range(4)], parts=EachList(), parts_at_once=2)
    run = request()
    pipeline.advance(run.parts.get().pk, slice_seconds=60)
    elsewhere = psycopg2.connect(**connection.get_connection_params())
    with closing(elsewhere), elsewhere.cursor() as cursor:
        cursor.execute("SELECT 1 FROM ingestion_run FOR NO KEY UPDATE")
        assert waking.due_parts(beside=run.parts.get(number=1).pk) == [run.parts.get(number=3).pk]
