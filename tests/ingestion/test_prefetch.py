"""The prefetcher: in order, bounded by what is open, ended by whoever uses it, and silent about nothing."""

import itertools
import threading
import time
from dataclasses import dataclass

import pytest

from ingestion import prefetch
from ingestion.prefetch import END, Prefetcher
from ingestion.resting import waiting

# Long enough for a loaded machine; nothing here waits for it when all is well.
PATIENCE = 30


@dataclass
class Sheet:
    number: int
    weight: int = 100


@dataclass
class Weights:
    """Pages weigh the same before and after they are taken."""

    open: int

    def ahead(self, page):
        return page.weight

    loading = ahead


def taken(prefetcher):
    """Take everything to the end."""
    numbers = []
    while (page := prefetcher.take(timeout_seconds=PATIENCE)) is not END:
        assert page is not None, "nothing came in time"
        numbers.append(page.number)
    return numbers


def eventually(condition):
    ends_at = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends_at, "it never came to that"
        time.sleep(0.001)


class Counted:
    """An iterator that can be watched: how many pages were asked for, and whether it was closed."""

    def __init__(self, pages):
        self.asked = 0
        self.closed = threading.Event()
        self._pages = iter(pages)

    def __iter__(self):
        return self

    def __next__(self):
        self.asked += 1
        return next(self._pages)

    def close(self):
        self.closed.set()


@pytest.mark.parametrize("room", [0, 1, 100, 250, 10**9])
def test_gives_every_page_in_order_then_the_end_for_good(room):
    with Prefetcher((Sheet(n) for n in range(200)), Weights(room)) as ahead:
        assert taken(ahead) == list(range(200))
        assert ahead.take(timeout_seconds=0) is END
        assert ahead.take_ready() is None


def test_an_empty_source_is_at_its_end():
    with Prefetcher(iter(()), Weights(1)) as ahead:
        assert ahead.take(timeout_seconds=PATIENCE) is END


def asks_for(pages, number):
    eventually(lambda: pages.asked == number)
    time.sleep(0.05)  # time to be wrong in; being right needs none
    return pages.asked == number


def test_reads_ahead_as_far_as_what_is_open_allows_and_no_further():
    pages = Counted(Sheet(n) for n in itertools.count())
    with Prefetcher(pages, Weights(350)) as ahead:
        # The fourth would be too much, and is not asked for.
        assert asks_for(pages, 3)
        assert ahead.take_ready().number == 0
        assert asks_for(pages, 3), "what was taken is open until it is released"
        ahead.release()
        assert asks_for(pages, 4)


def test_a_page_on_its_way_is_taken_to_be_as_heavy_as_the_heaviest_so_far():
    pages = Counted(Sheet(n, weight) for n, weight in enumerate([200, 50, 50, 50, 50]))
    with Prefetcher(pages, Weights(400)) as ahead:
        assert asks_for(pages, 2)
        assert ahead.take_ready().number == 0
        ahead.release()
        assert asks_for(pages, 6)
        assert taken(ahead) == [1, 2, 3, 4]


def test_what_weighs_less_once_it_is_taken_makes_room():
    class Lighter(Weights):
        def loading(self, page):
            return page.weight // 4

    pages = Counted(Sheet(n) for n in itertools.count())
    with Prefetcher(pages, Lighter(200)) as ahead:
        assert asks_for(pages, 2)
        ahead.take_ready()
        assert asks_for(pages, 2)
        ahead.take_ready()
        # Nothing is ready, and 50 are open: one page fits beside them.
        assert asks_for(pages, 3)


def test_there_is_always_one_page_ahead_however_much_is_open():
    pages = Counted(Sheet(n) for n in itertools.count())
    with Prefetcher(pages, Weights(100)) as ahead:
        for number in range(5):
            assert ahead.take(timeout_seconds=PATIENCE).number == number
            assert asks_for(pages, number + 2)


def test_a_page_heavier_than_the_bound_comes_alone():
    pages = Counted(Sheet(n, weight=1000) for n in range(5))
    with Prefetcher(pages, Weights(10)) as ahead:
        assert asks_for(pages, 1)
        assert taken(ahead) == [0, 1, 2, 3, 4]


def test_never_holds_more_than_the_bound_and_one_page():
    alive = most = 0
    lock = threading.Lock()

    class Heavy(Sheet):
        def __init__(self, number):
            super().__init__(number)
            nonlocal alive, most
            with lock:
                alive += 1
                most = max(most, alive)

        def __del__(self):
            nonlocal alive
            with lock:
                alive -= 1

    with Prefetcher(map(Heavy, range(500)), Weights(300)) as ahead:
        for number in range(500):
            assert ahead.take(timeout_seconds=PATIENCE).number == number
            ahead.release()
    # Three are open, one was released and is still looked at here, and one is put where it is ready.
    assert most <= 5


