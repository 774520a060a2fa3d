"""Starts and stops the embedded PostgreSQL; runs in the keeper."""

import os
import signal
import subprocess
import time
from pathlib import Path

import psycopg2
from psycopg2 import sql

from .accounts import Account, database_account
from .addresses import NAME, PORT, Addresses
from .clusters import cluster, environment
from .errors import ServerError
from .placement import runnable_programs
from .processes import launch, size, stop, stop_strays, tail
from .programs import POSTGRES_NAMES

START_SECONDS = 120  # crash recovery of a big cluster takes its time
# A fast shutdown ends the clients and writes a checkpoint; the immediate one is repaired by recovery at the next start.
STOP = ((signal.SIGINT, 20), (signal.SIGQUIT, 5))


class Postgres:
    """The database server of one data directory."""

    name = "postgres"

    def __init__(self, data_dir: Path, addresses: Addresses) -> None:
        self.data_dir = data_dir
        self.addresses = addresses

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server and return when the database answers.

        Raises:
            ServerError: it did not start; the message holds the end of its log.
        """
        account = database_account()
        self._open_socket_dir(account)
        programs = runnable_programs(self.data_dir, account)
        directory = cluster(self.data_dir, account, programs, self.addresses)
        self._clear(directory)
        log = self.data_dir / "logs/postgres.log"
        log_start = size(log)
        process = self._run(programs, directory, account, log)
        try:
            self._wait(process)
        except ServerError as error:
            self.stop(process)
            raise ServerError(f"{error}\n{tail(log, log_start)}") from error
        return process

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Stop the server and wait for its end."""
        stop(process, STOP)

    def _clear(self, directory: Path) -> None:
        """Stop a server that outlived its keeper and remove what it left, where PostgreSQL itself would be misled."""
        pid_file = directory / "postmaster.pid"
        leader = _first_number(pid_file)
        # Never ask a helper whose postmaster was killed: SIGINT makes the checkpointer end the log while others write.
        stop_strays(directory, POSTGRES_NAMES, signal.SIGINT, leader=leader or -1)
        # The pid of a dead server may by now be a stranger's, and PostgreSQL then refuses to start.
        if leader and Path(f"/proc/{leader}").exists():
            pid_file.unlink(missing_ok=True)
        for path in Path(self.addresses.socket_dir).glob(".s.PGSQL.*"):
            path.unlink(missing_ok=True)

    def _open_socket_dir(self, account: Account) -> None:
        """Let the database's user make its socket beside ours; sticky, so that it cannot replace ours."""
        if account.is_other:
            os.chown(self.addresses.socket_dir, -1, account.gid)
            Path(self.addresses.socket_dir).chmod(0o1770)

    def _run(self, programs: Path, directory: Path, account: Account, log: Path) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": self.addresses.socket_dir,
            # Root reaches a socket of `nobody` whatever its mode, and no other user needs to.
            "unix_socket_permissions": "0700",
            "port": str(PORT),
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        arguments = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        return launch(
            [programs / "postgres", "-D", directory, *arguments],
            log=log,
            env=environment(),
            last_signal=signal.SIGINT,
            **account.switch,
        )

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return self._create_database()
            except psycopg2.OperationalError as error:
                if process.poll() is not None:
                    raise ServerError(f"PostgreSQL ended with status {process.returncode} while starting:") from error
                if time.monotonic() > deadline:
                    raise ServerError(f"PostgreSQL does not answer after {START_SECONDS} s: {error}") from error
            time.sleep(0.02)

    def _create_database(self) -> None:
        connection = psycopg2.connect(
            host=self.addresses.socket_dir,
            port=PORT,
            user=NAME,
            password=self.addresses.password,
            dbname="postgres",
            connect_timeout=10,
        )
        try:
            connection.autocommit = True  # CREATE DATABASE refuses a transaction
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [NAME])
                if not cursor.fetchone():
                    cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(NAME)))
        finally:
            connection.close()


def _first_number(path: Path) -> int | None:
    try:
        return int(path.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None
