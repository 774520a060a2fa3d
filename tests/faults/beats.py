"""Beat killed, doubled, late, without its database or without the broker: faults 9, 11 and 12."""

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator

from tests.faults.catalogue import Trial, case
from tests.faults.surroundings import Surroundings, last, until_gone
from tests.processes import wait_until

SECONDS = 5
ACTIVE = "SELECT 1 FROM ingestion_run WHERE finished_at IS NULL"
TWICE = (
    "SELECT name, count(*) FROM ingestion_slot GROUP BY feed_id, name HAVING count(*) > 1 UNION ALL"
    " SELECT 'run without a slot', count(*) FROM ingestion_run r WHERE trigger = 'schedule'"
    " AND NOT EXISTS (SELECT 1 FROM ingestion_slot s WHERE s.run_id = r.id) HAVING count(*) > 0"
)


def schedule(around: Surroundings) -> None:
    """Let alpha, a small feed now, run every few seconds, and nothing else."""
    around.fresh(alpha=300)
    around.serve(latency=0)
    around.query("TRUNCATE ingestion_slot; DELETE FROM django_celery_beat_periodictask WHERE task = 'worker.sync'")
    around.query(
        "WITH i AS"
        " (INSERT INTO django_celery_beat_intervalschedule (every, period) VALUES (%s, 'seconds') RETURNING id)"
        " INSERT INTO django_celery_beat_periodictask (name, task, interval_id, args, kwargs, enabled, total_run_count,"
        " date_changed, description, one_off, headers, last_run_at)"
        " SELECT 'sync alpha', 'worker.sync', id, '[]', %s, true, 0, now(), '', false, '{}', now() FROM i",
        SECONDS, json.dumps({"feed": "alpha"}),
    )  # fmt: skip


def beat(around: Surroundings, name: str = "beat") -> subprocess.Popen[bytes]:
    return around.stack.start(name, "celery", "-A", "config", "beat", "-l", "INFO", "-s", str(around.folder / name))


@contextlib.contextmanager
def beats(around: Surroundings, count: int = 1) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Give running beats; those that are left are killed."""
    running = [beat(around, f"beat-{number}") for number in range(count)]
    try:
        yield running
    finally:
        for process in running:
            around.stack.stop(process, kill=True)


def scheduled(around: Surroundings) -> int:
    [(count,)] = around.query("SELECT count(*) FROM ingestion_run WHERE trigger = 'schedule'")
    return int(count)


def wait_for_slots(around: Surroundings, count: int) -> None:
    wait_until(lambda: scheduled(around) >= count, seconds=60, what=f"{count} scheduled runs")


def all_well(trial: Trial) -> None:
    """No slot fired twice; all runs end well. The schedule is off by now."""
    around = trial.around
    around.query("UPDATE django_celery_beat_periodictask SET enabled = false WHERE task = 'worker.sync'")
    runs = [run for (run,) in around.query("SELECT id FROM ingestion_run ORDER BY id")]
    trial.runs += len(runs)
    assert not around.query(TWICE), around.query(TWICE)
    around.verdict(*runs)


@case(11)
def _beat_killed(trial: Trial) -> None:
    """Beat killed right after it started a run, before it noted that, five times; started again at once."""
    around = trial.around
    schedule(around)
    with around.workers():
        for _ in range(5):
            with beats(around) as [running]:
                until_gone(around.arm("slot-started"))
                running.wait()
        with beats(around):
            wait_for_slots(around, 6)
        all_well(trial)


@case(11)
def _two_beats(trial: Trial) -> None:
    """Two beats for six slots."""
    around = trial.around
    schedule(around)
    with around.workers():
        with beats(around, 2):
            began = time.monotonic()
            wait_for_slots(around, 6)
            seconds = time.monotonic() - began
        assert scheduled(around) <= seconds / SECONDS + 2, "more runs than slots"
        trial.notes.append(f"{scheduled(around)} runs in {seconds:.0f} s, one every {SECONDS} s")
        all_well(trial)


@case(11)
def _beat_down(trial: Trial) -> None:
    """Beat down over three slots: they are made up once."""
    around = trial.around
    schedule(around)
    with around.workers():
        with beats(around):
            wait_for_slots(around, 1)
        last(3.5 * SECONDS)
        before = scheduled(around)
        with beats(around):
            wait_for_slots(around, before + 1)
            # Almost until the next slot: whatever was made up besides would be there.
            time.sleep(SECONDS - 1)
            assert scheduled(around) <= before + 2, "a missed slot was made up more than once"
        all_well(trial)


@case(11)
def _database_stopped(trial: Trial) -> None:
    """`pg_ctl stop -m immediate` under beat and worker four times."""
    around = trial.around
    schedule(around)
    with around.workers(), beats(around) as [running]:
        for number in range(4):
            wait_for_slots(around, 2 * number + 1)
            around.stop_database_at_once()
        wait_for_slots(around, 9)
        assert running.poll() is None, "beat ended"
        around.stack.stop(running, kill=True)
        all_well(trial)


@case(12)
def _clock_was_ahead(trial: Trial) -> None:
    """The clock was 90 days ahead when the schedule ran last, and is right again: the next slots come in time."""
    around = trial.around
    schedule(around)
    around.query("UPDATE django_celery_beat_periodictask SET last_run_at = now() + interval '90 days'")
    with around.workers():
        with beats(around):
            wait_for_slots(around, 2)
        all_well(trial)


@case(9)
def _down_at_the_slot(trial: Trial) -> None:
    """Redis down over two slots; their run starts when it is back."""
    around = trial.around
    schedule(around)
    with around.workers(), beats(around):
        wait_for_slots(around, 1)
        # A run that waits for its message while the broker is down would have no other beside it.
        wait_until(lambda: not around.query(ACTIVE), what="the end of the first run")
        around.broker.kill()
        before = scheduled(around)
        wait_for_slots(around, before + 1)
        last(SECONDS)
        around.broker.start()
        began = time.monotonic()
        wait_until(lambda: not around.query(ACTIVE), what="the end of the run")
        trial.recovered.append(time.monotonic() - began)
        all_well(trial)
