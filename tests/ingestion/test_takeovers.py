"""Taking a part from an owner that is frozen or gone ends its database session, and with it the locks that it holds."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, transaction
from django.db.models.functions import Now
from django.utils import timezone
from psycopg2 import sql

from ingestion import attempts, claims, interventions, loaders, owners, pipeline, runs
from ingestion.errors import AlreadyRunning, PartTaken
from ingestion.feeds import Upsert
from ingestion.models import Attempt, Host, Part, Run
from ingestion.transactions import brief
from tests.ingestion.catalog import products, rows
from tests.ingestion.shop import somebody
from tests.ingestion.slices import begin
from tests.processes import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

# Of each read: several are more than the server keeps before it writes rows and their keys.
LINES = 5_000


class Frozen(threading.Thread):
    """The part's owner in the middle of a COPY: the server has its lines, and gets no more until `wake`."""

    def __init__(self, part: Part, table: str, *, locks_run: bool = False) -> None:
        super().__init__(daemon=True)
        self.part, self.table, self.locks_run = part, table, locks_run
        self.error: BaseException | None = None
        self.failure: Exception | None = None
        self.reads = 0
        self.has_sent, self.may_go_on = threading.Event(), threading.Event()
        self.start()
        assert self.has_sent.wait(10)

    def run(self) -> None:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                loaders.prepare_transaction(cursor, waits_for_network=False, name=attempts.session_name(self.part))
                if self.locks_run:
                    # As the first chunk of a run does that has tables of its own.
                    Run.objects.select_for_update(no_key=True).get(pk=self.part.run_id)
                loaders.copy(cursor, sql.Identifier(self.table), ("code", "name"), self)
        except OperationalError as failure:
            self.failure = failure
        finally:
            connection.close()

    def read(self, size: int | None = -1, /) -> str:
        if self.reads == 3:
            self.has_sent.set()
            self.may_go_on.wait(30)
        self.reads += 1
        first = (self.reads - 1) * LINES
        return "".join(f"{n}\tfrozen\n" for n in range(first, first + LINES)) if self.reads < 5 else ""

    def wake(self) -> Exception | None:
        """Let it go on, and return what it then failed with."""
        self.may_go_on.set()
        self.join()
        return self.failure


@pytest.fixture
def part(catalog, model):
    """A part that this process owns."""
    catalog.declare(Upsert(model, key="code"), products(1, 2, 3))
    return claims.claim(begin("catalog").parts.get().pk)


@contextmanager
def somebody_locks_the_run() -> Iterator[None]:
    with somebody() as cursor:
        cursor.execute("BEGIN; SELECT 1 FROM ingestion_run FOR UPDATE")
        yield


def fails_for_an_hour(host: str) -> None:
    later = timezone.now() + timedelta(hours=1)
    Host.objects.create(name=host, failures=3, opened_at=Now(), probe_at=later, reason="503")


def is_there(part: Part) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()",
            [attempts.session_name(part)],
        )
        return bool(cursor.fetchall())


def test_whoever_takes_over_from_a_frozen_owner_finds_its_keys_free(part, model):
    frozen = Frozen(part, model._meta.db_table)
    Part.objects.filter(pk=part.pk).update(leased_until=Now() - timedelta(seconds=1))
    assert pipeline.advance(part.pk, slice_seconds=60) == "succeeded"
    assert isinstance(frozen.wake(), OperationalError)
    assert rows(model, "code", "name") == [(n, f"product {n}") for n in (1, 2, 3)]
    outcomes = Attempt.objects.filter(part=part).order_by("epoch").values_list("outcome", flat=True)
    assert list(outcomes) == ["lost", "succeeded"]


def test_a_part_that_may_not_begin_yet_is_taken_from_its_frozen_owner_all_the_same(part, model):
    fails_for_an_hour("example.org")
    Run.objects.update(host="example.org")
    frozen = Frozen(part, model._meta.db_table, locks_run=True)
    Part.objects.filter(pk=part.pk).update(leased_until=Now() - timedelta(seconds=1))
    with pytest.raises(PartTaken, match="which fails"):
        claims.claim(part.pk)
    assert isinstance(frozen.wake(), OperationalError)
    assert list(Part.objects.values_list("state", "owner")) == [("waiting", "")]
    assert [attempt.outcome for attempt in Attempt.objects.all()] == ["lost"]


