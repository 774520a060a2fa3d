"""The stack's processes: started, watched, restarted a few times, and stopped without remainder."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from config.servers.processes import launch, size, tail

ROOT = Path(__file__).resolve().parents[2]
RESTARTS, RESTARTS_SECONDS = 3, 60.0  # what dies more often than that does not get better by itself
LOG_LINES = 10
POLL_SECONDS = 0.05


class ChildError(Exception):
    """A process of the stack ends again and again; the message holds the end of its log."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A Python module that runs as a process of the stack."""

    name: str
    arguments: tuple[str, ...]
    # After so many seconds the next signal; SIGKILL to its whole process group after the last.
    stop: tuple[tuple[signal.Signals, float], ...] = ((signal.SIGTERM, 5),)
    # What the kernel sends it when this process was killed and can stop nothing any more.
    last_signal: signal.Signals = signal.SIGKILL
    descriptors: tuple[int, ...] = ()


@dataclass(kw_only=True)
class Child:
    """A running program."""

    program: Program
    process: subprocess.Popen[bytes]
    log: Path
    log_start: int
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=RESTARTS))

    def how_it_ended(self) -> str:
        """Tell in a sentence."""
        status = self.process.returncode
        how = signal.Signals(-status).name if status and status < 0 else f"status {status}"
        return f"{self.program.name} ended with {how}."

    def last_words(self) -> str:
        """Tell how it ended, with the end of its log."""
        return f"{self.how_it_ended()} The end of {self.log}:\n{tail(self.log, self.log_start, lines=LOG_LINES)}"


class Children:
    """The processes that this one has started. All calls from the main thread, none interrupted half-way."""

    def __init__(self, logs: Path, environment: Mapping[str, str]) -> None:
        self.logs = logs
        self.environment = dict(environment)
        self._children: dict[str, Child] = {}

    def start(self, program: Program) -> None:
        """Start a program; its output goes to the log of its name."""
        log = self.logs / f"{program.name}.log"
        log_start = size(log)
        process = launch(
            [sys.executable, "-m", *program.arguments],
            log=log,
            env=self.environment,
            last_signal=program.last_signal,
            cwd=ROOT,
            pass_fds=program.descriptors,
        )
        known = self._children.get(program.name)
        child = Child(program=program, process=process, log=log, log_start=log_start)
        if known:
            child.deaths = known.deaths
        self._children[program.name] = child

    def revive(self) -> list[str]:
        """Restart what has ended and return what to tell about it.

        Raises:
            ChildError: one has ended too often; nothing more is tried.
        """
        reports = []
        for child in list(self._children.values()):
            if child.process.poll() is None:
                continue
            now = time.monotonic()
            if len(child.deaths) == RESTARTS and now - child.deaths[0] < RESTARTS_SECONDS:
                raise ChildError(child.last_words())
            reports.append(
                (child.how_it_ended() if child.deaths else child.last_words())
                + f"\nStarting {child.program.name} again."
            )
            child.deaths.append(now)
            _kill_group(child.process)
            self.start(child.program)
        return reports

    def stop(self, is_impatient: Callable[[], bool]) -> None:
        """Stop all of them at the same time and wait for their ends; an impatient user gets it at once."""
        begun = time.monotonic()
        plans = {name: _plan(child.program, begun) for name, child in self._children.items()}
        while running := {name: child for name, child in self._children.items() if child.process.poll() is None}:
            for name, child in running.items():
                if is_impatient():
                    plans[name] = [(begun, signal.SIGKILL)]
                while plans[name] and plans[name][0][0] <= time.monotonic():
                    _, number = plans[name].pop(0)
                    _kill_group(child.process) if number == signal.SIGKILL else child.process.send_signal(number)
            time.sleep(POLL_SECONDS)
        for child in self._children.values():
            _kill_group(child.process)  # what it had started and did not stop
        self._children.clear()


def _plan(program: Program, begun: float) -> list[tuple[float, signal.Signals]]:
    """Return when which signal is due."""
    plan, at = [], begun
    for number, seconds in program.stop:
        plan.append((at, number))
        at += seconds
    return [*plan, (at, signal.SIGKILL)]


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the process group that `launch` made for it."""
    with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        os.killpg(process.pid, signal.SIGKILL)
