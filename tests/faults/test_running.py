"""How cases are run: one that hangs is ended, and costs nobody else anything."""

import time

import pytest

from tests.faults.__main__ import OutOfTimeError, time_limit


def test_a_case_that_hangs_is_ended():
    with pytest.raises(OutOfTimeError, match=r"not done after 0.05 s"), time_limit(0.05):
        time.sleep(30)


def test_a_case_in_time_is_left_alone():
    with time_limit(0.05):
        pass
    time.sleep(0.1)
