"""Read docker-compose.yml as Compose does, and run its services as processes of this machine."""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from config.servers.processes import die_with_parent
from tests.stack import container

FILE = container.ROOT / "docker-compose.yml"
EXAMPLE = container.ROOT / ".env.example"
DEADLINE_SECONDS = 90  # generous: the machine may be busy

VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?P<operator>:-|:\?)?(?P<text>[^}]*)\})")


class MissingVariable(Exception):
    """A variable without which Compose refuses the file."""


def raw() -> dict[str, Any]:
    """Return the file's content with its variables not yet replaced."""
    content: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return content


def interpolate(value: Any, variables: Mapping[str, str]) -> Any:
    """Replace `${NAME}`, `${NAME:-default}` and `${NAME:?message}` in every string, as the compose specification says.

    Raises:
        MissingVariable: a required one is unset or empty.
    """
    if isinstance(value, dict):
        return {key: interpolate(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [interpolate(inner, variables) for inner in value]
    return VARIABLE.sub(lambda match: _value(match, variables), value) if isinstance(value, str) else value


def _value(match: re.Match[str], variables: Mapping[str, str]) -> str:
    name = match["name"]
    if name is None:
        return "$"
    value = variables.get(name, "")
    if not value and match["operator"] == ":?":
        raise MissingVariable(f"{name}: {match['text']}")
    return value or (match["text"] if match["operator"] == ":-" else "")


def example() -> dict[str, str]:
    """Return what .env.example sets (lines that are commented out do not)."""
    lines = EXAMPLE.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def eventually(condition: Callable[[], object], what: str, *, deadline_seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + deadline_seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {deadline_seconds:g} s: {what}"
        time.sleep(0.1)


def seconds(duration: str) -> float:
    """Return the seconds of a duration of the file; all of them are whole seconds."""
    assert duration.endswith("s")
    return float(duration.removesuffix("s"))


class Service:
    """A service of our own image, run as a process in the stand-in of its file system."""

    def __init__(self, name: str, spec: Mapping[str, Any], image: Path) -> None:
        self.name = name
        self.command: list[str] = spec["command"]
        self.check: list[str] = spec["healthcheck"]["test"][1:] if "healthcheck" in spec else []
        self.check_seconds = seconds(spec["healthcheck"]["timeout"]) if "healthcheck" in spec else 0
        self.grace_seconds = seconds(spec.get("stop_grace_period", "10s"))
        self.signal = signal.Signals[spec.get("stop_signal", container.one("STOPSIGNAL"))]
        self.environment = container.environment(image) | spec["environment"]
        self.image = image
        self.log = image.parent / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the service's own command."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.image,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 (only prctl is called)
            )

    def run(self, *command: str, timeout: float = DEADLINE_SECONDS) -> subprocess.CompletedProcess[str]:
        """Run another command beside it, as `docker compose exec` does."""
        return subprocess.run(
            command,
            cwd=self.image,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def is_healthy(self) -> bool:
        """Run the service's own health check with its own time limit."""
        try:
            return self.run(*self.check, timeout=self.check_seconds).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def wait_until_healthy(self) -> None:
        """Wait for the health check to pass; fails early when the process ends."""
        assert self.process is not None
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not self.is_healthy():
            assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}\n{self.tail()}"
            assert time.monotonic() < deadline, f"{self.name} is not healthy\n{self.tail()}"
            time.sleep(0.1)

    def wait(self, timeout: float = DEADLINE_SECONDS) -> int:
        """Wait for the process to end by itself and return its exit status."""
        assert self.process is not None
        return self.process.wait(timeout)

    def stop(self) -> int:
        """Send the stop signal and return the exit status; fails when the grace period is over."""
        assert self.process is not None
        self.process.send_signal(self.signal)
        return self.process.wait(self.grace_seconds)

    def kill(self) -> None:
        """End the whole process group, whatever its state."""
        if self.process is not None and (self.process.poll() is None or self.left()):
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def left(self) -> list[int]:
        """Return the living processes that the service started."""
        assert self.process is not None
        return [int(stat[0]) for stat in _stats() if int(stat[3]) == self.process.pid and stat[1] != "Z"]

    def tail(self) -> str:
        """Return its command and the end of its log, for a failure's message."""
        return f"$ {shlex.join(self.command)}\n{self.log.read_text(errors='replace')[-3000:]}"


def _stats() -> list[tuple[str, str, str, str]]:
    """Return (pid, state, parent, process group) of every process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, group, *_ = path.read_text().rpartition(")")[2].split()
        except OSError:  # it ended in the meantime
            continue
        found.append((path.parent.name, state, parent, group))
    return found
