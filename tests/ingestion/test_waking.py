"""What dispatch costs when nothing is due, and that every due part gets a message, and not one after the other."""

import json
import timeit
from datetime import timedelta

import pytest
from celery import current_app
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from ingestion import runs, waking
from ingestion.models import FeedState, Part, Run, State, Trigger
from tests.ingestion.pages import make_run
from worker import dispatch

pytestmark = pytest.mark.django_db(transaction=True)

woken: list[int] = []


def record_wake(part: int) -> None:
    woken.append(part)


def refuse_the_third(part: int) -> None:
    if len(woken) == 2:
        message = "the broker is down"
        raise OSError(message)
    woken.append(part)


@pytest.fixture(autouse=True)
def _wakes(settings, transactional_db, empty_queue):
    """Count from nothing: no message of another test in the queue, and no entry of its deleted parts in an index."""
    woken.clear()
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE ingestion_part CASCADE")
    settings.INGESTION_WAKE = "tests.ingestion.test_waking.record_wake"


def plan_of(sql: str) -> tuple[set[str], int]:
    """Return how a statement reads its tables, and how many rows it reads, those that it throws away included."""
    kinds, read = set(), 0
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
        [(found,)] = cursor.fetchall()
    nodes = [(json.loads(found) if isinstance(found, str) else found)[0]["Plan"]]
    while nodes:
        node = nodes.pop()
        if "Scan" in node["Node Type"]:
            kinds |= {f"{node['Node Type']} on {node.get('Relation Name', node.get('Index Name'))}"}
            rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            read += int(rows * node["Actual Loops"])
        nodes += node.get("Plans", [])
    return kinds, read


# Parts of which none is due: they wait for an attempt or their turn, were woken just now, run with a lease, have ended.
NOT_DUE = {
    "waiting for an attempt": "'waiting', now() + interval '1 hour', NULL, NULL, ''",
    "waiting for their turn": "'waiting', NULL, NULL, NULL, 'its turn'",
    "woken": "'queued', NULL, now(), NULL, ''",
    "running": "'running', NULL, NULL, now() + interval '1 minute', ''",
    "ended": "'succeeded', NULL, NULL, NULL, ''",
}


def fill(run: Run, kind: str, numbers: range) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO ingestion_part (run_id, number, epoch, owner, attempts,"
            " state, next_attempt_at, woken_at, leased_until, waiting_for)"
            f" SELECT {run.pk}, n, 0, 'elsewhere:1:1', 0, {NOT_DUE[kind]}"
            f" FROM generate_series({numbers.start}, {numbers.stop - 1}) n"
        )


# Not what autovacuum happened to find in the table at the time of another test.
NEVER_ANALYZED = (
    "DELETE FROM pg_statistic WHERE starelid = 'ingestion_part'::regclass;"
    "UPDATE pg_class SET reltuples = -1, relpages = 0, relallvisible = 0 WHERE oid = 'ingestion_part'::regclass"
)


@pytest.mark.parametrize("kind", NOT_DUE)
@pytest.mark.parametrize("statement", [NEVER_ANALYZED, "ANALYZE ingestion_part"])
def test_dispatch_asks_two_questions_of_an_index_when_none_of_ten_thousand_parts_is_due(kind, statement):
    run = make_run(FeedState.objects.get_or_create(name="photos")[0], State.RUNNING)
    fill(run, kind, range(50 if kind == "running" else 10_000))
    fill(run, "ended", range(10_000, 30_000))
    with connection.cursor() as cursor:
        cursor.execute(statement)
    with CaptureQueriesContext(connection) as captured:
        assert dispatch.wake_due() == 0
    asked = [query["sql"] for query in captured.captured_queries]
    assert len(asked) == 2
    for sql in asked:
        kinds, read = plan_of(sql)
        assert not [kind for kind in kinds if kind.startswith("Seq Scan")], kinds
        # Those that have a message already are looked at, in the index and in the table; the others are not.
        assert read <= (20_000 if kind == "woken" else 100)
    assert woken == []
    # For whoever looks: on a busy machine a time proves nothing.
    print(f"dispatch, {kind}: {min(timeit.repeat(dispatch.wake_due, number=1, repeat=20)) * 1000:.1f} ms")


def queued(name: str = "photos") -> Part:
    run, _ = runs.request(name, trigger=Trigger.COMMAND, wake_workers=False)
    return run.parts.get()


def test_a_part_that_was_asked_for_has_its_message_and_gets_no_second_one():
    runs.request("photos", trigger=Trigger.COMMAND)
    assert len(woken) == 1
    assert dispatch.wake_due() == 0


def test_those_whose_message_could_not_be_sent_are_due_at_once(settings):
    settings.INGESTION_WAKE = "tests.ingestion.test_waking.refuse_the_third"
    run = make_run(FeedState.objects.get_or_create(name="photos")[0], State.QUEUED)
    parts = Part.objects.bulk_create([Part(run=run, number=n) for n in range(5)])
    waking.wake(waking.due_parts())
    assert woken == [part.pk for part in parts[:2]]
    assert waking.due_parts() == [part.pk for part in parts[2:]]


def test_the_longest_unwoken_come_first_and_a_dispatch_is_bounded(monkeypatch):
    monkeypatch.setattr(waking, "MOST_AT_ONCE", 2)
    run = make_run(FeedState.objects.get_or_create(name="photos")[0], State.QUEUED)
    old, new, never = (
        Part.objects.create(run=run, number=number, woken_at=woken_at)
        for number, woken_at in enumerate([Now() - timedelta(hours=1), Now() - timedelta(minutes=1), None])
    )
    assert waking.due_parts() == [never.pk, old.pk]
    assert waking.due_parts() == [new.pk]
    assert waking.due_parts() == []


@pytest.mark.parametrize(("woken_before", "is_due"), [(1, False), (2, True)])
def test_a_part_whose_message_was_lost_is_woken_again_within_seven_seconds(settings, woken_before, is_due):
    queued()
    Part.objects.update(woken_at=Now() - timedelta(seconds=woken_before))
    assert dispatch.wake_due() == is_due
    longest = settings.DISPATCH_EVERY + waking.WAKE_AGAIN
    assert longest < timedelta(seconds=7)


def test_the_end_of_a_part_wakes_no_part_that_has_a_message():
    run = make_run(FeedState.objects.get_or_create(name="photos")[0], State.QUEUED)
    ended, has_message, has_none = (Part.objects.create(run=run, number=number) for number in range(3))
    Part.objects.filter(pk=has_message.pk).update(woken_at=Now() - timedelta(minutes=1))
    assert waking.due_parts(beside=ended.pk, again=False) == [has_none.pk]


def test_while_many_messages_wait_no_part_gets_a_second_one(monkeypatch):
    """A worker that is busy for minutes is no reason to fill the queue: but a part without a message gets one."""
    part = queued()
    Part.objects.update(woken_at=Now() - timedelta(hours=1))
    assert Run.objects.count() == 1
    monkeypatch.setattr(dispatch, "BACKLOG", 2)
    with current_app.connection_for_write() as broker:
        broker.default_channel.queue_purge("ingestion")
        try:
            for _ in range(3):
                current_app.send_task("worker.advance", kwargs={"part": 0})
            assert dispatch.wake_due() == 0
            broker.default_channel.queue_purge("ingestion")
            assert dispatch.wake_due() == 1
            assert woken == [part.pk]
            for _ in range(3):
                current_app.send_task("worker.advance", kwargs={"part": 0})
            Part.objects.update(woken_at=None)
            assert dispatch.wake_due() == 1
        finally:
            broker.default_channel.queue_purge("ingestion")
