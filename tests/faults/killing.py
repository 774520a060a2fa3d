"""Processes killed, stopped and continued: faults 1, 2, 5 and 7."""

import contextlib
import functools
import os
import signal
import subprocess
import time
from collections.abc import Callable

from tests.faults.catalogue import Trial, case
from tests.faults.proxy import Proxy
from tests.faults.surroundings import RECORDS, Surroundings, Worker, last, signal_all, until_gone
from tests.processes import wait_until

# A run goes on within this time, whatever was killed: FAULTS 1 and 2.
RECOVERY_SECONDS = 30
# What the feeds may have received and not committed, in pages of 100 records: what a kill costs at most.
CHUNK_PAGES = 5
# Records of the feed whose chunks are big: eight of them.
BULK = 40_000
# What nobody should have to wait for after an orderly end.
LEASE_SECONDS = 20
# Where a process dies: while fetching, in the COPY, around the COMMIT, and before the message is acknowledged.
PLACES = ("copying", "committing", "acknowledging", "claimed", "fetching", "copied", "committed", "ending")


def strike_until_done(
    trial: Trial,
    strike: Callable[[], bool],
    *,
    feed: str = "alpha",
    records: int = RECORDS,
    strikes: int | None = None,
    and_then: Callable[[int], None] = lambda run: None,
) -> None:
    """Start runs one after the other and strike at random instants of them, until all strikes are spent.

    Args:
        records: what the feed's source has.
        strikes: all that the trial has, unless it is said.
        and_then: looks at each run that has passed the oracle.
    """
    around, left = trial.around, trial.strikes if strikes is None else strikes
    while left:
        around.fresh(**{feed: records})
        run = trial.trigger(feed)
        while left and not around.has_ended(run):
            # The instant of the strike.
            time.sleep(trial.chance.uniform(0, 2))
            if around.has_ended(run) or not strike():
                continue
            left -= 1
            trial.recovered.append(around.recovery_seconds(run))
        around.verdict(run)
        trial.fetched_again += around.fetched_again(feed)
        and_then(run)
    slowest = max(trial.recovered, default=0)
    assert slowest < RECOVERY_SECONDS, f"recovered after {slowest:.1f} s"


def resets(trial: Trial, proxy: Proxy, *, refused_seconds: float) -> Callable[[], bool]:
    """Return a strike that resets all connections; every other time new ones are refused for a while besides."""

    def strike() -> bool:
        if len(trial.recovered) % 2:
            with proxy.refusing():
                last(refused_seconds)
        else:
            proxy.reset()
        return True

    return strike


@case(1, quick=3)
def _child_killed_at_each_point(trial: Trial) -> None:
    """Pool child killed at each point: claimed, fetching, in the COPY, around the COMMIT, ending, before the ack."""
    around = trial.around
    with around.workers():
        for place in PLACES[: trial.strikes]:
            around.fresh(alpha=2_000)
            if place in ("claimed", "ending", "acknowledging"):
                point = around.arm(place)
                run = trial.trigger()
            else:
                run = trial.trigger()
                around.wait_for(run)
                point = around.arm(place)
            until_gone(point)
            trial.recovered.append(around.recovery_seconds(run))
            around.verdict(run)
            trial.fetched_again += around.fetched_again()
    assert max(trial.recovered) < RECOVERY_SECONDS
    assert max(trial.fetched_again, default=0) <= CHUNK_PAGES, trial.fetched_again


@case(1, is_random=True, quick=1)
def _child_killed_at_random(trial: Trial) -> None:
    """Pool child killed at random instants."""
    with trial.around.workers() as [worker]:
        strike_until_done(trial, worker.kill_child)
    assert max(trial.fetched_again, default=0) <= CHUNK_PAGES, trial.fetched_again


@case(2, is_random=True, quick=1)
def _group_killed_beside_another(trial: Trial) -> None:
    """The working one of two workers killed whole at random instants, started again later."""
    around = trial.around
    with around.workers(2) as workers:
        strike_until_done(trial, lambda: kill_owner(around, workers) is not None)
    assert max(trial.fetched_again, default=0) <= CHUNK_PAGES, trial.fetched_again


@case(2)
def _only_group_killed(trial: Trial) -> None:
    """The only worker killed whole in mid-run, started again 2 s later."""
    around = trial.around
    with around.workers() as [worker]:
        for _ in range(3):
            around.fresh()
            run = trial.trigger()
            around.wait_for(run, records=trial.chance.randrange(1, 5_000))
            worker.kill()
            last(2)
            worker.restart()
            trial.recovered.append(2 + around.recovery_seconds(run))
            around.verdict(run)
            trial.fetched_again += around.fetched_again()
    assert max(trial.recovered) < RECOVERY_SECONDS
    assert max(trial.fetched_again, default=0) <= CHUNK_PAGES, trial.fetched_again


@case(2)
def _group_on_another_host_killed(trial: Trial) -> None:
    """A worker on what is another host to the others (its own pid namespace) killed whole: only its lease tells."""
    around = trial.around
    for _ in range(3):
        around.fresh()
        elsewhere = around.worker(wrapper=("unshare", "--pid", "--fork", "--kill-child"))
        elsewhere.wait_until_ready()
        # Slow enough that the run goes on when the other worker is there.
        around.serve(latency=0.15)
        run = trial.trigger()
        around.wait_for(run)
        with around.workers():
            assert not around.has_ended(run)
            elsewhere.kill()
            trial.recovered.append(around.recovery_seconds(run))
            around.verdict(run)
    assert max(trial.recovered) < RECOVERY_SECONDS


