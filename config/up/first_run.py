"""The first sync, asked for and waited for by a command of its own."""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from config.servers.processes import die_with_parent
from config.up.children import ROOT

FEED = "photos"
COUNTS = ("pages", "read", "inserted", "updated", "unchanged", "deleted", "duplicates", "rejected")


class FirstRun:
    """`manage.py trigger`: its progress is shown on our stderr, its summary is read from its stdout."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (read when the command has ended)
        self._process = subprocess.Popen(  # noqa: S603 (a command of ours, no shell)
            [sys.executable, "manage.py", "trigger", FEED, "--wait", "--json"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 (one thread only)
        )

    def is_running(self) -> bool:
        """Tell whether the run has not ended yet."""
        return self._process.poll() is None

    def summary(self) -> dict[str, Any]:
        """Return the ended run's summary."""
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").splitlines()
        try:
            summary: dict[str, Any] = json.loads(lines[-1])
        except (IndexError, ValueError):
            status = self._process.returncode
            return failed(f"`manage.py trigger {FEED}` ended with status {status} and no summary; it says why above.")
        return summary

    def stop(self) -> None:
        """Stop waiting for the run; it goes on where it stood when the stack comes up again."""
        if self.is_running():
            self._process.kill()
            self._process.wait()
        self._output.close()


def failed(error: str, seconds: float = 0.0) -> dict[str, Any]:
    """Return the summary of a run that did not come about."""
    counts = dict.fromkeys(COUNTS, 0)
    return {"feed": FEED, "run": None, "state": "failed", **counts, "seconds": round(seconds, 3), "error": error}
