"""Memory and disks that end: the kernel's OOM killer, and full disks for temporary files. Faults 2 and 22."""

import contextlib
import os
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tests.faults import records
from tests.faults.catalogue import NotHere, Trial, case
from tests.faults.databases import WORKERS
from tests.faults.killing import PLACES, error_of, strike_until_done
from tests.faults.refusals import changed, mounted
from tests.faults.surroundings import Surroundings
from tests.processes import wait_until

# A worker with its pool child has about 150 MiB; a child that swells by more than the rest is killed.
LIMIT_MIB, SWELL_MIB = 400, 600
CGROUPS = Path("/sys/fs/cgroup")


class MemoryGroup:
    """A control group of its own whose processes may have so much memory, and no swap."""

    def __init__(self, name: str, limit_mib: int) -> None:
        # Version 1 has a tree for memory; version 2 has one for all, where the root has to hand memory on.
        self._is_v1 = (CGROUPS / "memory" / "memory.limit_in_bytes").exists()
        self.path = (CGROUPS / "memory" if self._is_v1 else CGROUPS) / name
        try:
            self.path.mkdir()
            self._limit(limit_mib * 1024 * 1024)
        except OSError as error:
            with contextlib.suppress(OSError):
                self.path.rmdir()
            raise NotHere(f"takes a control group for memory that may be written: {error}") from None

    def _limit(self, size_bytes: int) -> None:
        (self.path / ("memory.limit_in_bytes" if self._is_v1 else "memory.max")).write_text(str(size_bytes))
        with contextlib.suppress(FileNotFoundError):  # a kernel without an account of swap
            swap = ("memory.memsw.limit_in_bytes", str(size_bytes)) if self._is_v1 else ("memory.swap.max", "0")
            self.path.joinpath(swap[0]).write_text(swap[1])

    @property
    def wrapper(self) -> tuple[str, ...]:
        """What starts a program in the group."""
        return ("sh", "-c", f'echo $$ > {self.path}/cgroup.procs && exec "$@"', "sh")

    def kills(self) -> int:
        """Return how often the kernel has killed in the group."""
        counts = (self.path / ("memory.oom_control" if self._is_v1 else "memory.events")).read_text()
        return int(dict(line.split() for line in counts.splitlines())["oom_kill"])

    def close(self) -> None:
        def is_removed() -> bool:
            with contextlib.suppress(OSError):  # the last process is still leaving it
                self.path.rmdir()
            return not self.path.exists()

        wait_until(is_removed, seconds=10, what="the end of the control group")


@contextlib.contextmanager
def memory_group(limit_mib: int) -> Iterator[MemoryGroup]:
    group = MemoryGroup(f"faults-{os.getpid()}-{random.randrange(10**6)}", limit_mib)
    try:
        yield group
    finally:
        group.close()


@case(2, is_random=True)
def _out_of_memory(trial: Trial) -> None:
    """The kernel kills a pool child that swells at a random point beyond the memory of its worker's control group."""
    around = trial.around
    with memory_group(LIMIT_MIB) as group:
        worker = around.worker(wrapper=group.wrapper)
        try:
            worker.wait_until_ready()

            def strike() -> bool:
                before = group.kills()
                point = around.arm(trial.chance.choice(PLACES), f"swell {SWELL_MIB}")
                [(run,)] = around.query("SELECT max(id) FROM ingestion_run")
                wait_until(lambda: not point.exists() or around.has_ended(run), what="the point, or the run's end")
                if point.exists():
                    point.unlink()
                    return False
                wait_until(lambda: group.kills() > before, what="the kernel's kill")
                return True

            strike_until_done(trial, strike)
            trial.notes.append(f"{group.kills()} kills by the kernel")
            assert group.kills() >= trial.strikes
            assert worker.process.poll() is None, "the worker ended with its child"
        finally:
            worker.kill()


@case(22)
def _temporary_disk_full(trial: Trial) -> None:
    """The worker's disk for temporary files is full: the run fails and says so; with another one it succeeds."""
    around = trial.around
    folder, disk = around.folder / "archives", around.folder / "tmp"
    folder.mkdir()
    total = 10_000
    zipped(folder / "zipped.ndjson.zip", total)
    with mounted(disk, "128k"):
        around.fresh(zipped=total)
        with short_worker(around, TMPDIR=str(disk), UNRULY_FOLDER=str(folder)):
            run = trial.trigger("zipped")
            wait_until(lambda: around.has_ended(run), what="the failure")
            error = error_of(around, run)
            trial.notes.append(error)
            assert around.state(run) == "failed"
            assert "disk_full" in error, error
            assert str(disk) in error, error
            left = sum(path.stat().st_size for path in disk.rglob("*"))
            assert left < 16 * 1024, f"{left} bytes are left of the copy"
    with short_worker(around, UNRULY_FOLDER=str(folder)):
        around.stack.manage("resume", str(run), UNRULY_FOLDER=str(folder))
        around.verdict(run)


def zipped(path: Path, total: int) -> None:
    """Write what the source has, stored and not compressed: the archive is as big as its content."""
    lines = b"".join(records.text("zipped", number) + b"\n" for number in range(1, total + 1))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("zipped.ndjson", lines)


@contextlib.contextmanager
def short_worker(around: Surroundings, **environment: str) -> Iterator[None]:
    worker = around.worker(**environment)
    try:
        worker.wait_until_ready()
        yield
    finally:
        worker.kill()


@case(22)
def _database_temporary_disk_full(trial: Trial) -> None:
    """The database's disk for temporary tables is full: the run fails clearly, and resumed with room it succeeds."""
    around = trial.around
    disk = around.folder / "spill"
    # Less than a page of records takes.
    with mounted(disk, "16k"):
        around.fresh()
        with around.workers():
            # A chunk is staged in a temporary table when the target has some of its keys.
            around.verdict(trial.trigger())
        around.query("UPDATE faults_record SET payload = 'another'")
        around.query(f"CREATE TABLESPACE faults_spill LOCATION '{disk}'")
        spill = "ALTER DATABASE ingestion SET temp_tablespaces = 'faults_spill'"
        try:
            with changed(around, spill, undo="ALTER DATABASE ingestion RESET temp_tablespaces"), around.workers():
                run = trial.trigger()
                wait_until(lambda: around.has_ended(run), what="the failure")
                trial.notes.append(error_of(around, run))
                assert around.state(run) == "failed"
                assert "53100" in trial.notes[-1], trial.notes
            with around.workers():
                around.stack.manage("resume", str(run))
                around.verdict(run)
        finally:
            drop_tablespace(around, "faults_spill")


def drop_tablespace(around: Surroundings, name: str) -> None:
    """Drop it once the sessions that have temporary tables there have ended."""
    wait_until(lambda: not around.query(WORKERS), seconds=20, what="the end of the workers' sessions")
    around.query(f"DROP TABLESPACE {name}")
