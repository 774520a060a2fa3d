"""What the stack consists of and in which order it comes up."""

import http.client
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import closing, suppress
from urllib.parse import urlsplit

from django.conf import settings

from config.embedded import ensure_servers
from config.servers import Lease, addresses
from config.up.children import POLL_SECONDS, Children, Program
from config.up.first_run import FirstRun
from config.up.interrupts import Interrupts

START_SECONDS = 120.0  # for a process to answer, on a machine that is busy with other things
PORTS = 100  # how many web ports are tried, from WEB_PORT on


class StartError(Exception):
    """The stack cannot come up; the message says why."""


class Stack:
    """PostgreSQL, Redis, sample API, worker, beat and web, for as long as this process lives."""

    def __init__(self, interrupts: Interrupts, tell: Callable[[str], None]) -> None:
        self.interrupts = interrupts
        self.tell = tell
        self.lease: Lease | None = None
        self.first_run: FirstRun | None = None
        self.web_socket: socket.socket | None = None
        hidden = {"UP_STARTED_AT", "MAKEFLAGS", "MFLAGS", "MAKELEVEL"}
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        self.children = Children(settings.DATA_DIR / "logs", environment)

    def start_servers(self) -> None:
        """Start the embedded servers, where the settings name no other ones."""
        self.lease = ensure_servers()

    def start_sample_api(self) -> str:
        """Start the sample API as the feed's remote, unless the environment names one. Returns the remote's URL."""
        if url := os.environ.get("PHOTOS_API_URL"):
            return url
        port = _free_port(addresses(settings.DATA_DIR).sample_api_port)
        url = self.children.environment["PHOTOS_API_URL"] = f"http://127.0.0.1:{port}"
        self._start(Program(name="sample-api", arguments=("photos.sample_api", "--port", str(port))))
        return url

    def start_worker(self) -> None:
        """Start the Celery worker. Alone on its broker it has nobody to greet, and starts a second sooner so."""
        options = ("--concurrency", "2", "--loglevel", "INFO", "--without-mingle", "--without-gossip")
        # Warm: the chunk is finished; then soft and cold: it is rolled back, and the run goes on from its cursor.
        stop = ((signal.SIGTERM, 10.0), (signal.SIGQUIT, 15.0))
        self._start(Program(name="worker", arguments=("celery", "-A", "config", "worker", *options), stop=stop))

    def start_beat(self) -> None:
        """Start Celery's scheduler."""
        self._start(Program(name="beat", arguments=("celery", "-A", "config", "beat", "--loglevel", "INFO")))

    def start_web(self) -> str:
        """Start the web server on WEB_PORT or the next free port. Returns its URL."""
        # Bound here and handed on: a port that was free a moment ago may be taken when gunicorn binds it.
        self.web_socket = _bind(int(os.environ.get("WEB_PORT") or 8000))
        descriptor = self.web_socket.fileno()
        options = ("--bind", f"fd://{descriptor}", "--threads", "4", "--no-control-socket")
        web = Program(
            name="web",
            arguments=("gunicorn", "config.wsgi", *options),
            last_signal=signal.SIGQUIT,  # its worker would notice a killed master only later
            descriptors=(descriptor,),
        )
        self._start(web)
        return f"http://127.0.0.1:{self.web_socket.getsockname()[1]}"

    def _start(self, program: Program) -> None:
        with self.interrupts.held():
            self.children.start(program)

    def wait_for(self, url: str, what: str) -> None:
        """Wait until the address answers.

        Raises:
            StartError: it does not in time.
            ChildError: its process ends again and again.
        """
        deadline = time.monotonic() + START_SECONDS
        while not _answers(url):
            self.watch()
            if time.monotonic() > deadline:
                raise StartError(f"{what} does not answer at {url} after {START_SECONDS:.0f} s.")
            time.sleep(POLL_SECONDS)

    def watch(self) -> None:
        """Restart what has ended, and say so.

        Raises:
            ChildError: a process ends again and again.
            ServerError: the embedded servers have gone and cannot be started again.
        """
        if self.lease and not self.lease.is_held():
            self.tell("The embedded servers are gone. Starting them again.")
            self.lease = ensure_servers()
        with self.interrupts.held():
            reports = self.children.revive()
        for report in reports:
            self.tell(report)

    def sync(self) -> FirstRun:
        """Ask the worker to sync the feed; the run's progress appears on stderr."""
        with self.interrupts.held():
            self.first_run = FirstRun(self.children.environment)
        return self.first_run

    def stop(self) -> None:
        """Stop everything this process has started and wait until it is gone. A second Ctrl-C kills."""
        self.interrupts.hold()
        before = self.interrupts.count
        if self.first_run:
            self.first_run.stop()
        self.children.stop(lambda: self.interrupts.count > before)
        if self.web_socket:
            self.web_socket.close()
        if self.lease:
            self.lease.release()


def _answers(url: str) -> bool:
    """Tell whether an HTTP server answers there, whatever it says."""
    parts = urlsplit(url)
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)) as connection:
        try:
            connection.request("GET", parts.path)
            connection.getresponse()
        except (OSError, http.client.HTTPException):
            return False
    return True


def _bind(first_port: int) -> socket.socket:
    """Return a socket that listens at the first loopback port from this one on that is free.

    It has to listen already: while none of them does, several sockets may be bound to one port.

    Raises:
        StartError: none of many is free.
    """
    for port in range(first_port, min(first_port + PORTS, 65536)):
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port just left counts as free
        with suppress(OSError):
            bound.bind(("127.0.0.1", port))
            bound.listen()  # fails where another one was quicker
            return bound
        bound.close()
    raise StartError(f"No free port from {first_port} on; set WEB_PORT to a free one.")


def _free_port(wanted: int) -> int:
    """Return the wanted loopback port, or another one while somebody else has it."""
    for port in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            free: int = probe.getsockname()[1]
            return free
    raise StartError("No free port on 127.0.0.1.")
