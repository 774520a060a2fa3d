"""A broker that is frozen, cut, full, restarted or down: faults 8 and 9."""

import threading
import time

from tests.faults.catalogue import Trial, case
from tests.faults.killing import RECOVERY_SECONDS
from tests.faults.surroundings import last
from tests.faults.web import Admin, web

# FAULTS 8: a trigger from the admin answers within this time, whatever the broker does.
ANSWER_SECONDS = 3.0


def sync_now(trial: Trial, admin: Admin, feed: str = "beta") -> int:
    """Press "Sync now" and return the run; it has to be there when the answer comes, and that in time."""
    began = time.monotonic()
    admin.sync(feed)
    seconds = time.monotonic() - began
    trial.runs += 1
    trial.notes.append(f"the admin answered in {seconds:.1f} s")
    assert seconds < ANSWER_SECONDS, f"the admin answered after {seconds:.1f} s"
    [(run,)] = trial.around.query(
        "SELECT r.id FROM ingestion_run r JOIN ingestion_feedstate f ON f.id = r.feed_id WHERE f.name = %s", feed
    )
    return int(run)


def both_recover(trial: Trial, running: int, triggered: int) -> None:
    """Both runs go on within the time for recovery, and end well."""
    trial.recovered.append(trial.around.recovery_seconds(triggered))
    trial.around.verdict(running, triggered, seconds=120)
    assert max(trial.recovered) < RECOVERY_SECONDS


@case(8)
def _frozen(trial: Trial) -> None:
    """Redis frozen for 30 s in mid-run; a trigger from the admin meanwhile."""
    around = trial.around
    with web(around) as admin, around.workers():
        running = started(trial)
        with around.broker.frozen():
            began = time.monotonic()
            triggered = sync_now(trial, admin)
            last(began + 30 - time.monotonic())
        both_recover(trial, running, triggered)


@case(8)
def _resets(trial: Trial) -> None:
    """All connections to Redis reset every 2 s for 20 s; a trigger from the admin meanwhile."""
    around = trial.around
    stop = threading.Event()

    def reset() -> None:
        while not stop.wait(2):
            around.to_broker.reset()

    with web(around) as admin, around.workers():
        running = started(trial)
        resets = threading.Thread(target=reset)
        resets.start()
        try:
            triggered = sync_now(trial, admin)
            last(20)
        finally:
            stop.set()
            resets.join()
        both_recover(trial, running, triggered)


@case(8)
def _full(trial: Trial) -> None:
    """Redis out of memory for 15 s: it takes no writes; a trigger from the admin meanwhile."""
    around = trial.around
    with web(around) as admin, around.workers():
        running = started(trial)
        around.broker.client.config_set("maxmemory", "1")
        try:
            triggered = sync_now(trial, admin)
            last(15)
        finally:
            around.broker.client.config_set("maxmemory", "0")
        both_recover(trial, running, triggered)


@case(8)
def _restarted(trial: Trial) -> None:
    """Redis killed and started again, empty, five times in 15 s; a trigger from the admin meanwhile."""
    around = trial.around
    with web(around) as admin, around.workers():
        running = started(trial)
        triggered = sync_now(trial, admin)
        for _ in range(5):
            around.broker.kill()
            last(1)
            around.broker.start()
            # Back, but not for long.
            last(2)
        both_recover(trial, running, triggered)


@case(9)
def _down_at_the_trigger(trial: Trial) -> None:
    """Redis down when the admin and a command trigger; back after 10 s."""
    around = trial.around
    with web(around) as admin, around.workers():
        around.fresh()
        around.broker.kill()
        began = time.monotonic()
        triggered = sync_now(trial, admin)
        commanded = int(around.stack.summary("trigger", "alpha", "--json")["run"])
        trial.runs += 1
        last(began + 10 - time.monotonic())
        around.broker.start()
        both_recover(trial, commanded, triggered)


def started(trial: Trial) -> int:
    """Return a run that has committed a chunk and goes on for ten seconds and more."""
    around = trial.around
    around.fresh()
    around.serve(latency=0.15)
    run = trial.trigger()
    around.wait_for(run)
    return run
