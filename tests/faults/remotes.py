"""A source that breaks, refuses or goes round in circles: faults 16, 17 and 18."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from tests.faults import oracle
from tests.faults.catalogue import Trial, case
from tests.faults.killing import resets, strike_until_done
from tests.faults.refusals import failed
from tests.processes import wait_until

BREAKS = (
    "cut",
    "reset",
    "too short a length",
    "too long a length",
    "no length, cut",
    "chunked without an end",
    "a gzip cut short",
)


@case(16)
def _broken_answers(trial: Trial) -> None:
    """Answers cut, reset, with a length too short or too long, without one, chunked without an end, gzip cut."""
    around = trial.around
    with around.workers():
        for how in BREAKS:
            around.fresh(alpha=1_000)
            around.serve(broken={"4": how}, breaks=2)
            run = trial.trigger()
            around.verdict(run)
            assert [page["page"] for page in around.served()].count(4) == 1


@case(16)
def _silence(trial: Trial) -> None:
    """An answer that stops in the middle and stays silent, longer than a request may."""
    around = trial.around
    with around.workers():
        around.fresh(alpha=1_000)
        around.serve(broken={"4": "silence"})
        run = trial.trigger()
        around.verdict(run, seconds=90)


@case(16, is_random=True, quick=2)
def _source_reset(trial: Trial) -> None:
    """All connections to the source reset at random instants, every other time while new ones are refused for 2 s."""
    around = trial.around
    with around.workers():
        strike_until_done(trial, resets(trial, around.to_source, refused_seconds=2))


@case(16)
def _trickle(trial: Trial) -> None:
    """A source whose answers come in slices of 100 bytes with 1 ms between them."""
    around = trial.around
    with around.workers():
        around.fresh(alpha=1_000)
        around.to_source.manners.slice_bytes, around.to_source.manners.latency = 100, 0.001
        try:
            run = trial.trigger()
            around.verdict(run, seconds=120)
        finally:
            around.to_source.manners.slice_bytes, around.to_source.manners.latency = 65536, 0


@case(17)
def _retry_after(trial: Trial) -> None:
    """429 with Retry-After in seconds, in fractions, as a date, of 0, in the past, negative, unreadable, none."""
    around = trial.around
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
    values = ("2", "1.5", later, "0", "Wed, 21 Oct 2015 07:28:00 GMT", "-5", "soon")
    with around.workers():
        for headers in [*({"Retry-After": value} for value in values), {}]:
            around.fresh(alpha=1_000)
            around.serve(refusals=[(429, headers)])
            run = trial.trigger()
            around.verdict(run)


@case(17)
def _long_wait(trial: Trial) -> None:
    """429 with a Retry-After of 70 s, longer than a worker sleeps: it is free for others, and nobody asks earlier."""
    around = trial.around
    with around.workers():
        around.fresh(alpha=1_000, beta=1_000)
        around.serve(refusals=[(429, {"Retry-After": "70"})])
        waiting = trial.trigger("alpha")
        wait_until(lambda: around.state(waiting) == "waiting", what="the wait")
        began = time.time()
        other = trial.trigger("beta")
        wait_until(lambda: around.has_ended(other), seconds=30, what="the other feed's run")
        assert around.state(waiting) == "waiting"
        around.verdict(waiting, other, seconds=120)
        asked = around.served("alpha")[0]["at"] - began
        assert asked >= 69, f"asked again after {asked:.0f} s"
        trial.notes.append(f"asked again after {asked:.0f} s")


@case(17, quick=1)
def _absurd_wait(trial: Trial) -> None:
    """429 with a Retry-After of 31 years, and one of the year 9999: a day is waited for, in the database alone."""
    around = trial.around
    with around.workers():
        for value in ("999999999", "Fri, 31 Dec 9999 23:59:59 GMT"):
            around.fresh(alpha=1_000)
            around.serve(refusals=[(429, {"Retry-After": value})])
            run = trial.trigger("alpha")
            wait_until(lambda run=run: around.state(run) == "waiting", what="the wait")
            [(hours,)] = around.query(
                "SELECT extract(epoch FROM next_attempt_at - now()) / 3600 FROM ingestion_part WHERE run_id = %s", run
            )
            trial.notes.append(f"waits for {hours:.1f} h")
            assert 23.9 < hours <= 24, hours
            assert around.served() == []
            around.stack.manage("cancel", str(run))
            oracle.check_nothing_left(around)


@case(17)
def _storm(trial: Trial) -> None:
    """Eighteen answers of 500, 502, 503 and 504 in a row."""
    around = trial.around
    with around.workers():
        around.fresh(alpha=1_000)
        around.serve(refusals=[(status, {}) for status in (500, 502, 503, 504, 500, 503) * 3])
        run = trial.trigger()
        around.verdict(run, seconds=240)


@case(17)
def _page_that_always_fails(trial: Trial) -> None:
    """One page that always answers 500: the run fails after its attempts, and is resumed at that page."""
    fails_and_is_resumed(trial, "gave up after", broken={"9": "error"}, breaks=1000)


@case(18)
def _loops(trial: Trial) -> None:
    """The same page again and again, and two pages in turns: the run fails with proof, and the next one is good."""
    same = {str(page): 8 for page in range(9, 101)}
    fails_and_is_resumed(trial, "pagination_loop", instead=same, is_resumed=False)
    turns = {str(page): 8 - page % 2 for page in range(9, 101)}
    fails_and_is_resumed(trial, "pagination_loop", instead=turns, is_resumed=False)


def fails_and_is_resumed(trial: Trial, error: str, *, is_resumed: bool = True, **ways: Any) -> None:
    """Let a run meet this; it has to fail with the error and its cursor, and to end well once the source is mended.

    What was read twice cannot be resumed to a run that adds up; without `is_resumed` another run follows.
    """
    around = trial.around
    with around.workers():
        around.fresh()
        around.serve(**ways)
        run = trial.trigger()
        trial.notes.append(failed(around, run, error))
        pages = len(around.served())
        around.serve()
        if is_resumed:
            around.stack.manage("resume", str(run))
        else:
            run = around.trigger()
        around.verdict(run)
        trial.notes.append(f"{pages} pages served before, {len(around.served())} in all")
