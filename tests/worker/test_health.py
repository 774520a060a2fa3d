"""What the health check of the worker and of beat makes of a heartbeat; tests/stack has the processes."""

import time

import pytest

from worker import health
from worker.health import Heartbeat, complaint

NOW = 10_000.0


def test_there_is_nothing_to_complain_about_up_to_both_limits():
    assert complaint(Heartbeat(alive_at=NOW - 15, working_at=NOW - 60), NOW) is None
    assert complaint(Heartbeat(alive_at=NOW, working_at=NOW), NOW) is None


@pytest.mark.parametrize(
    ("heartbeat", "expected"),
    [
        (None, "no heartbeat yet"),
        (Heartbeat(alive_at=NOW - 16, working_at=NOW - 16), "the last heartbeat is 16 s old (limit 15 s)"),
        (Heartbeat(alive_at=NOW - 1, working_at=NOW - 61), "alive, but without work done for 61 s (limit 60 s)"),
        (Heartbeat(alive_at=NOW + 500, working_at=NOW + 500), "the last heartbeat is -500 s old"),
        (Heartbeat(alive_at=NOW, working_at=NOW + 500), "alive, but without work done for -500 s"),
    ],
)
def test_it_complains_of_what_is_older_than_its_limit_or_of_another_boot(heartbeat, expected):
    assert complaint(heartbeat, NOW).startswith(expected)


def test_limits_can_be_given():
    heartbeat = Heartbeat(alive_at=NOW - 3, working_at=NOW - 5)
    assert complaint(heartbeat, NOW, alive_seconds=3, working_seconds=5) is None
    assert "limit 2 s" in complaint(heartbeat, NOW, alive_seconds=2, working_seconds=5)
    assert "limit 4 s" in complaint(heartbeat, NOW, alive_seconds=3, working_seconds=4)


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "health"
    assert health.read(path) is None
    for moment in (1.5, time.monotonic()):
        health.write(path, Heartbeat(alive_at=moment, working_at=0.25))
        assert health.read(path) == Heartbeat(alive_at=moment, working_at=0.25)
    assert [file.name for file in tmp_path.iterdir()] == ["health"]
