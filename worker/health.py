"""Answer a container's health check for the worker and for beat: `python -m worker.health`.

Standard library only: it runs every few seconds, and loading Django or asking over the broker (`celery inspect ping`)
would cost more than the work it watches.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

# The worker's main loop beats every 2 s and beat ticks at least every 5 s: several missed ones are no hiccup.
ALIVE_SECONDS = 15.0
# Dispatch gives every worker and beat something to do every 5 s (DISPATCH_EVERY).
WORKING_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """When a process last showed that it is alive, and that it does its work.

    Moments of the monotonic clock: all processes of a machine share it, and setting the time does not move it.
    """

    alive_at: float
    working_at: float


def write(path: Path, heartbeat: Heartbeat) -> None:
    """Replace the file, so that nobody reads half of it.

    Raises:
        OSError: the file cannot be written.
    """
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(json.dumps(asdict(heartbeat)))
    fresh.replace(path)


def read(path: Path) -> Heartbeat | None:
    """Return what the process wrote last; None when it has not come so far."""
    try:
        return Heartbeat(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None


def complaint(
    heartbeat: Heartbeat | None,
    now: float,
    *,
    alive_seconds: float = ALIVE_SECONDS,
    working_seconds: float = WORKING_SECONDS,
) -> str | None:
    """Return what is wrong with the process; None when nothing is."""
    if heartbeat is None:
        return "no heartbeat yet"
    alive, working = now - heartbeat.alive_at, now - heartbeat.working_at
    # Ages below zero are those of another boot's file.
    if not 0 <= alive <= alive_seconds:
        return f"the last heartbeat is {alive:.0f} s old (limit {alive_seconds:g} s): hung, or without its broker"
    if not 0 <= working <= working_seconds:
        return f"alive, but without work done for {working:.0f} s (limit {working_seconds:g} s)"
    return None


def main() -> int:
    """Check the file that HEALTH_FILE names; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m worker.health", description="Check the worker or beat.")
    parser.add_argument("--alive", type=float, default=ALIVE_SECONDS, metavar="SECONDS")
    parser.add_argument("--working", type=float, default=WORKING_SECONDS, metavar="SECONDS")
    limits = parser.parse_args()
    name = os.environ.get("HEALTH_FILE", "")
    if not name:
        sys.stderr.write("HEALTH_FILE is not set: the worker and beat write their heartbeat only where it is.\n")
        return 1
    problem = complaint(read(Path(name)), time.monotonic(), alive_seconds=limits.alive, working_seconds=limits.working)
    sys.stdout.write(f"{problem or 'ok'}\n")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
