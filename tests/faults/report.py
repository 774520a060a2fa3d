"""The table of `docs/reliability.md`, written from what ran and from nothing else."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from tests.faults.cases import CASES, Case
from tests.faults.catalogue import FAULTS, Trial

BEGIN, END = "<!-- begin: written by `make faults ARGS=--record` -->\n", "<!-- end -->"
MEASURED = ("recovery, s: median, max", "fetched again, pages: max")
HEAD = ("fault", "what was done", "strikes", "runs", "outcome", *MEASURED, "seed", "on")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a trial of a case ended; both texts are empty when it passed.

    Args:
        absent: what the machine lacks for it.
    """

    case: Case
    trial: Trial
    problem: str = ""
    absent: str = ""

    @property
    def word(self) -> str:
        if self.absent:
            return "not possible here"
        return "FAILED" if self.problem else "passed"

    def cells(self) -> list[str]:
        times, again = self.trial.recovered, self.trial.fetched_again
        return [
            str(self.case.fault),
            self.case.name,
            str(len(times) if self.case.is_random else ""),
            str(self.trial.runs),
            self.word,
            f"{median(times):.1f}, {max(times):.1f}" if times else "",
            str(max(again, default="")),
            str(self.trial.seed),
            datetime.now(UTC).date().isoformat(),
        ]


def record(path: Path, outcomes: Iterable[Outcome]) -> None:
    """Replace the rows of the cases that ran; rows of others stay, those of cases that are no more go."""
    text = path.read_text()
    before, rest = text.split(BEGIN)
    table, after = rest.split(END)
    rows = {cells[1]: cells for cells in map(_cells, table.splitlines()) if cells[:1] != ["fault"] and len(cells) > 1}
    rows |= {outcome.case.name: outcome.cells() for outcome in outcomes if not outcome.absent}
    path.write_text(f"{before}{BEGIN}\n{_table(rows)}\n{END}{after}")


def _table(rows: dict[str, list[str]]) -> str:
    lines = [HEAD, ("---",) * len(HEAD)]
    for fault, title in FAULTS.items():
        of_fault = [case.name for case in CASES if case.fault == fault]
        lines += [rows.get(name, [str(fault), name, "", "", "not run yet", "", "", "", ""]) for name in of_fault]
        if not of_fault:
            lines.append([str(fault), title, "", "", "not yet", "", "", "", ""])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))] if line.startswith("|") else []
