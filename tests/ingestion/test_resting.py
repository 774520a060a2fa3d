"""The thread that prepares pages rests while the one that loads them does not wait for anything long."""

import threading
from contextlib import ExitStack

import pytest

from ingestion.resting import resting, waiting


def test_whoever_has_nobody_to_rest_for_just_waits():
    with waiting():
        pass


def test_the_other_thread_may_work_while_this_one_waits_and_afterwards():
    may_work = threading.Event()
    with resting(may_work):
        assert not may_work.is_set()
        with waiting():
            assert may_work.is_set()
            with waiting():  # a page that is waited for inside of a COPY
                assert may_work.is_set()
            assert may_work.is_set()
        assert not may_work.is_set()
    assert may_work.is_set()


def test_an_error_leaves_nobody_at_rest():
    may_work = threading.Event()
    rests = ExitStack()
    rests.enter_context(resting(may_work))
    with pytest.raises(KeyError), waiting():
        raise KeyError
    assert not may_work.is_set()
    with pytest.raises(KeyError), rests:
        raise KeyError
    assert may_work.is_set()


def test_what_another_thread_waits_for_says_nothing_about_this_one():
    may_work, found = threading.Event(), []

    def wait():
        with waiting():
            found.append(may_work.is_set())

    with resting(may_work):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()
    assert found == [False]
