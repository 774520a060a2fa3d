"""Leases on the embedded servers: what a process holds while it needs them."""

import atexit
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .addresses import Addresses, addresses
from .errors import ServerError
from .processes import launch, tail

LOCK = "keeper.lock"  # in the data directory, held by the keeper while it lives
ANOTHER_KEEPER = 3  # a keeper's exit status: another one has the lock, ask that one
STAYS = b"stays\n"  # what the keeper says to a lease that was not the last one
START_SECONDS = 180  # above the keeper's own limits for both servers together
STOP_SECONDS = 60
RETRY_SECONDS = 0.05
SPAWNS = 3  # so many keepers may fail before the caller is told

_held: dict[Path, "Lease"] = {}


class Lease:
    """A process's claim on running servers. See Note [Leases are connections] in the keeper."""

    def __init__(self, connection: socket.socket, keeper: subprocess.Popen[bytes] | None) -> None:
        self._connection = connection
        self._keeper = keeper  # where this process started it, to reap it
        self._owner = os.getpid()

    def fileno(self) -> int:
        """Return the connection's descriptor: it becomes readable when the keeper is gone."""
        return self._connection.fileno()

    def is_held(self) -> bool:
        """Tell whether the keeper still runs for this process (not for the one it was forked from)."""
        if self._owner != os.getpid() or self._connection.fileno() < 0:
            return False
        readable, _, _ = select.select([self._connection], [], [], 0)  # the keeper speaks only when asked or gone
        return not readable

    def want(self, wanted: frozenset[str], deadline: float) -> bool:
        """Ask for servers and wait until they answer. False when the keeper ended without an answer.

        Raises:
            ServerError: a server cannot start, or not in time.
        """
        try:
            self._connection.sendall(json.dumps({"want": sorted(wanted)}).encode() + b"\n")
            self._connection.settimeout(max(0.1, deadline - time.monotonic()))
            with self._connection.makefile() as lines:
                answer = lines.readline()
        except TimeoutError:
            raise ServerError(
                f"The embedded servers did not start within {START_SECONDS} s; see logs/ in the data directory."
            ) from None
        except OSError:
            return False
        if not answer.endswith("\n"):
            return False
        if error := json.loads(answer)["error"]:
            raise ServerError(error)
        return True

    def failed(self) -> bool:
        """Tell, of a lost lease, whether the keeper started for it failed; finding another one is no failure."""
        self._connection.close()
        return self._keeper is not None and self._keeper.wait(STOP_SECONDS) not in (0, ANOTHER_KEEPER)

    def release(self) -> None:
        """Give the lease back. The last one waits until the servers have stopped and the keeper is gone."""
        if self._owner == os.getpid() and self._connection.fileno() >= 0:
            heard = b""
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_WR)
                self._connection.settimeout(STOP_SECONDS)
                while more := self._connection.recv(4096):  # perhaps the answer to an interrupted request first
                    heard += more
            if self._keeper and not heard.endswith(STAYS):
                self._keeper.wait(STOP_SECONDS)
        self._connection.close()


def ensure(data_dir: Path, *, postgres: bool = True, redis: bool = True) -> Lease:
    """Make sure the wanted servers run, and hold them for this process until it ends or releases the lease.

    Asking again returns the same lease, or a new one where the old was lost: by a fork or by the keeper's death.

    Raises:
        ServerError: a server cannot start; the message holds the end of its log.
    """
    data_dir = data_dir.resolve()
    wanted = frozenset(name for name, is_wanted in (("postgres", postgres), ("redis", redis)) if is_wanted)
    deadline = time.monotonic() + START_SECONDS
    held = _held.get(data_dir)
    if held and held.is_held() and held.want(wanted, deadline):
        return held
    if held:
        held.release()
    return _take(data_dir, addresses(data_dir), wanted, deadline)


def is_kept(data_dir: Path) -> bool:
    """Tell whether a keeper lives, starting or stopping included."""
    with (data_dir / LOCK).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _take(data_dir: Path, where: Addresses, wanted: frozenset[str], deadline: float) -> Lease:
    """Get a lease from the living keeper, or start one; try again while one stops."""
    failures = 0
    while time.monotonic() < deadline:
        lease = _connect(where)
        if not lease and not is_kept(data_dir):
            with _uninterrupted():
                lease = _remember(data_dir, _spawn(data_dir))
        if lease:
            try:
                if lease.want(wanted, deadline):
                    return _remember(data_dir, lease)
            except BaseException:  # a Ctrl-C too must not leave the keeper it has started
                lease.release()
                raise
            failures += lease.failed()
            if failures >= SPAWNS:
                log = tail(data_dir / "logs/keeper.log")
                raise ServerError(f"The process that keeps the embedded servers ended early:\n{log}")
        time.sleep(RETRY_SECONDS)
    raise ServerError(
        f"The keeper of the embedded servers neither answers nor ends within {START_SECONDS} s. "
        f"See {data_dir / 'logs/keeper.log'}; the process that locks {data_dir / LOCK} is the one to stop."
    )


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put off Ctrl-C until the keeper is known to `_release_all`; the keeper clears the mask it inherits."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _remember(data_dir: Path, lease: Lease) -> Lease:
    if not _held:
        atexit.register(_release_all)
    _held[data_dir] = lease
    return lease


def _connect(where: Addresses) -> Lease | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(where.keeper_socket)
    except OSError:  # there is no keeper, or it is just starting or stopping
        connection.close()
        return None
    return Lease(connection, None)


def _spawn(data_dir: Path) -> Lease:
    """Start a keeper whose first lease is ours from the beginning: it ends with us, however early we die."""
    package = __package__ or ""
    root = Path(__file__).parents[package.count(".") + 1]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    ours, theirs = socket.socketpair()
    with theirs:
        keeper = launch(
            [sys.executable, "-m", package, "keep", data_dir, str(theirs.fileno())],
            log=data_dir / "logs/keeper.log",
            env=variables | {"PYTHONPATH": str(root)},
            pass_fds=[theirs.fileno()],
        )
    return Lease(ours, keeper)


def _release_all() -> None:
    for lease in _held.values():
        lease.release()
