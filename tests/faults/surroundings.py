"""Everything a fault needs: PostgreSQL, a broker, the fake source, proxies before each of them, and workers."""

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import celery
import psycopg2

from config import servers
from tests.faults import oracle
from tests.faults.broker import QUEUE, Broker
from tests.faults.proxy import Proxy
from tests.faults.source import Ways
from tests.processes import Stack, wait_until

# A run of this many records takes about three seconds with this latency per page of 100: time to be killed in.
RECORDS = 10_000
LATENCY = 0.03


class Surroundings:
    """The servers and processes. The tests themselves go straight to the servers; workers go through the proxies."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.points = folder / "points"
        self.points.mkdir(exist_ok=True)
        data_dir = folder / "data"
        self._address = servers.addresses(data_dir)
        self.broker = Broker(folder)
        self.to_database = Proxy(f"{self._address.socket_dir}/.s.PGSQL.5432")
        self.to_broker = Proxy(self.broker.port)
        self.stack = Stack(
            data_dir,
            DATABASE_URL=f"postgres://ingestion:{self._address.password}@127.0.0.1:{self.to_database.port}/ingestion",
            REDIS_URL=f"redis://127.0.0.1:{self.to_broker.port}/0",
            SECRET_KEY="of-tests", ALLOWED_HOSTS="localhost", HTTPS="off", ALLOWED_PRIVATE_HOSTS="127.0.0.1",
            EXTRA_APPS="tests.faults.app", FAULT_POINTS=str(self.points),
        )  # fmt: skip
        try:
            self._start_source()
        except BaseException:
            self.stack.close()
            raise
        self._app = celery.Celery(broker=f"redis://127.0.0.1:{self.broker.port}/0")
        self._app.conf.task_default_queue = QUEUE
        self._connection: Any = None
        self._workers = 0
        self.totals = {"alpha": RECORDS, "beta": RECORDS}
        # Feeds whose run begins its file again, as another version of it is there: it reads more than there is.
        self.again: set[str] = set()

    def close(self, *, keep: bool = False) -> None:
        """Stop everything; with `keep` the output of the processes stays."""
        for proxy in (self.to_database, self.to_broker, self.to_source):
            proxy.thaw()
        self._app.close()
        if self._connection is not None:
            self._connection.close()
        logs = {path: path.read_bytes() for path in self.stack.data_dir.glob("*.log")} if keep else {}
        self.stack.close()
        self.stack.data_dir.mkdir(exist_ok=True)
        for path, text in logs.items():
            path.write_bytes(text)
        for proxy in (self.to_database, self.to_broker, self.to_source):
            proxy.close()
        self.broker.close()

    def _start_source(self) -> None:
        self.pages = self.folder / "pages.log"
        self.stack.start("source", "tests.faults.source", "--log", str(self.pages))
        wait_until(lambda: "http://" in self.stack.text("source"), what="the source's start")
        self._source_url = self.stack.text("source").split("listening on ")[1].split()[0]
        self.to_source = Proxy(int(self._source_url.rsplit(":", 1)[1]))
        self.stack.environment["FAULTS_API_URL"] = f"http://127.0.0.1:{self.to_source.port}"

    # The source

    def serve(self, *, latency: float = LATENCY, **ways: Any) -> None:
        """Tell the source how to behave from now on."""
        body = json.dumps(asdict(Ways(totals=self.totals, latency=latency)) | ways).encode()
        urllib.request.urlopen(urllib.request.Request(f"{self._source_url}/control", data=body), timeout=10).close()

    def served(self, source: str = "alpha") -> list[dict[str, Any]]:
        """Return the pages that the source has served, in order."""
        noted = [json.loads(line) for line in self.pages.read_text().splitlines()]
        return [page for page in noted if page["source"] == source and page["status"] == 200]

    def fetched_again(self, source: str = "alpha") -> list[int]:
        """Return how many pages came a second time wherever an earlier page followed a later one."""
        pages = [int(page["page"]) for page in self.served(source)]
        return [last - page + 1 for last, page in itertools.pairwise(pages) if page <= last]

    # PostgreSQL

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query, straight from the server; waits for one that restarts."""
        while True:
            if self._connection is None or self._connection.closed:
                self._connection = self.connect()
            try:
                with self._connection.cursor() as cursor:
                    cursor.execute(sql, values or None)
                    return cursor.fetchall() if cursor.description else []
            except psycopg2.Error as error:
                # Without a code it was not the server that refused.
                if error.pgcode and not self._connection.closed:
                    raise
                self._connection.close()

    def connect(self) -> Any:
        """Return a connection of its own; waits for a server that restarts."""

        def attempt() -> Any:
            try:
                return self.connect_once()
            except psycopg2.OperationalError:
                # Stopped too often in a minute it is left alone, until somebody asks for it again.
                servers.ensure(self.stack.data_dir)
                return None

        connection = wait_until(attempt, what="the database")
        connection.autocommit = True
        return connection

    def connect_once(self) -> Any:
        database = self._address.database
        return psycopg2.connect(
            dbname=database["NAME"], user=database["USER"], password=database["PASSWORD"],
            host=database["HOST"], port=database["PORT"],
        )  # fmt: skip

    def postmaster(self) -> int:
        # Beside it may be a link to programs that root has copied for another user.
        [path] = self.stack.data_dir.glob("postgres-[0-9]*")
        return int((path / "postmaster.pid").read_text().split("\n", 1)[0])

    def stop_database_at_once(self) -> None:
        """Do what `pg_ctl stop -m immediate` does; the keeper of the embedded servers starts it again."""
        os.kill(self.postmaster(), signal.SIGQUIT)

    # Runs

    def fresh(self, **totals: int) -> None:
        """Forget all runs, rows and messages, when nothing is active."""
        self.totals = {"alpha": RECORDS, "beta": RECORDS} | totals
        self.serve()
        for point in self.points.iterdir():
            point.unlink()
        self.pages.write_text("")
        self.query("TRUNCATE faults_record, faults_replaced, faults_numbered")
        self.query("TRUNCATE ingestion_run, ingestion_part, ingestion_reject CASCADE")
        self.broker.client.flushall()

    def trigger(self, feed: str = "alpha") -> int:
        """Send what beat sends, and return the run once it exists."""
        [(before,)] = self.query("SELECT coalesce(max(id), 0) FROM ingestion_run")
        self.send("worker.sync", feed=feed)
        newest = "SELECT id FROM ingestion_run WHERE id > %s ORDER BY id"
        [(run,), *_] = wait_until(lambda: self.query(newest, before), what=f"the run of {feed}")
        return int(run)

    def trigger_unheard(self) -> int:
        """Ask for a run by a command whose message nobody gets: it goes to a database of Redis without readers."""
        elsewhere = f"redis://127.0.0.1:{self.broker.port}/1"
        return int(self.stack.summary("trigger", "alpha", "--json", REDIS_URL=elsewhere)["run"])

    def send(self, task: str, **arguments: Any) -> None:
        self._app.send_task(task, kwargs=arguments)

    def epoch(self, run: int) -> int:
        """Return how often the run's only part was taken over."""
        [(epoch,)] = self.query("SELECT epoch FROM ingestion_part WHERE run_id = %s", run)
        return int(epoch)

    def state(self, run: int) -> str:
        [(state,)] = self.query("SELECT state FROM ingestion_run WHERE id = %s", run)
        return str(state)

    def read(self, run: int) -> int:
        [(read,)] = self.query("SELECT read FROM ingestion_run WHERE id = %s", run)
        return int(read)

    def has_ended(self, run: int) -> bool:
        return bool(self.query("SELECT 1 FROM ingestion_run WHERE id = %s AND finished_at IS NOT NULL", run))

    def wait_for(self, run: int, *, records: int = 1) -> None:
        """Wait until the run has committed this many records, or has ended."""
        wait_until(lambda: self.has_ended(run) or self.read(run) >= records, what=f"{records} records")

    def recovery_seconds(self, run: int, *, seconds: float = 60) -> float:
        """Wait until the run has committed more than it has now, or has ended; return how long that took."""
        began, before = time.monotonic(), self.read(run)
        wait_until(
            lambda: self.has_ended(run) or self.read(run) > before, seconds=seconds, what="the run's next commit"
        )
        return time.monotonic() - began

    def verdict(self, *runs: int, seconds: float = 60, state: str = "succeeded") -> None:
        """Wait until the runs have ended and all is quiet, and ask the oracle."""
        wait_until(lambda: all(map(self.has_ended, runs)), seconds=seconds, what="the end of the runs")
        for run in runs:
            [(ended, error)] = self.query("SELECT state, error FROM ingestion_run WHERE id = %s", run)
            assert ended == state, f"run {run} ended {ended}: {error}"
        oracle.ask(self)

    # Processes

    def arm(self, point: str, action: str = "kill") -> Path:
        """Let the next process that comes to the point do this; the file is gone once one has."""
        path = self.points / point
        # Whole or not at all: a process may look at any time.
        (self.points / f".{point}").write_text(action)
        (self.points / f".{point}").rename(path)
        return path

    def worker(self, *options: str, wrapper: tuple[str, ...] = (), **environment: str) -> "Worker":
        self._workers += 1
        name = f"worker-{self._workers}"
        return Worker(self, name, options, wrapper, environment)

    @contextlib.contextmanager
    def workers(self, count: int = 1) -> Iterator[list["Worker"]]:
        """Give workers that run, and kill those that are left in the end."""
        started = [self.worker() for _ in range(count)]
        try:
            for worker in started:
                worker.wait_until_ready()
            yield started
        finally:
            for worker in started:
                worker.kill()


