"""A worker's process under a limit of memory that the kernel enforces, and what it takes meanwhile."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Process:
    """A process that is looked at from outside."""

    pid: int

    def memory(self, name: str) -> int:
        """Return a size out of /proc/PID/status, in bytes."""
        return int(Path(f"/proc/{self.pid}/status").read_text().split(f"{name}:")[1].split()[0]) * 1024

    def forget_peak(self) -> None:
        """Let VmHWM begin anew at what is resident now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    @contextmanager
    def limited(self, room: int) -> Iterator[int]:
        """Allow so much more than it has now (RLIMIT_DATA, `ulimit -d`); yields the limit."""
        before = resource.prlimit(self.pid, resource.RLIMIT_DATA)
        limit = self.memory("VmData") + room
        resource.prlimit(self.pid, resource.RLIMIT_DATA, (limit, before[1]))
        try:
            yield limit
        finally:
            resource.prlimit(self.pid, resource.RLIMIT_DATA, before)
