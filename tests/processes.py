"""Processes of the project on servers of their own: what an operator starts, started by a test."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2

from config import servers
from tests.config import server_processes

ROOT = Path(__file__).resolve().parent.parent


def wait_until(condition: Callable[[], Any], *, seconds: float = 60, what: str = "the condition") -> Any:
    """Poll until the condition holds and return its value; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
        time.sleep(0.05)
    return value


def end_in_order() -> None:
    """Let SIGTERM and SIGHUP end this program as Ctrl-C does; what comes later does not cut its cleaning up short."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(number: int, frame: object) -> None:
        for each in numbers:
            # Not SIG_IGN, which the processes that are started meanwhile would inherit.
            signal.signal(each, lambda number, frame: None)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, interrupt)


def processes_of(data_dir: Path) -> dict[int, str]:
    """Return every process that was started for this data directory, told by its environment or what it works on."""
    found = server_processes.processes_of(data_dir)
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended in the meantime
            if f"DATA_DIR={data_dir}\0" in (entry / "environ").read_text(errors="replace") + "\0":
                found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
    found.pop(os.getpid(), None)
    return {pid: command for pid, command in found.items() if command}  # a zombie has none


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Stack:
    """Embedded servers with a migrated database in `data_dir`, and processes started against them."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.data_dir = data_dir
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.environment = inherited | {"DATA_DIR": str(data_dir)} | environment
        self._lease = servers.ensure(data_dir)
        self._started: list[subprocess.Popen[bytes]] = []
        try:
            self.manage("migrate", "-v0")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for process in reversed(self._started):
            self.stop(process)
        self._lease.release()
        # As root the cluster may lie outside of the data directory.
        servers.discard(self.data_dir)

    def manage(self, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a management command to its end."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=self.environment | environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def summary(self, *arguments: str, check: bool = True, **environment: str) -> dict[str, Any]:
        """Run a management command and return the JSON object of its last line."""
        summary: dict[str, Any] = json.loads(
            self.manage(*arguments, check=check, **environment).stdout.splitlines()[-1]
        )
        return summary

    def start(
        self, name: str, *command: str, wrapper: tuple[str, ...] = (), **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start a process in a group of its own; its output goes to `<name>.log` in the data directory.

        `wrapper` is a program with its arguments that is given the process' command.
        """
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                [*wrapper, sys.executable, "-m", *command],
                cwd=ROOT, env=self.environment | environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._started.append(process)
        return process

    def start_worker(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a Celery worker and wait until it takes messages."""
        before = self.text("worker").count(" ready.")
        process = self.start(
            "worker", "celery", "-A", "config", "worker", "-c", "1", "-l", "INFO", *options, **environment
        )
        wait_until(lambda: self.text("worker").count(" ready.") > before, what="the worker's start")
        return process

    def start_api(self, photos: int = 5000) -> str:
        """Start the sample API on a free port and return its URL."""
        name = f"api-{photos}"
        self.start(name, "photos.sample_api", "--port", "0", "--photos", str(photos))
        wait_until(lambda: "http://" in self.text(name), what="the sample API's start")
        return self.text(name).split("http://")[1].split()[0].join(("http://", ""))

    def stop(self, process: subprocess.Popen[bytes], *, kill: bool = False) -> None:
        """Stop a process and what it started; with `kill` at once and without a warning."""
        with contextlib.suppress(ProcessLookupError):
            if not kill:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(20)
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def log(self, name: str) -> Path:
        return self.data_dir / f"{name}.log"

    def text(self, name: str) -> str:
        return self.log(name).read_text(errors="replace") if self.log(name).exists() else ""

    def query(self, sql: str, *, commit: bool = False) -> list[tuple[Any, ...]]:
        """Return the rows of a query, each in a connection of its own; what it changes is kept with `commit`."""
        database = servers.addresses(self.data_dir).database
        connection = psycopg2.connect(
            dbname=database["NAME"], user=database["USER"], password=database["PASSWORD"],
            host=database["HOST"], port=database["PORT"] or None,
        )  # fmt: skip
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute(sql)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            if commit:
                connection.commit()
            return rows


@contextlib.contextmanager
def running_stack(data_dir: Path, **environment: str) -> Iterator[Stack]:
    """Give a Stack and stop everything it started."""
    stack = Stack(data_dir, **environment)
    try:
        yield stack
    finally:
        stack.close()
