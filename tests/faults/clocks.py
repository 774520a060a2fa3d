"""Clocks that jump, and summer time that begins and ends under a running beat: fault 12. Takes libfaketime."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from tests.faults.beats import SECONDS, all_well, schedule, scheduled, wait_for_slots
from tests.faults.catalogue import NotHere, Trial, case
from tests.faults.killing import owner_of, strike_until_done
from tests.faults.surroundings import Surroundings
from tests.processes import wait_until

# Where Debian's and Fedora's packages put the library for programs with threads.
LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib*/faketime/libfaketimeMT.so.1")
HOUR, DAY = 3600, 86_400
JUMPS = (HOUR, -HOUR, 90 * DAY, 0)
# The clock on the wall is what jumps; the monotonic one never does.
REAL_MONOTONIC = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_RESET": "1"}


def library() -> str:
    """Return the path of libfaketime.

    Raises:
        NotHere: it is not installed.
    """
    found = [path for pattern in LIBRARIES for path in Path("/").glob(pattern.lstrip("/"))]
    if not found:
        raise NotHere("takes libfaketime: apt-get install faketime")
    return str(found[0])


class Clock:
    """A clock on the wall for the processes that are started with its environment; it jumps when told to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set(0)
        self.environment = {
            "LD_PRELOAD": library(), "FAKETIME_TIMESTAMP_FILE": str(path), "FAKETIME_NO_CACHE": "1", **REAL_MONOTONIC,
        }  # fmt: skip

    def set(self, seconds: int) -> None:
        """Let it differ from the real clock by so much."""
        # Whole or not at all: processes read it whenever they ask for the time.
        new = self._path.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.rename(self._path)


@case(12, is_random=True)
def _worker_clock_jumps(trial: Trial) -> None:
    """The working one's clock, of two workers, jumps to an hour or 90 days ahead, an hour back, or right again."""
    around = trial.around
    clocks = [Clock(around.folder / f"clock-{number}") for number in range(2)]
    workers = [around.worker(**clock.environment) for clock in clocks]
    cursors: dict[int, int] = {}

    def strike() -> bool:
        owner = owner_of(around, workers)
        if owner is None:
            return False
        clocks[workers.index(owner)].set(trial.chance.choice(JUMPS))
        for run, page in around.query("SELECT run_id, coalesce((cursor->>'page')::int, 0) FROM ingestion_part"):
            assert page >= cursors.get(run, 0), f"the cursor went back from {cursors[run]} to {page}"
            cursors[run] = page
        return True

    try:
        for worker in workers:
            worker.wait_until_ready()
        strike_until_done(trial, strike, and_then=lambda run: nothing_stolen(around, run))
        clocks[0].set(90 * DAY)
        month = f"{datetime.now(UTC) + timedelta(days=90):%Y-%m}"
        wait_until(lambda: month in workers[0].log, what="a worker that is 90 days ahead")
    finally:
        for worker in workers:
            worker.kill()
    assert max(trial.recovered) < SECONDS, "something waited for a clock"


def nothing_stolen(around: Surroundings, run: int) -> None:
    """The run was advanced by one owner in one attempt, and nothing in it ended before it began."""
    lost = around.query(
        "SELECT a.epoch, a.outcome, a.taken_at, a.ended_at FROM ingestion_attempt a JOIN ingestion_part p"
        " ON p.id = a.part_id WHERE p.run_id = %s AND (a.outcome IN ('lost', 'waiting') OR a.ended_at < a.taken_at)",
        run,
    )
    assert not lost, f"attempts that were lost or have a negative duration: {lost}"


@case(12)
def _beat_clock_jumps(trial: Trial) -> None:
    """Beat's clock jumps an hour ahead, right, an hour back, right, 90 days ahead, and right; slots go on coming."""
    around = trial.around
    clock = Clock(around.folder / "clock-of-beat")
    schedule(around)
    with around.workers(), beat_of(around, "celery", "beat", **clock.environment):
        wait_for_slots(around, 1)
        for seconds in (HOUR, 0, -HOUR, 0, 90 * DAY, 0):
            before = scheduled(around)
            began = time.monotonic()
            clock.set(seconds)
            # The first slot after the jump, whichever that is, and one more an interval later.
            wait_for_slots(around, before + 2)
            trial.recovered.append(time.monotonic() - began)
            assert scheduled(around) <= before + 3, "the hours in between were made up one by one"
        all_well(trial)
    assert max(trial.recovered) < 4 * SECONDS


