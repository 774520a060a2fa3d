"""What the tests of the embedded servers see from outside: processes, holders of leases, the database."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg2
import pytest

from config import servers

ROOT = Path(__file__).resolve().parents[2]
# Elsewhere they cannot be carried out: nobody but root can start a process of another user.
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who can become another user")
DEADLINE_SECONDS = 90  # generous: the machine may be busy

HOLD = """
import sys
from pathlib import Path
from config import servers

lease = servers.ensure(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""


def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_SECONDS} s: {what}"
        time.sleep(0.02)


def processes_of(data_dir: Path) -> dict[int, str]:
    """Return every living process that belongs to the data directory: keeper, servers, and their helpers."""
    socket_dir = servers.addresses(data_dir).socket_dir
    homes = {path.resolve() for path in data_dir.glob("postgres-*")} | {(data_dir / "valkey").resolve()}
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended in the meantime
            command = (entry / "cmdline").read_text().replace("\0", " ")
            is_keeper = f" keep {data_dir} " in command
            if is_keeper or socket_dir in command or (entry / "cwd").readlink() in homes:
                found[int(entry.name)] = command
    found.pop(os.getpid(), None)
    return found


def pid_of(data_dir: Path, role: str) -> int:
    """Return the pid of the `keeper`, `postgres` (its first process) or `redis` of a data directory."""
    sign = {"keeper": f" keep {data_dir} ", "postgres": "/postgres -D", "redis": "unixsocket:"}[role]
    (pid,) = (pid for pid, command in processes_of(data_dir).items() if sign in command)
    return pid


def kill_all(data_dir: Path) -> None:
    """Kill -9 the keeper and every server at once."""
    for pid in processes_of(data_dir):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not processes_of(data_dir), "everything is dead")


def holder(data_dir: Path, script: str = HOLD) -> subprocess.Popen[str]:
    """Start a process that takes a lease, says so, and holds it until its stdin closes."""
    return subprocess.Popen(
        [sys.executable, "-c", script, str(data_dir)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def held(data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Hold a lease in another process; at the end it leaves as a program does."""
    with holder(data_dir) as process:
        is_ready(process)
        yield process
        if process.poll() is None:
            leave(process)


def is_ready(process: subprocess.Popen[str]) -> None:
    """Wait until the holder has its lease."""
    line = process.stdout.readline()
    assert line == "ready\n", line + process.stdout.read()


def leave(process: subprocess.Popen[str]) -> None:
    """Let the holder end by itself."""
    output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, output


def connect(where: servers.Addresses, **changes: object) -> psycopg2.extensions.connection:
    """Connect to the embedded database."""
    named = {name.lower(): value for name, value in where.database.items() if name != "ENGINE"}
    named["dbname"] = named.pop("name")
    return psycopg2.connect(**(named | changes))


def query(where: servers.Addresses, sql: str) -> object:
    """Run a statement in a transaction of its own and return its first value, if it has one."""
    connection = connect(where)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchone()[0] if cursor.description else None
    finally:
        connection.close()


def answers(where: servers.Addresses) -> bool:
    """Tell whether the database answers."""
    try:
        return query(where, "SELECT 1") == 1
    except psycopg2.OperationalError:
        return False
