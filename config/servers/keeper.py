"""The keeper: a process that runs the servers for as long as somebody holds a lease.

# Note [Leases are connections]
A lease is an open connection to the keeper's socket. The kernel closes it when its holder ends, even by kill -9, and a
forked child that still needs the servers keeps it open. Whoever releases the last lease sees its connection close
only when the keeper has ended, so that waiting for that is waiting until no process is left. Somebody who comes while
the keeper stops finds no socket, or a connection closed without an answer, and tries again until the lock is free.
"""

import fcntl
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

from .accounts import check_private
from .addresses import Addresses, addresses, make_data_dir
from .errors import ServerError
from .leases import ANOTHER_KEEPER, LOCK, STAYS
from .postgres import Postgres
from .valkey import Valkey

TICK_SECONDS = 0.2  # how late a server's end or a signal is seen
RESTARTS, RESTARTS_SECONDS = 5, 60  # more deaths in this time and the server is left alone until somebody wants it

log = logging.getLogger("keeper")


class Server(Protocol):
    """A server that the keeper can run."""

    name: str

    def start(self) -> subprocess.Popen[bytes]:
        """Start it and return when it answers."""

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Stop it and wait for its end."""


class Keeper:
    """Runs the servers of one data directory. Single-threaded: while a server starts, others wait."""

    def __init__(self, data_dir: Path, listener: socket.socket) -> None:
        self.where = addresses(data_dir)
        self.servers: dict[str, Server] = {
            server.name: server for server in (Postgres(data_dir, self.where), Valkey(data_dir, self.where))
        }
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.deaths: dict[str, deque[float]] = {name: deque(maxlen=RESTARTS) for name in self.servers}
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ)
        self.listener = listener
        self.leases: set[socket.socket] = set()
        self.ending = False

    def add(self, lease: socket.socket) -> None:
        """Take a lease."""
        lease.settimeout(5)  # a holder that does not read its answer must not block the others
        self.leases.add(lease)
        self.selector.register(lease, selectors.EVENT_READ)

    def run(self) -> None:
        """Serve until the last lease ends, a signal comes or the socket's directory is gone; then stop the servers."""
        while not self.ending:
            for key, _ in self.selector.select(TICK_SECONDS):
                if key.fileobj is self.listener:
                    self.add(self.listener.accept()[0])
                elif isinstance(key.fileobj, socket.socket):
                    self._hear(key.fileobj)
            self._revive()
            if not Path(self.where.keeper_socket).exists():
                log.error("%s is gone, stopping", self.where.keeper_socket)
                self.ending = True
        self.listener.close()
        Path(self.where.keeper_socket).unlink(missing_ok=True)
        for name, process in self.running.items():
            self.servers[name].stop(process)
            log.info("stopped %s", name)
        with suppress(OSError):  # leave nothing in the temporary directory; not empty after a kill
            Path(self.where.socket_dir).rmdir()

    def _hear(self, lease: socket.socket) -> None:
        try:
            request = lease.recv(4096)
            if request:
                lease.sendall(self._answer(request))
                return
        except OSError:
            log.info("a lease holder did not take its answer")
        self.selector.unregister(lease)
        if self.leases == {lease} and not self._is_awaited():
            self.ending = True  # and it stays open: Note [Leases are connections]
            return
        self.leases.discard(lease)
        with lease, suppress(OSError):
            lease.sendall(STAYS)

    def _is_awaited(self) -> bool:
        """Take somebody who connected in the meantime, rather than stop in front of them."""
        self.listener.setblocking(False)
        try:
            self.add(self.listener.accept()[0])
        except BlockingIOError:
            return False
        finally:
            self.listener.setblocking(True)
        return True

    def _answer(self, request: bytes) -> bytes:
        try:
            for name in json.loads(request)["want"]:
                if name not in self.running:
                    self._start(name)
            answer: dict[str, object] = {"error": None}
        except Exception as error:  # the one who asked decides
            log.exception("cannot start")
            answer = {"error": str(error) if isinstance(error, ServerError) else f"{type(error).__name__}: {error}"}
        return json.dumps(answer).encode() + b"\n"

    def _start(self, name: str) -> None:
        self.running[name] = self.servers[name].start()
        log.info("started %s, pid %s", name, self.running[name].pid)

    def _revive(self) -> None:
        for name, process in list(self.running.items()):
            if process.poll() is None:
                continue
            log.error("%s (pid %s) ended with status %s", name, process.pid, process.returncode)
            del self.running[name]
            deaths, now = self.deaths[name], time.monotonic()
            if len(deaths) == RESTARTS and now - deaths[0] < RESTARTS_SECONDS:
                log.error("%s ended too often, leaving it alone", name)
                continue
            deaths.append(now)
            try:
                self._start(name)
            except Exception:  # its log has the reason; the next one who wants it is told
                log.exception("cannot start %s again", name)


def keep(data_dir: Path, lease_descriptor: int) -> int:
    """Be the keeper of a data directory, the given descriptor being the first lease. Returns the exit status."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    lease = socket.socket(fileno=lease_descriptor)
    os.set_inheritable(lease_descriptor, False)
    os.umask(0o077)
    make_data_dir(data_dir)
    lock = _lock(data_dir / LOCK)
    if lock is None:
        return ANOTHER_KEEPER
    with lock:
        try:
            listener = _listen(addresses(data_dir))
        except ServerError as error:
            lease.sendall(json.dumps({"error": str(error)}).encode() + b"\n")
            return 1
        keeper = Keeper(data_dir, listener)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: setattr(keeper, "ending", True))
        keeper.add(lease)
        keeper.run()
        logging.shutdown()
        # Not a return: that would close the last lease some time before this process is gone.
        os._exit(0)


def _lock(path: Path) -> IO[bytes] | None:
    """Take the keeper's lock; None when another keeper has it. Who only looks holds it for an instant: try again."""
    file = path.open("ab")
    for _ in range(50):
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        time.sleep(0.01)
    file.close()
    return None


def _listen(where: Addresses) -> socket.socket:
    """Open the keeper's socket in a directory of our own, made again when the temporary directory was wiped."""
    directory = Path(where.socket_dir)
    directory.mkdir(mode=0o700, exist_ok=True)
    check_private(directory, os.geteuid())
    for path in directory.glob("password-*"):
        path.unlink()
    Path(where.keeper_socket).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(where.keeper_socket)
    listener.listen(128)
    return listener