@contextlib.contextmanager
def beat_of(around: Surroundings, *words: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a beat with a clock of its own."""
    program, command, *options = words
    process = around.stack.start(
        "beat-of-clock", program, "-A", "config", command, "-l", "INFO", "-s", str(around.folder / "beat-of-clock"),
        *options, **environment,
    )  # fmt: skip
    try:
        yield process
    finally:
        around.stack.stop(process, kill=True)


# Twenty minutes of beat's clock go by in one second.
RATE = 1200


@case(12)
def _summer_time_in_berlin(trial: Trial) -> None:
    """Beat, sped up, sees summer time begin and end in Berlin: 02:30 is not there, or there twice; one slot a night."""
    through(trial, "Europe/Berlin", "2026-03-28T02:30", "2026-10-24T02:30")


@case(12)
def _summer_time_in_new_york(trial: Trial) -> None:
    """Beat, sped up, sees the same in New York: 02:30 is not there, and 01:30 is there twice."""
    through(trial, "America/New_York", "2026-03-07T02:30", "2026-10-31T01:30")


@case(12)
def _summer_time_on_lord_howe(trial: Trial) -> None:
    """Beat, sped up, sees the same on Lord Howe Island, where the clocks are moved by half an hour."""
    through(trial, "Australia/Lord_Howe", "2026-10-03T02:30", "2026-04-04T01:30")


def through(trial: Trial, zone: str, *firsts: str) -> None:
    """Let beat see three nights from each of these times on, the second with a change: each has one slot."""
    around = trial.around
    with around.workers():
        for first in firsts:
            schedule(around)
            local = datetime.fromisoformat(first)
            at = local.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
            daily(around, zone, local.hour, last_run_at=at - timedelta(hours=2))
            sped(around, begin=at - timedelta(hours=0.5), hours=1)
            sped(around, begin=at + timedelta(hours=22), hours=5)
            sped(around, begin=at + timedelta(hours=46.5), hours=2.5)
            found = [name for (name,) in around.query("SELECT name FROM ingestion_slot ORDER BY id")]
            assert found == [f"{local + timedelta(days=night):%Y-%m-%d %H:%M} {zone}" for night in range(3)], found
            all_well(trial)
            trial.notes.append(", ".join(found))


def daily(around: Surroundings, zone: str, hour: int, *, last_run_at: datetime) -> None:
    """Let alpha run each day at half past this hour, instead of every few seconds."""
    around.query(
        "WITH c AS (INSERT INTO django_celery_beat_crontabschedule"
        " (minute, hour, day_of_week, day_of_month, month_of_year, timezone)"
        " VALUES ('30', %s, '*', '*', '*', %s) RETURNING id)"
        " UPDATE django_celery_beat_periodictask SET interval_id = NULL, crontab_id = (SELECT id FROM c),"
        " last_run_at = %s WHERE task = 'worker.sync'", str(hour), zone, last_run_at,
    )  # fmt: skip


def sped(around: Surroundings, *, begin: datetime, hours: float) -> None:
    """Run a beat whose clock begins then and goes fast, its sleep with it, for so many of its hours."""
    environment = {"LD_PRELOAD": library(), "FAKETIME": f"@{begin:%Y-%m-%d %H:%M:%S} x{RATE}", "TZ": "UTC"}
    starts = around.stack.text("beat-of-clock").count("beat: Starting")
    with beat_of(around, "celery", "beat", "--max-interval", "240", **environment, **REAL_MONOTONIC):
        wait_until(lambda: around.stack.text("beat-of-clock").count("beat: Starting") > starts, what="beat's start")
        # Beat does the rest by its own clock.
        time.sleep(hours * HOUR / RATE)
