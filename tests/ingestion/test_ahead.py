"""Streams that are read at once: handed out in order, bounded in number and bytes, stopped and failed in place."""

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice

import pytest

from ingestion.sources.ahead import in_order


@dataclass(frozen=True)
class Thing:
    name: str
    size_bytes: int = 10


class Tools:
    """Counts what is opened, and how many streams are read at the same time."""

    def __init__(self):
        self.opened, self.closed, self.reading, self.most = 0, 0, 0, 0
        self.begun = []
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self):
        self.opened += 1
        yield self
        self.closed += 1

    @contextmanager
    def read(self, name):
        with self._lock:
            self.begun.append(name)
            self.reading += 1
            self.most = max(self.most, self.reading)
        yield
        with self._lock:
            self.reading -= 1


def stream(name, things=1, *, size=10, gate=None, error=None):
    def make(tools):
        with tools.read(name):
            for number in range(things):
                if gate is not None:
                    gate.wait(10)
                yield Thing(f"{name}{number}", size)
            if error is not None:
                raise error

    return make


def names(things):
    return [thing.name for thing in things]


def until(is_true):
    for _ in range(1000):
        if is_true():
            return
        time.sleep(0.01)
    raise AssertionError("never")


@pytest.mark.parametrize("at_once", [1, 2, 5, 50])
@pytest.mark.parametrize("max_bytes", [1, 40, 1_000_000])
def test_what_streams_bring_comes_in_their_order(at_once, max_bytes):
    tools = Tools()
    streams = [stream(name, number % 4) for number, name in enumerate("abcdefghijkl")]
    found = names(in_order(streams, tool=tools, at_once=at_once, max_bytes=max_bytes))
    assert found == [f"{name}{n}" for number, name in enumerate("abcdefghijkl") for n in range(number % 4)]
    assert tools.most <= at_once
    assert tools.opened <= at_once
    until(lambda: tools.closed == tools.opened)


def test_so_many_are_read_at_the_same_time():
    tools, together = Tools(), threading.Barrier(4)
    # Behind the first one, which is begun alone, four have to meet.
    streams = [stream("a"), *(stream(name, gate=together) for name in "bcdefghi")]
    assert names(in_order(streams, tool=tools, at_once=4, max_bytes=1000)) == [f"{name}0" for name in "abcdefghi"]
    assert tools.most == 4


def test_what_is_read_ahead_is_bounded_by_bytes():
    tools = Tools()
    things = in_order((stream(str(n), size=100) for n in count()), tool=tools, at_once=8, max_bytes=300)
    taken = names(islice(things, 5))
    until(lambda: tools.reading == 0)
    # Of three that fit one was being handed out.
    assert (taken, len(tools.begun)) == (["00", "10", "20", "30", "40"], 7)
    things.close()


def test_a_long_stream_behind_the_first_one_waits_with_its_share():
    tools = Tools()
    things = in_order([stream("a"), stream("b", 1000), stream("c", 1000)], tool=tools, at_once=3, max_bytes=400)
    assert next(things).name == "a0"
    assert next(things).name == "b0"
    assert len(names(things)) == 1999


def test_an_error_is_raised_in_its_place_and_what_is_behind_it_is_dropped():
    tools, late = Tools(), threading.Event()
    streams = [
        stream("a"),
        stream("b", 2, gate=late),
        stream("c", 1, error=ValueError("c")),
        stream("d", error=ValueError("d")),
        stream("e"),
    ]
    things = in_order(streams, tool=tools, at_once=4, max_bytes=1000)
    found = [next(things).name]
    until(lambda: "d" in tools.begun)
    late.set()
    with pytest.raises(ValueError, match=r"^c$"):
        found.extend(thing.name for thing in things)
    assert found == ["a0", "b0", "b1", "c0"]


def test_a_tool_that_cannot_be_opened_is_an_error_of_the_first_stream():
    @contextmanager
    def broken():
        raise ValueError("no tool")
        yield

    with pytest.raises(ValueError, match="no tool"):
        next(in_order([stream("a"), stream("b")], tool=broken, at_once=2, max_bytes=10))


def test_whoever_leaves_stops_the_threads_and_closes_their_tools():
    tools = Tools()
    things = in_order((stream(str(n), 10) for n in count()), tool=tools, at_once=3, max_bytes=10_000)
    assert len(list(islice(things, 25))) == 25
    things.close()
    until(lambda: tools.closed == tools.opened)
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "ahead"])
