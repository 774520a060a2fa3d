"""What asks a remote by other means than one HTTP request, tried again where that helps."""

import random
import time
from collections.abc import Callable
from itertools import count
from typing import TypeVar

from ingestion.http import LONGEST_SLEEP, Retry, TransientFailure
from ingestion.http.waiting import given_up

T = TypeVar("T")


def patiently(retry: Retry, call: Callable[[], T]) -> T:
    """Call a function until it does not raise TransientFailure, as often and as fast as `retry` allows.

    Raises:
        RetryLater: every try failed, or the place asked to wait longer than a worker should sleep.
    """
    for turn in count(1):
        try:
            return call()
        except TransientFailure as failure:
            if turn >= retry.attempts or (failure.wait is not None and failure.wait > LONGEST_SLEEP):
                raise given_up(failure, turn) from failure
            pause = min(retry.wait_initial * 2 ** (turn - 1), retry.wait_max)
            seconds = pause.total_seconds() * random.uniform(0.5, 1)  # noqa: S311 - jitter, not a secret
            time.sleep(max(seconds, failure.wait.total_seconds() if failure.wait else 0))
    raise AssertionError("the loop has no end")