def test_take_ready_neither_waits_nor_raises():
    gate = threading.Event()

    def pages():
        gate.wait(PATIENCE)
        yield Sheet(0)
        raise ValueError("the second page")

    with Prefetcher(pages(), Weights(1000)) as ahead:
        started = time.monotonic()
        assert ahead.take_ready() is None
        assert time.monotonic() - started < PATIENCE / 2
        gate.set()
        eventually(lambda: not ahead._thread.is_alive())
        assert ahead.take_ready().number == 0
        assert ahead.take_ready() is None
        with pytest.raises(ValueError, match="the second page"):
            ahead.take(timeout_seconds=PATIENCE)


def test_take_returns_none_when_nothing_comes_in_time():
    gate = threading.Event()

    def pages():
        gate.wait(PATIENCE)
        yield Sheet(0)

    with Prefetcher(pages(), Weights(1000)) as ahead:
        assert ahead.take(timeout_seconds=0.01) is None
        gate.set()
        assert ahead.take(timeout_seconds=PATIENCE).number == 0
        assert ahead.take(timeout_seconds=PATIENCE) is END


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_an_exception_comes_after_the_pages_before_it(error):
    def pages():
        yield Sheet(0)
        yield Sheet(1)
        raise error

    with Prefetcher(pages(), Weights(1000)) as ahead:
        assert ahead.take(timeout_seconds=PATIENCE).number == 0
        assert ahead.take(timeout_seconds=PATIENCE).number == 1
        for _ in range(2):
            with pytest.raises(type(error)) as raised:
                ahead.take(timeout_seconds=PATIENCE)
            assert raised.value is error


def test_leaving_stops_the_thread_and_closes_the_source():
    pages = Counted(Sheet(n) for n in itertools.count())
    with Prefetcher(pages, Weights(1000)) as ahead:
        assert ahead.take(timeout_seconds=PATIENCE).number == 0
    assert not ahead._thread.is_alive()
    assert pages.closed.is_set()


def test_leaving_after_an_exception_of_the_user_does_the_same():
    closed = threading.Event()

    def pages():
        try:
            for number in itertools.count():
                yield Sheet(number)
        finally:
            closed.set()

    ahead = Prefetcher(pages(), Weights(1000))
    with pytest.raises(RuntimeError, match="the user's"), ahead:
        raise RuntimeError("the user's")
    assert not ahead._thread.is_alive()
    assert closed.is_set()


def test_a_source_that_fails_to_close_is_an_error_and_no_silence():
    class Stubborn(Counted):
        def close(self):
            raise OSError("cannot close")

    with Prefetcher(Stubborn([Sheet(0)]), Weights(1000)) as ahead:
        assert ahead.take(timeout_seconds=PATIENCE).number == 0
        with pytest.raises(OSError, match="cannot close"):
            ahead.take(timeout_seconds=PATIENCE)


def test_a_source_that_hangs_does_not_hold_its_user_up():
    gate = threading.Event()

    def pages():
        yield Sheet(0)
        gate.wait(PATIENCE)
        yield Sheet(1)

    started = time.monotonic()
    with Prefetcher(pages(), Weights(1000)) as ahead:
        assert ahead.take(timeout_seconds=PATIENCE).number == 0
    assert time.monotonic() - started < PATIENCE / 2
    # Nor the process: the interpreter does not wait for daemons.
    assert ahead._thread.daemon
    gate.set()
    ahead._thread.join(PATIENCE)
    assert not ahead._thread.is_alive()


def test_rests_between_two_pages_until_whoever_takes_them_waits(monkeypatch):
    monkeypatch.setattr(prefetch, "REST_SECONDS", PATIENCE)
    pages = Counted(Sheet(n) for n in itertools.count())
    with Prefetcher(pages, Weights(10**9)) as ahead:
        assert ahead.take(timeout_seconds=PATIENCE).number == 0
        time.sleep(0.1)
        asked = pages.asked
        time.sleep(0.1)
        assert pages.asked == asked, "it works although nobody waits"
        with waiting():
            eventually(lambda: pages.asked > asked + 10)
    eventually(lambda: not ahead._thread.is_alive())


def test_rests_for_a_moment_only_whatever_becomes_of_the_other_thread():
    pages = Counted(Sheet(n) for n in itertools.count())
    with Prefetcher(pages, Weights(10**9)):
        eventually(lambda: pages.asked > 5)