def owner_of(around: Surroundings, workers: list[Worker]) -> Worker | None:
    """Return the worker whose child advances a part."""
    owners = {int(owner.split(":")[-2]) for (owner,) in around.query(
        "SELECT owner FROM ingestion_part WHERE state = 'running' AND owner <> ''"
    )}  # fmt: skip
    return next((worker for worker in workers if owners & set(worker.children())), None)


def kill_owner(around: Surroundings, workers: list[Worker]) -> Worker | None:
    """Kill the worker whole whose child advances a part, if there is one, and start it again."""
    owner = owner_of(around, workers)
    if owner is not None:
        owner.kill()
        owner.restart()
    return owner


@case(5, quick=1)
def _stopped_in_the_copy(trial: Trial) -> None:
    """Pool child stopped in the COPY until its part was taken over, then continued."""
    zombie(trial, "copying")


@case(5, quick=1)
def _stopped_while_sending(trial: Trial) -> None:
    """Pool child stopped in the COPY, its new keys sent and locked, until its run has ended, then continued."""
    zombie(trial, "sending", feed="bulky", records=BULK, stays=True)


@case(5, is_random=True)
def _stopped_at_random(trial: Trial) -> None:
    """Pool child stopped at random instants, its lease over at once, continued when the run has ended."""
    around, left = trial.around, trial.strikes
    with around.workers(2) as workers:
        while left:
            around.fresh(bulky=BULK)
            run = trial.trigger("bulky")
            # The instant of the strike.
            time.sleep(trial.chance.uniform(0, 1.5))
            owner = owner_of(around, workers)
            epoch, frozen = around.epoch(run), owner.children() if owner else []
            is_struck = signal_all(frozen, signal.SIGSTOP)
            # What was sent to the database before, a COMMIT maybe, is done there.
            last(0.2)
            if not is_struck or around.has_ended(run):
                signal_all(frozen, signal.SIGCONT)
                around.verdict(run)
                continue
            left -= 1
            began = time.monotonic()
            # Without 20 s of waiting for it.
            around.query("UPDATE ingestion_part SET leased_until = now() - interval '1 s' WHERE state = 'running'")
            wait_until(functools.partial(around.has_ended, run), what="the end of the run")
            trial.recovered.append(time.monotonic() - began)
            assert around.epoch(run) > epoch, "nobody has taken the part over"
            signal_all(frozen, signal.SIGCONT)
            around.verdict(run)
    assert max(trial.recovered) < RECOVERY_SECONDS


@case(5)
def _stopped_while_fetching(trial: Trial) -> None:
    """Pool child stopped while fetching until its part was taken over, then continued."""
    zombie(trial, "fetched")


@case(5)
def _stopped_before_commit(trial: Trial) -> None:
    """Pool child stopped between COPY and COMMIT, holding its locks, until its part was taken over, then continued."""
    zombie(trial, "committing")


def zombie(trial: Trial, place: str, *, feed: str = "alpha", records: int = RECORDS, stays: bool = False) -> None:
    """Stop a child at a place until its part was taken over, or with `stays` until its run has ended."""
    around = trial.around
    around.fresh(**{feed: records})
    with around.workers(2):
        run = trial.trigger(feed)
        around.wait_for(run)
        until_gone(around.arm(place, "stop"))
        [(owner, epoch)] = around.query("SELECT owner, epoch FROM ingestion_part WHERE run_id = %s", run)
        pid = int(owner.split(":")[-2])
        began = time.monotonic()
        taken = "SELECT 1 FROM ingestion_part WHERE run_id = %s AND epoch > %s AND owner <> %s"
        wait_until(lambda: around.query(taken, run, epoch, owner), seconds=90, what="the takeover")
        trial.recovered.append(time.monotonic() - began)
        before = around.read(run)
        if stays:
            wait_until(lambda: around.has_ended(run), what="the end of the run")
        os.kill(pid, signal.SIGCONT)
        around.verdict(run, seconds=120)
        trial.notes.append(f"taken over at {before} records")


@case(6)
def _terminated(trial: Trial) -> None:
    """SIGTERM at a random instant with one run at work and one queued, SIGKILL 10 s later, another worker at once."""
    around = trial.around
    for _ in range(min(trial.strikes, 5)):
        around.fresh()
        stopped = around.worker()
        stopped.wait_until_ready()
        running, queued = trial.trigger("alpha"), trial.trigger("beta")
        around.wait_for(running)
        # The instant of the strike.
        time.sleep(trial.chance.uniform(0, 2))
        stopped.process.terminate()
        began = time.monotonic()
        with around.workers():
            # The wait includes the start of the other worker.
            trial.recovered.append(around.recovery_seconds(running))
            with contextlib.suppress(subprocess.TimeoutExpired):
                stopped.process.wait(max(0, began + 10 - time.monotonic()))
            stopped.kill()
            trial.recovered.append(around.recovery_seconds(queued))
            around.verdict(running, queued)
    assert max(trial.recovered) < LEASE_SECONDS, "something waited for a lease to end"


@case(7)
def _poison(trial: Trial) -> None:
    """A part whose worker dies at every attempt, beside a good one."""
    around = trial.around
    around.fresh(alpha=2_000, beta=2_000)
    with around.workers():
        around.arm("beta-copying", "always kill")
        good, poison = trial.trigger("alpha"), trial.trigger("beta")
        wait_until(lambda: around.has_ended(good), what="the good run's end")
        wait_until(lambda: around.has_ended(poison), seconds=240, what="the poison's end")
    assert (around.state(good), around.state(poison)) == ("succeeded", "failed")
    trial.notes.append(error_of(around, poison))


def error_of(around: Surroundings, run: int) -> str:
    [(error,)] = around.query("SELECT error FROM ingestion_run WHERE id = %s", run)
    return str(error)
