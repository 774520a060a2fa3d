"""One measurement: the table brought into its state, the load run in a process of its own, what it stored checked."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from config.servers.processes import die_with_parent, size, tail
from tests.bench import shapes
from tests.bench.contenders import Contender, row_count
from tests.bench.loads import Job
from tests.bench.surroundings import ROOT, Surroundings

# Ten times what the slowest is expected to take.
LIMIT_SECONDS = 1_800


class ContenderFailed(Exception):
    """A contender ended with an error, or stored something else than it was given; the others go on."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One timed run. `seconds` is the load alone, `process_seconds` with the start of Python and all imports."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    process_seconds: float
    written: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


class Measurer:
    """Takes samples of contenders in the same surroundings. `peers_python` has what the peers need."""

    def __init__(self, around: Surroundings, *, peers_python: Path) -> None:
        self._around = around
        self._peers_python = peers_python
        self._checksums: dict[tuple[str, int, tuple[str, ...]], int] = {}
        self._checked: set[str] = set()
        self._feeds = around.feeds()

    def why_not(self, contender: Contender) -> str:
        """Say why a contender cannot take part; an empty string when it can."""
        if contender.is_engine and contender.option not in self._feeds:
            return "not yet: the engine cannot do this today"
        if contender.package:
            command = [self._peers_python, "-c", f"import {contender.package}"]
            if not self._peers_python.exists() or subprocess.run(command, capture_output=True, check=False).returncode:
                return f"skipped: {contender.package} is not installed for this platform"
        return ""

    def rows(self, contender: Contender) -> int:
        return row_count(contender, rows=self._around.rows, shape_rows=self._around.shape_rows)

    def sample(self, contender: Contender) -> Sample:
        """Measure once.

        Raises:
            ContenderFailed: it cannot be compared; the message says why.
        """
        job = self._job(contender)
        expected = self._expected(contender, job.rows)
        self._bring_about(contender, job)
        table = contender.shape.table
        database = self._around.database
        database.settle(table)
        with database.counted_writes(table) as written:
            measured, process_seconds = self._run(contender, job)
        self._check(contender, expected)
        return Sample(process_seconds=process_seconds, written=written, **measured)

    def _job(self, contender: Contender) -> Job:
        shape, rows = contender.shape, self.rows(contender)
        is_fetched = contender.source not in ("file", "JSON lines")
        prepare = self._around.json_lines if contender.source == "JSON lines" else self._around.file
        return Job(
            rows=rows,
            url=self._url(contender, rows) if is_fetched else "",
            database=self._around.database.parameters,
            table=shape.table,
            columns=shape.columns,
            file="" if is_fetched else prepare(shape, rows),
            scratch=str(self._around.scratch),
            option=contender.option,
        )

    def _url(self, contender: Contender, rows: int) -> str:
        if contender.source == "HTTP":
            return self._around.url(contender.shape, rows, delay_ms=contender.delay_ms)
        return self._around.remote("s3" if contender.source == "CSV, S3" else "web", rows)

    def _bring_about(self, contender: Contender, job: Job) -> None:
        database, table = self._around.database, contender.shape.table
        if contender.start in ("filled", "changed"):
            database.fill(contender.shape, self._around.file(contender.shape, job.rows))
        else:
            database.empty(table)
        if contender.start == "changed":
            database.change_one_percent(table)
        if contender.start == "ran":
            self._run(contender, job)

    def _run(self, contender: Contender, job: Job) -> tuple[dict[str, Any], float]:
        """Run the load in a new process; return its own measurement, and the seconds from start to end."""
        python = self._peers_python if contender.package else Path(sys.executable)
        base = job.url.removesuffix(contender.shape.path)
        environment = self._around.environment | {"PHOTOS_API_URL": base, "BENCH_API_URL": base}
        log = self._around.log
        log_start = size(log)
        started = time.perf_counter()
        with log.open("ab") as errors:
            process = subprocess.Popen(
                [python, "-m", "tests.bench.child", contender.load],
                cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 (one thread only)
            )  # fmt: skip
        try:
            output, _ = process.communicate(json.dumps(asdict(job)).encode(), timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            raise ContenderFailed(f"not done after {LIMIT_SECONDS} s") from None
        finally:
            _kill_group(process)
        seconds = time.perf_counter() - started
        if process.returncode:
            raise ContenderFailed(f"ended with status {process.returncode}:\n{tail(log, log_start, lines=8)}")
        return json.loads(output.splitlines()[-1]), seconds

    def _expected(self, contender: Contender, rows: int) -> tuple[int, int | None]:
        """Return how many rows are to be stored, and their checksum where it is to be compared.

        Reading all of a table takes longer than filling it: a contender is compared in full the first time only.
        """
        shape = contender.shape
        if shape is shapes.DIRTY:
            return sum(not shapes.is_bad(number) for number in range(1, rows + 1)), None
        if contender.name in self._checked:
            return rows, None
        self._checked.add(contender.name)
        key = (shape.path, rows, shape.columns)
        if key not in self._checksums:
            base = shapes.BASES[shape.path]
            self._around.database.fill(base, self._around.file(shape, rows))
            self._checksums[key] = self._around.database.contents(base.table, shape.columns)[1]
        return rows, self._checksums[key]

    def _check(self, contender: Contender, expected: tuple[int, int | None]) -> None:
        rows, checksum = expected
        shape, database = contender.shape, self._around.database
        stored = database.count(shape.table)
        if stored != rows:
            raise ContenderFailed(f"stored {stored:,} rows of {rows:,}")
        if checksum is not None and database.contents(shape.table, shape.columns)[1] != checksum:
            raise ContenderFailed("stored other contents than it was given")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End the process and whatever it started; it leads a group of its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
