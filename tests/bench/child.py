"""Run one load in this process and measure it: `python -m tests.bench.child MODULE:FUNCTION JOB`.

The job is JSON on standard input, because it holds a password. The last line of output is the measurement as JSON.
"""

import gc
import json
import resource
import sys
import time
from importlib import import_module
from pathlib import Path

from tests.bench.loads import Job


def cpu_seconds() -> float:
    """Return the CPU time of all threads, and of the children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def peak_bytes() -> int:
    """Return the most memory that this process or one of its children had resident.

    Not ru_maxrss for this process: a program that a fork executes inherits its parent's.
    """
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    status = Path("/proc/self/status")
    if not status.exists():
        return max(children, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return max(children, int(lines["VmHWM"].split()[0]) * 1024)


def main() -> None:
    module, _, function = sys.argv[1].partition(":")
    run = getattr(import_module(f"tests.bench.loads.{module}"), function)(Job(**json.load(sys.stdin)))
    gc.collect()
    cpu, started = cpu_seconds(), time.perf_counter()
    notes = run()
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu
    notes = notes or {}
    # Processes that outlive the load tell what they took themselves.
    cpu += notes.pop("cpu_seconds", 0)
    peak = max(peak_bytes(), notes.pop("peak_bytes", 0))
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "peak_bytes": peak, "notes": notes}))


if __name__ == "__main__":
    main()
