"""Load a big export under a limit of memory: `python -m tests.soak [--gigabytes 10] [--room-mb 96] [--only web|s3]`."""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.processes import Stack, children, end_in_order, running_stack
from tests.soak import exports
from tests.soak.limited import MEBIBYTE, Process

GIBIBYTE = 1024 * MEBIBYTE
# When the first tenth is read, whatever a run keeps for its whole length is there.
WARM_SHARE = 0.1
POLL_SECONDS = 0.5
# A run that hangs must not let whoever waits for it hang as well; 10 GiB take some minutes.
MOST_SECONDS = 3_600
# As `make bench` asks of ten times the rows.
GROWTH = 8 * MEBIBYTE


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=10, help="of CSV; 1/160 of it is sent (default: 10)")
    parser.add_argument("--room-mb", type=int, default=96, help="what the worker may take beyond its idle size")
    parser.add_argument("--only", choices=["web", "s3"], help="one of the two places")
    options = parser.parse_args()
    content, rows, size = exports.export(int(options.gigabytes * GIBIBYTE))
    print(f"{size / GIBIBYTE:.2f} GiB of CSV, {len(content) / MEBIBYTE:.1f} MiB sent, {rows:,} rows", flush=True)
    end_in_order()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    folder.chmod(0o711)  # the database's user has to pass
    try:
        with (
            exports.served(content) as environment,
            running_stack(folder / "data", EXTRA_APPS="tests.soak.app", **environment) as stack,
        ):
            (pid,) = children(stack.start_worker().pid)
            problems = [
                problem
                for feed in ("soak-web", "soak-s3")
                if options.only is None or feed.endswith(options.only)
                for problem in load(stack, Process(pid), feed, rows, room=options.room_mb * MEBIBYTE)
            ]
    except KeyboardInterrupt:
        print("Interrupted.")
        return 130
    finally:
        shutil.rmtree(folder)
    for problem in problems:
        print(problem)
    return 1 if problems else 0


def load(stack: Stack, process: Process, feed: str, rows: int, *, room: int) -> list[str]:
    """Run the feed within the limit into an empty table; print what it took, and return what is not as it should be."""
    stack.query("TRUNCATE photos; SELECT 1", commit=True)
    with process.limited(room) as limit:
        began = time.monotonic()
        run = stack.summary("trigger", feed, "--json")["run"]
        warm = 0
        while True:
            if time.monotonic() - began > MOST_SECONDS:
                return [f"{feed}: not done after {MOST_SECONDS} s"]
            time.sleep(POLL_SECONDS)
            [(state, error, read, has_ended)] = stack.query(
                f"SELECT state, error, read, finished_at IS NOT NULL FROM ingestion_run WHERE id = {run}"
            )
            if not warm and read >= rows * WARM_SHARE:
                warm = process.memory("VmHWM")
            if has_ended:
                break
        seconds, peak = time.monotonic() - began, process.memory("VmHWM")
    [(stored,)] = stack.query("SELECT count(DISTINCT remote_id) FROM photos")
    print(
        f"{feed}: {state}, {read:,} read, {stored:,} stored, {seconds:.0f} s, limit {limit / MEBIBYTE:.0f} MiB of "
        f"data, peak resident {warm / MEBIBYTE:.0f} MiB after a tenth, {peak / MEBIBYTE:.0f} MiB in the end",
        flush=True,
    )
    problems = [] if state == "succeeded" else [f"{feed}: {state}: {error}"]
    if (read, stored) != (rows, rows):
        problems.append(f"{feed}: {read:,} rows read and {stored:,} stored of {rows:,}")
    if peak - (warm or peak) > GROWTH:
        problems.append(f"{feed}: memory grows: {(peak - warm) / MEBIBYTE:.1f} MiB after the first tenth")
    return problems


if __name__ == "__main__":
    sys.exit(main())
