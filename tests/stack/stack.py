"""The services of docker-compose.yml, run as processes against a real PostgreSQL and a real Redis-compatible server.

Only what a machine without containers cannot have is replaced: host names, ports, and paths that two services would
share here. Commands, variables, health checks, stop signals and grace periods are the file's own.
"""

import secrets
import signal
import socket
import subprocess
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis

from config import servers
from config.servers.processes import die_with_parent
from config.servers.programs import postgres_programs, redis_program
from tests.stack import compose, container
from tests.stack.compose import Service

SERVERS = ("postgres", "redis")


class Stack:
    """One `docker compose --profile demo up` without containers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.image = container.build(directory / "app")
        self.data_dir = directory / "data"
        self.addresses = servers.addresses(self.data_dir)
        self.ports = dict(zip(("redis", "web", "sample-api"), _free_ports(3), strict=True))
        self.variables = compose.example() | {
            "POSTGRES_PASSWORD": self.addresses.password,
            "REDIS_PASSWORD": secrets.token_hex(32),
            "SECRET_KEY": secrets.token_hex(32),
        }
        self.specs = self.read()
        self.services = {
            name: Service(name, spec, self.image) for name, spec in self.specs.items() if name not in SERVERS
        }
        self.files = self._files()
        self._lease: servers.Lease | None = None
        self._redis: subprocess.Popen[bytes] | None = None

    def read(self, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return the services, their variables replaced and their addresses those of this machine."""
        services = compose.raw()["services"]
        here = {name: self._relocate(name, spec) for name, spec in services.items()}
        specs: dict[str, Any] = compose.interpolate(here, self.variables | (variables or {}))
        return specs

    def _relocate(self, name: str, value: Any) -> Any:
        """Replace addresses before the variables, so that no digit of a password is taken for a port."""
        if isinstance(value, dict):
            return {key: self._relocate(name, inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._relocate(name, inner) for inner in value]
        if not isinstance(value, str):
            return value
        replacements = {
            "@postgres:5432/": f"@:5432/{quote(self.addresses.socket_dir, safe='')}/",
            "@redis:6379/": f"@127.0.0.1:{self.ports['redis']}/",
            "sample-api:8001": f"127.0.0.1:{self.ports['sample-api']}",
            "0.0.0.0": "127.0.0.1",
            "8000": str(self.ports["web"]),
            "8001": str(self.ports["sample-api"]),
            "/tmp/health": str(self.directory / f"health-{name}"),
        }
        for theirs, ours in replacements.items():
            value = value.replace(theirs, ours)
        return value

    def start(self) -> None:
        """Start everything in the order that `depends_on` asks for, and wait until all is healthy."""
        self._lease = servers.ensure(self.data_dir, redis=False)
        self.start_redis()
        graph = {name: spec.get("depends_on", {}) for name, spec in self.specs.items()}
        for name in TopologicalSorter(graph).static_order():
            for dependency, wanted in graph[name].items():
                self._wait_for(dependency, wanted["condition"])
            if name in self.services:
                self.services[name].start()
        for service in self.long_running():
            service.wait_until_healthy()

    def long_running(self) -> list[Service]:
        """Return our services but `migrate`."""
        return [service for service in self.services.values() if service.check]

    def _wait_for(self, name: str, condition: str) -> None:
        match condition, name:
            case "service_healthy", "postgres":
                compose.eventually(self.is_postgres_healthy, "postgres is healthy")
            case "service_healthy", "redis":
                compose.eventually(self.is_redis_healthy, "redis is healthy")
            case "service_healthy", _:
                self.services[name].wait_until_healthy()
            case "service_completed_successfully", _:
                assert self.services[name].wait() == 0, self.services[name].tail()
            case _:
                raise AssertionError(condition)

    def is_postgres_healthy(self) -> bool:
        """Run the file's own check, pg_isready, at the socket instead of a TCP address."""
        program, *arguments = self.specs["postgres"]["healthcheck"]["test"][1:]
        here = [word.replace("--host=127.0.0.1", f"--host={self.addresses.socket_dir}") for word in arguments]
        return subprocess.run([postgres_programs() / program, *here], capture_output=True, check=False).returncode == 0

    def is_redis_healthy(self) -> bool:
        """Do what the file's check does, `redis-cli -e ping`: the wheel has a server only, no client program."""
        assert self.specs["redis"]["healthcheck"]["test"] == ["CMD", "redis-cli", "-e", "ping"]
        try:
            with self.redis() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def redis(self) -> redis.Redis:
        """Return a client with the password that the health check of the file would use."""
        password = self.specs["redis"]["environment"]["REDISCLI_AUTH"]
        return redis.Redis(port=self.ports["redis"], password=password, decode_responses=True, socket_timeout=5)

    def start_redis(self) -> None:
        """Start the file's own command, with a server that takes the same options."""
        program, *arguments = self.specs["redis"]["command"]
        assert program == "redis-server"
        directory = self.directory / "redis"
        directory.mkdir(exist_ok=True)
        with (self.directory / "redis.log").open("ab") as log:
            self._redis = subprocess.Popen(
                [redis_program(), *arguments, "--bind", "127.0.0.1", "--port", str(self.ports["redis"])],
                cwd=directory,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 (only prctl is called)
            )

    def stop_redis(self) -> int:
        """Send the stop signal of Redis' image and return the exit status; fails when the grace period is over."""
        assert self._redis is not None
        self._redis.terminate()
        return self._redis.wait(compose.seconds(self.specs["redis"]["stop_grace_period"]))

    def close(self) -> None:
        """Stop everything that runs and remove the database."""
        for service in self.services.values():
            service.kill()
        if self._redis is not None:
            self._redis.kill()
            self._redis.wait()
        if self._lease is not None:
            self._lease.release()
        servers.discard(self.data_dir)

    def new_files(self) -> set[str]:
        """Return what the services wrote into the image, whose file system is read-only in a container."""
        return self._files() - self.files

    def _files(self) -> set[str]:
        home = Path(self.services["web"].environment["HOME"])
        return {str(path) for place in (self.image, home) for path in place.rglob("*")}


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]
    finally:
        for probe in sockets:
            probe.close()
