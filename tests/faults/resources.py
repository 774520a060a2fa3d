"""Memory, descriptors and back-pressure, and code of two ages at once: faults 22 and 23."""

from pathlib import Path

from tests.faults.broker import QUEUE
from tests.faults.catalogue import Trial, case
from tests.faults.killing import CHUNK_PAGES, RECOVERY_SECONDS
from tests.faults.messages import body, message
from tests.faults.refusals import changed
from tests.faults.surroundings import until_gone
from tests.processes import wait_until

SLOW = (
    "CREATE FUNCTION faults_slow() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$;"
    "CREATE TRIGGER faults_slow AFTER INSERT ON faults_record FOR EACH STATEMENT EXECUTE FUNCTION faults_slow()"
)


@case(22)
def _memory(trial: Trial) -> None:
    """10,000 pages: memory and file descriptors of the pool child at page 1,000 and at the end."""
    around = trial.around
    with around.workers() as [worker]:
        around.fresh(alpha=1_000_000)
        around.serve(latency=0)
        run = trial.trigger()
        around.wait_for(run, records=100_000)
        [child] = worker.children()
        before = rss_mib(child), descriptors(child)
        found = [before[1]]

        def is_over() -> bool:
            found.append(descriptors(child))
            return around.has_ended(run)

        wait_until(is_over, seconds=600, what="the run's end")
        most = max(found)
        after = rss_mib(child)
        trial.notes.append(f"peak RSS {before[0]:.0f} and {after:.0f} MiB, descriptors {before[1]} and {most}")
        assert after - before[0] < 10, trial.notes
        assert most - before[1] <= 3, trial.notes
        around.verdict(run)


def rss_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@case(22)
def _slow_database(trial: Trial) -> None:
    """A database that takes 1 s for each chunk: what is read and not committed is never more than one."""
    around = trial.around
    with around.workers():
        around.fresh(alpha=4_000)
        around.serve(latency=0)
        with changed(around, SLOW, undo="DROP FUNCTION faults_slow() CASCADE"):
            run = trial.trigger()
            ahead: list[int] = []

            def is_over() -> bool:
                served = len(around.served())
                [(committed,)] = around.query("SELECT pages FROM ingestion_run WHERE id = %s", run)
                ahead.append(served - committed)
                return around.has_ended(run)

            wait_until(is_over, what="the run's end")
            trial.notes.append(f"at most {max(ahead)} pages ahead")
            assert max(ahead) <= CHUNK_PAGES, trial.notes
            around.verdict(run)


@case(1)
def _killed_with_all_read_ahead(trial: Trial) -> None:
    """Pool child killed three times at the end of a COPY of 1 s, when all that may be read ahead has been read."""
    around = trial.around
    with around.workers():
        around.fresh(alpha=4_000)
        around.serve(latency=0)
        with changed(around, SLOW, undo="DROP FUNCTION faults_slow() CASCADE"):
            run = trial.trigger()
            for _ in range(3):
                around.wait_for(run, records=around.read(run) + 1)
                until_gone(around.arm("copied"))
                trial.recovered.append(around.recovery_seconds(run))
            around.verdict(run)
    trial.fetched_again += around.fetched_again()
    # Three pages of the transaction and one that waits; with its text there is not room for a fifth.
    assert max(trial.fetched_again) == CHUNK_PAGES - 1, trial.fetched_again
    assert max(trial.recovered) < RECOVERY_SECONDS


@case(23)
def _newer_messages(trial: Trial) -> None:
    """Messages of newer code, with arguments that this code does not know, and of a task that it does not have."""
    around = trial.around
    with around.workers() as [worker]:
        around.fresh(alpha=2_000)
        run = around.trigger_unheard()
        trial.runs += 1
        [(part,)] = around.query("SELECT id FROM ingestion_part WHERE run_id = %s", run)
        newer = {"part": part, "colour": "blue", "depth": {"of": 3}}
        around.broker.client.lpush(
            QUEUE, message("worker.of_tomorrow", body({})), message("worker.advance", body(newer))
        )
        around.verdict(run)
        wait_until(lambda: "worker.of_tomorrow" in worker.log, what="the unknown task")
        assert worker.process.poll() is None, "the worker ended"
        assert around.epoch(run) == 1, "not the message with unknown arguments advanced it"