@pytest.mark.parametrize("locks_run", [False, True])
def test_a_run_after_a_cancelled_one_finds_the_keys_of_its_frozen_owner_free(part, catalog, model, locks_run):
    frozen = Frozen(part, model._meta.db_table, locks_run=locks_run)
    interventions.cancel(part.run_id, by="ada")
    wait_until(lambda: not is_there(part), seconds=5, what="the end of the session")
    assert pipeline.advance(begin("catalog").parts.get().pk, slice_seconds=60) == "succeeded"
    assert isinstance(frozen.wake(), OperationalError)
    assert rows(model, "code") == [1, 2, 3]


def test_the_session_of_a_process_that_is_gone_ends_when_its_part_is_freed(part, model):
    """The server does not look for its client while it is at a statement."""
    Part.objects.filter(pk=part.pk).update(owner=owners.current().rpartition(":")[0] + ":1")
    part.refresh_from_db()
    frozen = Frozen(part, model._meta.db_table)
    assert attempts.free_abandoned() == 1
    wait_until(lambda: not is_there(part), seconds=5, what="the end of the session")
    assert isinstance(frozen.wake(), OperationalError)


def test_nobody_ends_the_session_of_an_owner_that_has_its_part_still(part, model):
    frozen = Frozen(part, model._meta.db_table)
    attempts.end_sessions([Part(pk=part.pk, epoch=part.epoch - 1, owner=part.owner)])
    attempts.end_sessions([Part(pk=part.pk + 1, epoch=part.epoch, owner=part.owner)])
    with pytest.raises(AlreadyRunning):
        claims.request_and_claim("catalog", trigger="command")
    assert frozen.wake() is None
    assert model.objects.count() == 4 * LINES


def test_an_owner_ends_its_own_session_when_the_connection_broke_and_the_server_has_not_heard(part, model, monkeypatch):
    monkeypatch.setattr(loaders.copying, "LOCK_TIMEOUT", "100ms")
    unheard = Frozen(part, model._meta.db_table)
    assert pipeline.advance_claimed(part) == "succeeded"
    assert isinstance(unheard.wake(), OperationalError)
    assert rows(model, "code") == [1, 2, 3]


def test_a_claim_does_not_wait_for_ever_for_a_run_that_somebody_has_locked(part, monkeypatch):
    monkeypatch.setattr(loaders, "LOCK_TIMEOUT", "100ms")
    fails_for_an_hour("example.org")
    Run.objects.update(host="example.org")
    Part.objects.filter(pk=part.pk).update(leased_until=Now() - timedelta(seconds=1))
    with somebody_locks_the_run(), pytest.raises(PartTaken, match="somebody who has its run"):
        claims.claim(part.pk)
    with pytest.raises(PartTaken, match="which fails"):
        claims.claim(part.pk)


def test_dispatch_does_not_wait_for_ever_for_a_run_that_somebody_has_locked(part, monkeypatch):
    monkeypatch.setattr(loaders, "LOCK_TIMEOUT", "100ms")
    Part.objects.filter(pk=part.pk).update(owner=owners.current().rpartition(":")[0] + ":1", attempts=2)
    with somebody_locks_the_run():
        assert attempts.free_abandoned() == 0
    assert Part.objects.get(pk=part.pk).state == "running"
    assert attempts.free_abandoned() == 1


def test_whoever_is_frozen_in_a_brief_transaction_loses_it(part, monkeypatch):
    monkeypatch.setattr(loaders, "IDLE_TIMEOUT", "100ms")
    waiting, woken = threading.Event(), threading.Event()
    failures: list[Exception] = []

    def be_frozen() -> None:
        try:
            with brief():
                Part.objects.select_for_update().get(pk=part.pk)
                waiting.set()
                woken.wait(30)
        except OperationalError as failure:
            failures.append(failure)
        finally:
            connection.close()

    frozen = threading.Thread(target=be_frozen)
    frozen.start()
    assert waiting.wait(10)
    # Waits for the lock.
    assert Part.objects.filter(pk=part.pk).update(woken_at=None) == 1
    assert frozen.is_alive()
    woken.set()
    frozen.join()
    assert len(failures) == 1


def test_a_brief_transaction_inside_of_another_leaves_that_as_long_as_it_likes(part):
    with transaction.atomic(), connection.cursor() as cursor:
        with brief():
            assert runs.active_run("catalog") is not None
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        assert cursor.fetchone() == ("0",)
