"""A Redis-compatible server of the test's own, without persistence: killed, it has forgotten everything."""

import contextlib
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu
import redis

from config.servers.processes import die_with_parent
from config.servers.programs import redis_program
from tests.processes import wait_until

QUEUE = "ingestion"


class Broker:
    """The server and a client that goes straight to it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.client: Any = redis.Redis(port=self.port, decode_responses=True, socket_timeout=5)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, empty, on the port that it always has."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--maxmemory-policy", "noeviction"]
        with (self._folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(
                [redis_program(), *options], cwd=self._folder, stdout=log, stderr=log,
                preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 (only prctl is called)
            )  # fmt: skip
        wait_until(self.answers, what="the broker's start")

    def kill(self) -> None:
        """Kill -9: all messages are gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.client.close()

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGCONT)
        self.kill()

    def let_time_out(self) -> None:
        """Deliver again what was taken and never acknowledged, as the visibility timeout does when its hour is over."""
        for tag in self.client.zrange("unacked_index", 0, -1):
            self.client.zadd("unacked_index", {tag: 1}, xx=True)
        with kombu.Connection(f"redis://127.0.0.1:{self.port}/0") as connection:
            # What every worker does now and then.
            connection.channel().qos.restore_visible(num=1000, interval=1)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the server's process: connections stay, and nothing answers."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def left(self) -> list[str]:
        """Return what is in there besides the bindings of queues, which are for ever."""
        names = self.client.keys("*")
        return sorted(name for name in names if not name.startswith("_kombu.binding"))
