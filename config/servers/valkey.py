"""Starts and stops the embedded Redis-compatible server; runs in the keeper."""

import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from .addresses import Addresses
from .clusters import environment
from .errors import ServerError
from .processes import launch, size, stop, stop_strays, tail
from .programs import REDIS_NAMES, redis_program

START_SECONDS = 60  # it reads its whole log of commands first
STOP = ((signal.SIGTERM, 20),)


class Valkey:
    """The broker's server of one data directory."""

    name = "redis"

    def __init__(self, data_dir: Path, addresses: Addresses) -> None:
        self.data_dir = data_dir
        self.addresses = addresses

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server and return when it answers.

        Raises:
            ServerError: it did not start; the message holds the end of its log.
        """
        program = redis_program()
        directory = self.data_dir / "valkey"
        directory.mkdir(mode=0o700, exist_ok=True)
        stop_strays(directory, REDIS_NAMES, signal.SIGTERM)
        log = self.data_dir / "logs/valkey.log"
        log_start = size(log)
        process = self._run(program, directory, log)
        try:
            self._wait(process)
        except ServerError as error:
            self.stop(process)
            raise ServerError(f"{error}\n{tail(log, log_start)}") from error
        return process

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Stop the server and wait for its end."""
        stop(process, STOP)

    def _run(self, program: Path, directory: Path, log: Path) -> subprocess.Popen[bytes]:
        # On stdin, because every user of the machine could read the password among the arguments.
        with tempfile.TemporaryFile() as configuration:
            configuration.write(self._configuration().encode())
            configuration.seek(0)
            return launch(
                [program, "-"],
                log=log,
                env=environment(),
                last_signal=signal.SIGTERM,
                cwd=directory,
                stdin=configuration,
            )

    def _configuration(self) -> str:
        return "\n".join(
            (
                "port 0",
                f'unixsocket "{self.addresses.redis_socket}"',
                "unixsocketperm 700",
                f"requirepass {self.addresses.password}",
                "appendonly yes",
                'save ""',
                "maxmemory-policy noeviction",
                "",
            )
        )

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if process.poll() is not None:
                raise ServerError(f"The Redis-compatible server ended with status {process.returncode} while starting:")
            if time.monotonic() > deadline:
                raise ServerError(f"The Redis-compatible server does not answer after {START_SECONDS} s:")
            time.sleep(0.02)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            try:
                client.connect(self.addresses.redis_socket)
                client.sendall(f"AUTH {self.addresses.password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\n") < 2 and (more := client.recv(256)):
                    answer += more
            except OSError:
                return False
        return answer == b"+OK\r\n+PONG\r\n"
