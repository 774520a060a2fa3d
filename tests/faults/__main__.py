"""Run the faults: `python -m tests.faults [--fault N] [--seed S] [--strikes N] [--record]`."""

import argparse
import random
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.faults.cases import CASES, Case
from tests.faults.catalogue import Trial
from tests.faults.report import Outcome, record
from tests.faults.surroundings import Surroundings
from tests.processes import ROOT

DOCUMENT = ROOT / "docs" / "reliability.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--fault", type=int, action="append", help="only this number of FAULTS.md; may be repeated")
    parser.add_argument("--only", default="", help="only cases with this text in their name")
    parser.add_argument("--seed", type=int, help="of a former run, to strike at the same instants")
    parser.add_argument("--strikes", type=int, default=30, help="how often random cases strike (30)")
    parser.add_argument("--record", action="store_true", help="write the outcomes into docs/reliability.md")
    options = parser.parse_args()
    chosen = [case for case in CASES if options.fault is None or case.fault in options.fault]
    chosen = [case for case in chosen if options.only in case.name]
    outcomes = run(chosen, seed=options.seed, strikes=options.strikes)
    if options.record:
        record(DOCUMENT, outcomes)
    failed = [outcome for outcome in outcomes if outcome.problem]
    print(f"{len(outcomes) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed or not outcomes else 0


def run(cases: list[Case], *, seed: int | None, strikes: int) -> list[Outcome]:
    """Run the cases in turn; after one that failed the next ones have surroundings of their own."""
    outcomes: list[Outcome] = []
    around: Surroundings | None = None
    try:
        for case in cases:
            around = around or Surroundings(_folder())
            trial = Trial(around, random.randrange(2**31) if seed is None else seed, strikes)
            print(f"{case.fault}: {case.name} (seed {trial.seed})", flush=True)
            outcomes.append(_outcome(case, trial))
            if outcomes[-1].problem:
                print(f"the output of its processes is in {around.stack.data_dir}", flush=True)
                around.close(keep=True)
                around = None
    finally:
        if around is not None:
            around.close()
            shutil.rmtree(around.folder)
    return outcomes


def _folder() -> Path:
    """Return a new folder that the database's user may pass."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    folder.chmod(0o711)
    return folder


def _outcome(case: Case, trial: Trial) -> Outcome:
    began = time.monotonic()
    problem = ""
    try:
        case.act(trial)
    except (Exception, AssertionError):  # noqa: BLE001 - whatever it is, the next case runs
        problem = traceback.format_exc()
        print(problem, flush=True)
    outcome = Outcome(case=case, trial=trial, problem=problem)
    print(
        f"   {' | '.join(outcome.cells()[2:6])} | {time.monotonic() - began:.0f} s {'; '.join(trial.notes)}", flush=True
    )
    return outcome


if __name__ == "__main__":
    sys.exit(main())
