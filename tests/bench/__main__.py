"""`python -m tests.bench`: measure everybody, round by round; print tables and write `.data/bench.json`."""

import argparse
import fnmatch
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from config.servers import ServerError
from tests.bench import contenders, report
from tests.bench.contenders import Contender
from tests.bench.measuring import ContenderFailed, Measurer
from tests.bench.results import Result, judged
from tests.bench.surroundings import ROOT, BenchError, surroundings

DATA = Path(os.environ.get("DATA_DIR") or ROOT / ".data")
OUTPUT = DATA / "bench.json"
PEERS_PYTHON = Path(sys.prefix) / "bench/bin/python"
# The other shapes get a fifth of the rows: a wide record weighs as much as seven photos.
SHAPE_SHARE = 5


def main() -> int:
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    if options.markdown:
        print(report.markdown(json.loads(OUTPUT.read_text())), end="")
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop everything as Ctrl-C does
    started_at = time.time()
    try:
        measured = _measure(options, console)
    except KeyboardInterrupt:
        is_written = OUTPUT.exists() and OUTPUT.stat().st_mtime >= started_at
        where = f"The rounds that were complete are in {OUTPUT}." if is_written else "No round was complete."
        console.print(f"Interrupted. {where}", style="red", markup=False)
        return 130
    except (BenchError, ServerError) as error:
        console.print(str(error), style="red", markup=False)
        return 1
    report.show(measured, console)
    console.print(f"Written to {OUTPUT}")
    return int(any(row.get("failed") for row in measured["contenders"]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="Measure the engine, its peers and the floor."
    )
    parser.add_argument("--rows", type=int, default=500_000, help="photos; a tenth and ten times as many as well")
    parser.add_argument("--repeat", type=int, default=5, help="rounds, of which the medians are taken (default: 5)")
    parser.add_argument("--quick", action="store_true", help="the same as --rows 50000 --repeat 3")
    parser.add_argument(
        "--only", action="append", metavar="PATTERN", help="these contenders, and the floors; e.g. 'dlt*'"
    )
    parser.add_argument("--no-growth", action="store_true", help="leave out ten times as many rows")
    parser.add_argument("--peers", type=Path, default=PEERS_PYTHON, help="the Python that has the peers")
    parser.add_argument("--keep", action="store_true", help="keep the database and the logs in .data/bench")
    parser.add_argument("--markdown", action="store_true", help="print the last results as Markdown, measure nothing")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.repeat = 50_000, 3
    if options.rows % 1_000 or options.rows < 1_000 or options.repeat < 1:
        parser.error("--rows takes thousands, --repeat at least 1")
    if not options.markdown and not _chosen(options):
        parser.error(f"--only: nobody has such a name. Names: {', '.join(c.name for c in contenders.ALL)}")
    return options


def _chosen(options: argparse.Namespace) -> list[Contender]:
    chosen = [
        contender
        for contender in contenders.ALL
        if not options.only or any(fnmatch.fnmatchcase(contender.name, pattern) for pattern in options.only)
        if not (options.no_growth and contender.scale == "large")
    ]
    floors = {contender.floor for contender in chosen}
    return [contender for contender in contenders.ALL if contender in chosen or contender.name in floors]


def _measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    started_at, machine = datetime.now(UTC), _machine()
    shape_rows = max(1_000, options.rows // SHAPE_SHARE // 1_000 * 1_000)
    with surroundings(DATA / "bench", rows=options.rows, shape_rows=shape_rows, keep=options.keep) as around:
        about = {
            "started_at": started_at.isoformat(timespec="seconds"),
            "machine": machine,
            "postgres": around.database.configure(),
        }
        rounds = Rounds(Measurer(around, peers_python=options.peers), console)
        measured = {}
        for number, results in enumerate(rounds.run(_chosen(options), options.repeat), start=1):
            measured = about | {
                "options": {"rows": options.rows, "repeat": number},
                "contenders": [result.as_json(results.get(result.contender.floor)) for result in results.values()],
                "figures": judged(results),
            }
            # A run takes long: what it has found so far outlives an interrupt.
            OUTPUT.write_text(json.dumps(measured, indent=1) + "\n")
    return measured


@dataclass(frozen=True)
class Rounds:
    """Every contender once, then every contender again: what changes on the machine with time hits all alike."""

    measurer: Measurer
    console: Console

    def run(self, chosen: list[Contender], repeat: int) -> Iterator[dict[str, Result]]:
        """Measure everybody so many times; yield what is known after each round."""
        results = {
            contender.name: Result(
                contender=contender, rows=self.measurer.rows(contender), problem=self.measurer.why_not(contender)
            )
            for contender in chosen
        }
        for number in range(1, repeat + 1):
            for name in _rotated(list(results), number - 1):
                if not results[name].problem:
                    self._take(results[name], f"round {number} of {repeat}")
            yield results

    def _take(self, result: Result, where: str) -> None:
        try:
            sample = self.measurer.sample(result.contender)
        except ContenderFailed as error:
            result.problem = f"failed: {error}"
            self.console.print(f"{where}  {result.contender.name}: {result.problem}", style="red", markup=False)
            return
        result.samples.append(sample)
        rate = f"{result.rows / sample.seconds:>11,.0f} rows/s"
        text = f"{where}  {result.contender.name:<45} {sample.seconds:8.2f} s  {rate}"
        self.console.print(text, markup=False)


def _rotated(names: list[str], by: int) -> list[str]:
    """Begin each round with another contender, so that nobody always comes behind the same neighbour."""
    start = by * 7 % len(names) if names else 0
    return names[start:] + names[:start]


def _machine() -> dict[str, Any]:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    cpuinfo = Path("/proc/cpuinfo")
    models = (
        [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")] if cpuinfo.exists() else []
    )
    return {
        "processor": models[0].partition(":")[2].strip() if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 1024**3),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


if __name__ == "__main__":
    sys.exit(main())
