"""Who advances a part: a name for this process, and whether the process behind a name is gone."""

import os
import socket
from pathlib import Path

_worker = ""


def current() -> str:
    """Return the name of this process: host, process id and, where the system tells it, its start time."""
    pid = os.getpid()
    return f"{_host()}:{pid}:{_started(pid) or 0}"


def worker() -> str:
    """Return the name of the worker that this process belongs to; empty for a command in the foreground."""
    return _worker


def serve(worker: str) -> None:
    """Let this process, and the children it forks, work under the name of a worker."""
    global _worker  # noqa: PLW0603 - a process belongs to one worker, from its start to its end
    _worker = worker


def is_gone(owner: str) -> bool:
    """Whether the owner surely no longer runs; False when it is on another host or cannot be known."""
    host, _, rest = owner.rpartition(":")[0].rpartition(":")
    started = owner.rpartition(":")[2]
    if host != _host() or not rest.isdigit():
        return False
    now_started = _started(int(rest))
    if now_started is None:
        # Without /proc nothing is known of another process's start.
        return Path("/proc/self/stat").exists()
    return str(now_started) != started


def _host() -> str:
    """Name the place where process ids mean something: containers may share a host name, but not a pid namespace."""
    try:
        namespace = Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()}/{namespace}"


def _started(pid: int) -> int | None:
    """Return the start time in clock ticks since boot (proc_pid_stat(5), field 22); None when gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
