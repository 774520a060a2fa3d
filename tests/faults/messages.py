"""Messages lost, doubled and forged: faults 3, 4 and 10."""

import base64
import json
import pickle
import re
import uuid
from pathlib import Path
from typing import Any

from tests.faults.broker import QUEUE
from tests.faults.catalogue import Trial, case
from tests.faults.killing import strike_until_done
from tests.faults.surroundings import Worker, last
from tests.processes import wait_until

# From a message that is lost to the first commit: dispatch every 5 s, and 1.5 s before a part is woken again.
REPAIR_SECONDS = 8


@case(3, is_random=True)
def _taken_and_lost(trial: Trial) -> None:
    """Wake-up taken from the queue and lost, as by a worker that dies between the pop and its note."""
    around = trial.around
    with around.workers():
        for _ in range(trial.strikes):
            around.fresh(alpha=2_000)
            run = around.trigger_unheard()
            trial.runs += 1
            trial.recovered.append(around.recovery_seconds(run))
            around.verdict(run)
    assert max(trial.recovered) < REPAIR_SECONDS


@case(3, is_random=True, quick=1)
def _flushed(trial: Trial) -> None:
    """FLUSHALL at random instants, every other time together with kill -9 of the pool child."""
    around = trial.around
    with around.workers() as [worker]:

        def strike() -> bool:
            if len(trial.recovered) % 2 and not worker.kill_child():
                return False
            around.broker.client.flushall()
            return True

        strike_until_done(trial, strike)


@case(3, is_random=True)
def _killed_without_persistence(trial: Trial) -> None:
    """Redis without persistence killed at random instants, back after 1 s, and empty."""
    around = trial.around
    with around.workers():

        def strike() -> bool:
            around.broker.kill()
            last(1)
            around.broker.start()
            return True

        strike_until_done(trial, strike)


@case(4, quick=1)
def _delivered_twice(trial: Trial) -> None:
    """The same message four times in the queue of two workers."""
    around = trial.around
    with around.workers(2) as workers:
        for _ in range(min(trial.strikes, 5)):
            around.fresh(alpha=4_000)
            run = around.trigger_unheard()
            [(part,)] = around.query("SELECT id FROM ingestion_part WHERE run_id = %s", run)
            before = deliveries(workers)
            around.broker.client.lpush(QUEUE, *[message("worker.advance", body({"part": part}))] * 4)
            trial.runs += 1
            around.verdict(run)
            assert deliveries(workers) - before >= 4, "not every delivery arrived"
            assert around.epoch(run) == 1, "more than one delivery advanced the part"


def deliveries(workers: list[Worker]) -> int:
    """Return how many wake-ups the workers have received."""
    return sum(len(re.findall(r"worker.advance\[\S+\] received", worker.log)) for worker in workers)


@case(4, quick=1)
def _visibility_timeout(trial: Trial) -> None:
    """A visibility timeout that passes three times while the task runs."""
    around = trial.around
    with around.workers(2) as workers:
        around.fresh()
        run = trial.trigger()
        for records in (500, 3_000, 6_000):
            around.wait_for(run, records=records)
            assert not around.has_ended(run)
            around.broker.let_time_out()
        around.verdict(run)
        assert around.epoch(run) == 1, "more than one delivery advanced the part"
        assert deliveries(workers) >= 2, "nothing was delivered again"
        trial.notes.append(f"{deliveries(workers)} deliveries")


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@case(10, quick=1)
def _garbage(trial: Trial) -> None:
    """Garbage, a pickle, an unknown task, wrong and unknown arguments in the queue."""
    around = trial.around
    proof = around.folder / "unpickled"
    bad = [
        "garbage",
        json.dumps({"body": "no envelope"}),
        message("worker.advance", base64.b64encode(pickle.dumps(Touch(proof))), kind="application/x-python-serialize"),
        message("tests.unknown", body({})),
        message("worker.advance", body({"part": "no number"})),
        message("worker.advance", body({"no": "part"})),
        message("worker.advance", b"bm8gSlNPTg=="),
        message("worker.sync", body({"feed": "unknown"})),
    ]
    with around.workers() as [worker]:
        around.fresh(alpha=2_000)
        pid = worker.process.pid
        around.broker.client.lpush(QUEUE, *bad)
        wait_until(lambda: not around.broker.client.llen(QUEUE), what="the end of the garbage")
        run = trial.trigger()
        around.verdict(run)
        assert worker.process.poll() is None, "the worker ended"
        assert worker.process.pid == pid
        assert not proof.exists(), "the pickle was loaded"


def message(task: str, text: bytes, *, kind: str = "application/json") -> str:
    """Return a message as kombu writes it."""
    tag = str(uuid.uuid4())
    return json.dumps({
        "body": text.decode(), "content-encoding": "utf-8", "content-type": kind,
        "headers": {"lang": "py", "task": task, "id": tag, "root_id": tag, "argsrepr": "()", "kwargsrepr": "{}"},
        "properties": {
            "correlation_id": tag, "delivery_tag": tag, "body_encoding": "base64", "delivery_mode": 2, "priority": 0,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
        },
    })  # fmt: skip


def body(arguments: dict[str, Any]) -> bytes:
    return base64.b64encode(json.dumps([[], arguments, {}]).encode())