class Worker:
    """One `celery worker` with one pool child, and its output."""

    def __init__(
        self, around: Surroundings, name: str, options: tuple[str, ...], wrapper: tuple[str, ...], env: dict[str, str]
    ) -> None:
        self.around, self.name = around, name
        command = ("celery", "-A", "config", "worker", "-c", "1", "-l", "INFO", "-n", f"{name}@%h", *options)
        self._arguments = (name, command, wrapper, env)
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        name, command, wrapper, env = self._arguments
        self._readies = self.log.count(" ready.")
        return self.around.stack.start(name, *command, wrapper=wrapper, **env)

    @property
    def log(self) -> str:
        return self.around.stack.text(self.name)

    def wait_until_ready(self) -> None:
        wait_until(lambda: self.log.count(" ready.") > self._readies, what=f"the start of {self.name}")

    def restart(self) -> None:
        """Start it again after it was killed, as a supervisor would."""
        self.process = self._start()

    def kill(self) -> None:
        """Kill -9 the whole group at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(child) for child in path.read_text().split()]

    def kill_child(self) -> bool:
        """Kill -9 the pool's child; False when it is just being replaced."""
        return signal_all(self.children(), signal.SIGKILL)


def signal_all(pids: list[int], number: signal.Signals) -> bool:
    sent = False
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            sent = True
    return sent


def last(seconds: float) -> None:
    """Let what was done last so long: the time itself is the fault, and there is nothing to poll for."""
    time.sleep(max(0, seconds))


def until_gone(path: Path, *, seconds: float = 30) -> None:
    """Wait until the armed point was reached."""
    wait_until(lambda: not path.exists(), seconds=seconds, what=f"a process at the point {path.name}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
