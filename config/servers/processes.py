"""Starting, finding and stopping processes so that none outlives its purpose."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TypedDict, Unpack

PR_SET_PDEATHSIG = 1  # linux/prctl.h
LOG_BYTES = 10_000_000  # a log that is bigger at the start of its process becomes the one old log that is kept
TAIL_BYTES = 16_384  # plenty for twenty lines


def die_with_parent(last_signal: signal.Signals) -> Callable[[], None] | None:
    """Return a `preexec_fn` that has the kernel send the signal when the parent dies, even by kill -9.

    Returns None where the kernel cannot (anything but Linux). The parent must start the child from its main thread: the
    kernel watches the thread. Changing the user clears the request, and `subprocess` calls `preexec_fn` after that.
    """
    if sys.platform != "linux":
        return None
    parent = os.getpid()
    request = _death_signal(last_signal)  # the library is loaded before the fork

    def request_in_child() -> None:
        request()
        if os.getppid() != parent:  # it died before the request
            os._exit(1)

    return request_in_child


def follow_parent(last_signal: signal.Signals) -> None:
    """Have the kernel send this process the signal when its parent dies. Does nothing where the kernel cannot."""
    if sys.platform == "linux":
        _death_signal(last_signal)()


def _death_signal(last_signal: signal.Signals) -> Callable[[], None]:
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, int(last_signal))


class LaunchOptions(TypedDict, total=False):
    """Arguments handed on to `subprocess.Popen`."""

    stdin: IO[bytes] | int
    pass_fds: Sequence[int]
    cwd: Path
    user: int
    group: int
    extra_groups: list[int]


def launch(
    arguments: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str],
    last_signal: signal.Signals | None = None,
    **options: Unpack[LaunchOptions],
) -> subprocess.Popen[bytes]:
    """Start a process of its own session, which the terminal's Ctrl-C does not reach, its output appended to the log.

    With `last_signal` it does not outlive this process, see `die_with_parent`.
    """
    if size(log) > LOG_BYTES:
        log.replace(log.with_name(log.name + ".1"))
    defaults: LaunchOptions = {"stdin": subprocess.DEVNULL, "cwd": Path("/")}
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 (programs of ours, no shell)
            arguments,
            env=env,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=die_with_parent(last_signal) if last_signal else None,  # noqa: PLW1509 (one thread only)
            **(defaults | options),
        )


def stop(process: subprocess.Popen[bytes], steps: Iterable[tuple[signal.Signals, float]]) -> None:
    """Send each signal and wait its seconds until the process has ended; SIGKILL when none of them helped."""
    for number, seconds in steps:
        if process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
    if process.poll() is None:
        process.kill()
        process.wait()


def working_in(directory: Path, names: frozenset[str]) -> dict[int, int]:
    """Find processes with one of these program names whose working directory this is: each pid with its parent's.

    A server changes into its data directory and nobody else does, so this tells our own from a stranger that got the
    pid of an old pid file. Returns nothing where there is no /proc.
    """
    home = directory.resolve()
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "comm").read_text().strip() not in names or (entry / "cwd").readlink() != home:
                continue
            # Fields after the name, which is in parentheses and may hold spaces: state, parent.
            found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):  # ended in the meantime, a zombie, or another user's
            continue
    return found


def stop_strays(
    directory: Path, names: frozenset[str], polite: signal.Signals, leader: int | None = None, seconds: float = 15
) -> set[int]:
    """Stop servers that a killed keeper left behind, and return their pids.

    Only the leader (by default those without a parent among them) is asked; the others end with it or are killed after
    so many seconds.
    """
    strays = working_in(directory, names)
    for pid, parent in strays.items():
        if pid == leader if leader else parent not in strays:
            _send(pid, polite)
    deadline = time.monotonic() + seconds
    while left := working_in(directory, names):
        if time.monotonic() > deadline:
            for pid in left:
                _send(pid, signal.SIGKILL)
        time.sleep(0.02)
    return set(strays)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def size(path: Path) -> int:
    """Return the size of a log in bytes, 0 while there is none."""
    return path.stat().st_size if path.exists() else 0


def tail(path: Path, start: int = 0, lines: int = 20) -> str:
    """Return the last lines of a log, none from before byte `start` unless it has become shorter since."""
    length = size(path)
    if not length:
        return ""
    with path.open("rb") as file:
        file.seek(max(start if start <= length else 0, length - TAIL_BYTES))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
