"""The prefetcher: in order, bounded by bytes, ended by whoever uses it, and silent about nothing."""

import itertools
import threading
import time
from dataclasses import dataclass

import pytest

from ingestion.prefetch import END, Prefetcher

# Long enough for a loaded machine; nothing here waits for it when all is well.
PATIENCE = 30


@dataclass
class Sheet:
    number: int
    size_bytes: int = 100


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


@pytest.mark.parametrize("max_bytes", [0, 1, 100, 250, 10**9])
def test_gives_every_page_in_order_then_the_end_for_good(max_bytes):
    with Prefetcher((Sheet(n) for n in range(200)), max_bytes=max_bytes) as ahead:
        assert taken(ahead) == list(range(200))
        assert ahead.take(timeout_seconds=0) is END
        assert ahead.take_ready() is None


def test_an_empty_source_is_at_its_end():
    with Prefetcher(iter(()), max_bytes=1) as ahead:
        assert ahead.take(timeout_seconds=PATIENCE) is END


def test_reads_ahead_up_to_the_bytes_and_no_further():
    pages = Counted(Sheet(n) for n in itertools.count())
    with Prefetcher(pages, max_bytes=350) as ahead:
        # Three pages fit, the fourth is fetched and waits.
        eventually(lambda: pages.asked == 4)
        time.sleep(0.05)  # time to be wrong in; being right needs none
        assert pages.asked == 4
        assert ahead.take_ready().number == 0
        eventually(lambda: pages.asked == 5)
        time.sleep(0.05)
        assert pages.asked == 5


def test_a_page_larger_than_the_bound_comes_alone():
    pages = Counted(Sheet(n, size_bytes=1000) for n in range(5))
    with Prefetcher(pages, max_bytes=10) as ahead:
        eventually(lambda: pages.asked == 2)
        time.sleep(0.05)
        assert pages.asked == 2
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

    with Prefetcher(map(Heavy, range(500)), max_bytes=300) as ahead:
        assert taken(ahead) == list(range(500))
    # Three ready, one waiting for room, one being looked at here, one being made.
    assert most <= 6


def test_take_ready_neither_waits_nor_raises():
    gate = threading.Event()

    def pages():
        gate.wait(PATIENCE)
        yield Sheet(0)
        raise ValueError("the second page")

    with Prefetcher(pages(), max_bytes=1000) as ahead:
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

    with Prefetcher(pages(), max_bytes=1000) as ahead:
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

    with Prefetcher(pages(), max_bytes=1000) as ahead:
        assert ahead.take(timeout_seconds=PATIENCE).number == 0
        assert ahead.take(timeout_seconds=PATIENCE).number == 1
        for _ in range(2):
            with pytest.raises(type(error)) as raised:
                ahead.take(timeout_seconds=PATIENCE)
            assert raised.value is error


def test_leaving_stops_the_thread_and_closes_the_source():
    pages = Counted(Sheet(n) for n in itertools.count())
    with Prefetcher(pages, max_bytes=1000) as ahead:
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

    ahead = Prefetcher(pages(), max_bytes=1000)
    with pytest.raises(RuntimeError, match="the user's"), ahead:
        raise RuntimeError("the user's")
    assert not ahead._thread.is_alive()
    assert closed.is_set()


def test_a_source_that_fails_to_close_is_an_error_and_no_silence():
    class Stubborn(Counted):
        def close(self):
            raise OSError("cannot close")

    with Prefetcher(Stubborn([Sheet(0)]), max_bytes=1000) as ahead:
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
    with Prefetcher(pages(), max_bytes=1000) as ahead:
        assert ahead.take(timeout_seconds=PATIENCE).number == 0
    assert time.monotonic() - started < PATIENCE / 2
    # Nor the process: the interpreter does not wait for daemons.
    assert ahead._thread.daemon
    gate.set()
    ahead._thread.join(PATIENCE)
    assert not ahead._thread.is_alive()
