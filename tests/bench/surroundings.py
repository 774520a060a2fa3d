"""What the contenders meet: one embedded PostgreSQL, the APIs on loopback, and prepared files."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config import servers
from config.servers.processes import launch, stop, tail
from tests.bench import shapes
from tests.bench.database import Database
from tests.bench.shapes import PAGE_RECORDS, Shape

ROOT = Path(__file__).resolve().parents[2]
API_SECONDS = 60
# What is asked of an API to keep in memory: its usual size, and for more rows what they take (250 bytes each).
API_CACHE_MB = 256
PHOTOS_PER_MB = 4_000
# The benchmark's own collections together: up to 2 kB a record.
OWN_CACHE_MB = 2_048


class Surroundings:
    """Servers and files of one run of the benchmark, in a directory of their own."""

    def __init__(self, directory: Path, *, rows: int, shape_rows: int) -> None:
        self.directory = directory
        self.rows = rows
        self.shape_rows = shape_rows
        self.totals = {shape.path: shape_rows for shape in shapes.OWN} | {shapes.DIRTY.path: rows}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._apis: dict[str, str] = {}
        self._warmed: set[str] = set()
        self._files: dict[tuple[str, int], str] = {}
        addresses = servers.addresses(directory)
        self.database = Database(
            {
                "host": addresses.socket_dir,
                "port": addresses.database["PORT"],
                "user": addresses.database["USER"],
                "password": addresses.password,
                "dbname": addresses.database["NAME"],
            }
        )
        self.scratch = directory / "scratch"
        self.scratch.mkdir(exist_ok=True)
        self.log = directory / "logs/bench.log"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every process: the embedded database, nothing of the caller's configuration."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        return kept | {
            "DATA_DIR": str(self.directory),
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "EXTRA_APPS": "tests.bench.app",
            "PYTHONPATH": str(ROOT),
            # Set, so that neither a .env file nor the embedded broker is used; nobody connects to it.
            "DATABASE_URL": "",
            "REDIS_URL": "redis://127.0.0.1:1/0",
            # Some peers look for news of themselves: a port on which nothing listens answers them at once.
            "HTTP_PROXY": "http://127.0.0.1:1",
            "HTTPS_PROXY": "http://127.0.0.1:1",
            "NO_PROXY": "127.0.0.1",
            # So that the photos make two parts.
            "BENCH_RANGE_PAGES": str(max(1, self.rows // PAGE_RECORDS // 2)),
        }

    def manage(self, *arguments: str) -> str:
        """Run a management command and return its output."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"manage.py {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def create_tables(self) -> None:
        self.manage("migrate", "--run-syncdb", "-v0")
        self.manage("shell", "-v0", "-c", "from photos.article import create_table; create_table()")

    def feeds(self) -> set[str]:
        """Return the names of the feeds that the engine can declare today."""
        return {json.loads(line)["feed"] for line in self.manage("feeds", "--json").splitlines()}

    def url(self, shape: Shape, rows: int, *, delay_ms: int = 0) -> str:
        """Return the URL of a collection of so many records, all of it in its server's memory."""
        if shape.path == shapes.PHOTOS.path:
            cache_mb = max(API_CACHE_MB, rows // PHOTOS_PER_MB)
            name = f"api-{rows}-{delay_ms}"
            options = ["photos.sample_api", "--port", "0", "--photos", str(rows), "--delay-ms", str(delay_ms)]
        else:
            cache_mb = OWN_CACHE_MB
            name, options = "api-own", ["tests.bench.api", "--totals", json.dumps(self.totals)]
        if name not in self._apis:
            self._apis[name] = self._start(name, [*options, "--cache-mb", str(cache_mb)])
        url = self._apis[name] + shape.path
        if url not in self._warmed:
            self._warm(url, rows)
            self._warmed.add(url)
        return url

    def remote(self, kind: str, rows: int) -> str:
        """Return the URL of a server of another kind: see `tests.bench.remotes`."""
        name = f"{kind}-{rows}"
        if name not in self._apis:
            self._apis[name] = self._start(name, ["tests.bench.remotes", kind, "--rows", str(rows)])
        return self._apis[name]

    def _start(self, name: str, arguments: list[str]) -> str:
        log = self.directory / f"logs/{name}.log"
        command = [sys.executable, "-m", *arguments]
        process = launch(command, log=log, env=self.environment, last_signal=signal.SIGKILL, cwd=ROOT)
        self._processes.append(process)
        deadline = time.monotonic() + API_SECONDS
        while not (found := re.search(r"http://\S+", tail(log))):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"{name} did not start:\n{tail(log)}")
            time.sleep(0.02)
        return found[0]

    def _warm(self, url: str, rows: int) -> None:
        """Fetch every page once, so that none is written while somebody is measured."""
        host, _, path = url.removeprefix("http://").partition("/")
        connection = http.client.HTTPConnection(host)
        for page in range(1, -(-rows // PAGE_RECORDS) + 1):
            connection.request("GET", f"/{path}?_page={page}&_limit={PAGE_RECORDS}")
            connection.getresponse().read()
        connection.close()

    def file(self, shape: Shape, rows: int) -> str:
        """Return the path of a file with the rows of a shape as COPY text, which the server can read."""
        key = (shape.path, rows)
        if key not in self._files:
            self._files[key] = self.database.prepare_file(shapes.BASES[shape.path], rows)
        return self._files[key]

    def json_lines(self, shape: Shape, rows: int) -> str:
        """Return the path of a file with one JSON object a line."""
        path = self.scratch / f"{shape.path.strip('/')}-{rows}.jsonl"
        if not path.exists():
            with path.open("w") as file:
                file.writelines(shape.json_lines(rows))
        return str(path)

    def close(self) -> None:
        for process in self._processes:
            stop(process, ((signal.SIGTERM, 5),))
        self.database.close()


class BenchError(Exception):
    """The benchmark cannot go on; the message says why."""


@contextmanager
def surroundings(directory: Path, *, rows: int, shape_rows: int, keep: bool) -> Iterator[Surroundings]:
    """Start a fresh server in the directory, and remove both in the end unless told to keep the directory.

    Raises:
        ServerError: PostgreSQL cannot be started, or the directory is in use by another run.
    """
    servers.discard(directory)
    lease = servers.ensure(directory, redis=False)
    try:
        around = Surroundings(directory, rows=rows, shape_rows=shape_rows)
        try:
            around.create_tables()
            yield around
        finally:
            around.close()
    finally:
        lease.release()
        if not keep:
            servers.discard(directory)
