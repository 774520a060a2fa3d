"""Feeds of one group take turns: the database keeps all but one out, and none waits for ever. Real commits, threads."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now

from ingestion import attempts, claims, interventions, pipeline, runs, turns, waking
from ingestion.errors import AlreadyRunning, GroupBusy, PartTaken
from ingestion.feeds import Feed, Upsert
from ingestion.models import Part, Run, State, Trigger
from tests.ingestion.catalog import COLUMNS, Records, products
from worker import dispatch, tasks

pytestmark = pytest.mark.django_db(transaction=True)

woken: list[int] = []


def record_wake(part: int) -> None:
    woken.append(part)


@pytest.fixture(autouse=True)
def _declared(model, monkeypatch, settings):
    """Three feeds of one group, one of another, and the photos feed, which has none."""
    woken.clear()
    settings.INGESTION_WAKE = "tests.ingestion.test_exclusion.record_wake"
    monkeypatch.setattr(dispatch, "wake", record_wake)
    for name, group in (("orders", "erp"), ("stock", "erp"), ("prices", "erp"), ("mails", "crm")):
        feed = Feed(
            name=name, group=group, source=Records([products(1)]), columns=COLUMNS, target=Upsert(model, key="code")
        )
        monkeypatch.setattr(f"photos.feeds.{name.upper()}", feed, raising=False)


def queued(name: str) -> Part:
    run, _ = runs.request(name, trigger=Trigger.COMMAND, wake_workers=False)
    return run.parts.get()


def test_the_second_run_of_a_group_waits_queued_and_says_for_whom():
    orders, stock = claims.claim(queued("orders").pk), queued("stock")
    why = f"waits for its turn in group erp: run {orders.run_id} of orders is running"
    with pytest.raises(GroupBusy, match=why):
        claims.claim(stock.pk)
    stock.refresh_from_db()
    assert (stock.state, stock.waiting_for, stock.attempts, stock.epoch) == ("queued", why, 0, 0)
    assert Run.objects.get(pk=stock.run_id).state == "queued"


def test_other_groups_and_feeds_without_one_do_not_wait():
    for name in ("orders", "mails", "photos"):
        assert claims.claim(queued(name).pk).state == "running"


def test_a_run_that_waits_for_its_turn_is_woken_when_it_has_come_and_not_before():
    orders, stock = claims.claim(queued("orders").pk), queued("stock")
    assert waking.due_parts() == []
    with pytest.raises(PartTaken):
        claims.claim(stock.pk)
    assert dispatch.wake_due() == 0
    attempts.end(orders, State.SUCCEEDED)
    assert waking.due_parts(beside=orders.pk) == [stock.pk]
    assert claims.claim(stock.pk).waiting_for == ""


def test_the_slice_that_ends_a_run_wakes_the_next_of_the_group():
    orders, stock = queued("orders"), queued("stock")
    tasks.advance(part=orders.pk)
    assert Run.objects.get(pk=orders.run_id).state == "succeeded"
    assert woken == [stock.pk]


def test_the_oldest_has_its_turn_first():
    holder, older, younger = claims.claim(queued("orders").pk), queued("stock"), queued("prices")
    attempts.end(holder, State.SUCCEEDED)
    assert waking.due_parts() == [older.pk]
    with pytest.raises(GroupBusy, match=f"run {older.run_id} of stock was asked for before"):
        claims.claim(younger.pk)
    again = queued("orders")
    attempts.end(claims.claim(older.pk), State.SUCCEEDED)
    with pytest.raises(GroupBusy, match=f"run {younger.run_id} of prices was asked for before"):
        claims.claim(again.pk)


def test_a_run_that_waits_for_its_next_attempt_lets_others_go_and_is_next_when_its_time_has_come():
    orders, stock, prices = claims.claim(queued("orders").pk), queued("stock"), queued("prices")
    attempts.retry_later(orders, reason="503", wait=timedelta(hours=1), limit=5)
    stock = claims.claim(stock.pk)
    with pytest.raises(GroupBusy):
        claims.claim(orders.pk, now=True)
    Part.objects.filter(pk=orders.pk).update(next_attempt_at=Now())
    attempts.end(stock, State.SUCCEEDED)
    with pytest.raises(GroupBusy, match=f"run {orders.run_id} of orders was asked for before"):
        claims.claim(prices.pk)
    assert waking.due_parts() == [orders.pk]
    assert claims.claim(orders.pk).attempts == 2


def test_between_two_slices_the_group_is_kept():
    orders, stock = claims.claim(queued("orders").pk), queued("stock")
    attempts.release(orders)
    with pytest.raises(GroupBusy):
        claims.claim(stock.pk)
    assert claims.claim(orders.pk).epoch == 2


def test_a_cancelled_run_gives_its_turn_away():
    orders, stock = claims.claim(queued("orders").pk), queued("stock")
    interventions.cancel(orders.run_id)
    assert waking.due_parts() == [stock.pk]
    assert claims.claim(stock.pk).state == "running"


def test_parts_of_one_run_share_its_turn():
    part = claims.claim(queued("orders").pk)
    Part.objects.filter(pk=part.pk).update(share=None)
    (second,) = turns.divide(part, [{"list": 0}, {"list": 1}], at_once=2)
    assert waking.due_parts() == [second]
    assert claims.claim(second).state == "running"


def test_the_database_itself_keeps_the_second_one_out():
    claims.claim(queued("orders").pk)
    stock = queued("stock")
    with pytest.raises(IntegrityError, match="one_running_per_group"), transaction.atomic():
        Run.objects.filter(pk=stock.run_id).update(state=State.RUNNING)


def test_a_foreground_run_says_whose_turn_it_is_and_leaves_nothing_behind():
    orders = claims.claim(queued("orders").pk)
    why = f"stock waits for its turn in group erp: run {orders.run_id} of orders is running"
    with pytest.raises(AlreadyRunning, match=why):
        pipeline.run_here("stock")
    assert list(Run.objects.values_list("pk", flat=True)) == [orders.run_id]


class Crew:
    """Workers that take any queued part at random, and ask for each feed again as soon as its run has ended."""

    def __init__(self, seed, rounds):
        self.seed, self.left = seed, dict.fromkeys(("orders", "stock", "prices"), rounds)
        self.lock, self.inside, self.most = threading.Lock(), 0, 0

    def work(self, number):
        chance = random.Random(self.seed + number)
        try:
            while self.ask() or Part.objects.filter(state=State.QUEUED).exists():
                self.take(chance)
        finally:
            connection.close()

    def ask(self):
        with self.lock:
            for name, more in self.left.items():
                if more and runs.request(name, trigger=Trigger.COMMAND, wake_workers=False)[1]:
                    self.left[name] -= 1
            return any(self.left.values())

    def take(self, chance):
        queued = list(Part.objects.filter(state=State.QUEUED).values_list("pk", flat=True))
        try:
            part = claims.claim(chance.choice(queued or [0]))
        except PartTaken:
            return
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(chance.random() / 100)
        with self.lock:
            self.inside -= 1
        attempts.end(part, State.SUCCEEDED)


def test_many_workers_and_a_busy_group_never_overlap_and_all_get_their_turn():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    crew = Crew(seed, rounds=8)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(crew.work, range(4)))
    assert crew.most == 1
    assert list(Run.objects.values_list("state", flat=True)) == ["succeeded"] * 3 * 8
    # Nobody is overtaken by more than those who asked at the same time.
    order = list(Run.objects.order_by("started_at").values_list("pk", flat=True))
    assert all(abs(order.index(pk) - place) <= 3 for place, pk in enumerate(sorted(order)))
