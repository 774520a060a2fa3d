"""Run the faults: `python -m tests.faults [--fault N] [--seed S] [--strikes N] [--record]`."""

import argparse
import contextlib
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Generator, Iterator
from pathlib import Path

from tests.faults.cases import CASES, Case
from tests.faults.catalogue import NotHere, Trial
from tests.faults.report import Outcome, record
from tests.faults.surroundings import Surroundings
from tests.processes import ROOT, end_in_order

DOCUMENT = ROOT / "docs" / "reliability.md"
# No case takes longer, and what it leaves to be stopped is stopped within the second: a hang costs its own case alone.
CASE_SECONDS, CLEAN_UP_SECONDS = 900, 120


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
    end_in_order()
    began, outcomes, is_whole = time.monotonic(), list[Outcome](), True
    try:
        with contextlib.closing(run(chosen, seed=options.seed, strikes=options.strikes)) as running:
            for outcome in running:
                outcomes.append(outcome)
                if options.record:
                    # The whole takes long: what has ended outlives an interrupt.
                    record(DOCUMENT, [outcome])
    except KeyboardInterrupt:
        is_whole = False
    failed = [outcome for outcome in outcomes if outcome.problem]
    absent = [outcome for outcome in outcomes if outcome.absent]
    print(
        f"{len(outcomes) - len(failed) - len(absent)} passed, {len(failed)} failed, {len(absent)} not possible here, "
        f"{(time.monotonic() - began) / 60:.1f} min"
    )
    if not is_whole:
        print(f"Interrupted: {len(chosen) - len(outcomes)} cases have not been run to their end.")
        return 130
    return 1 if failed or not outcomes else 0


def run(cases: list[Case], *, seed: int | None, strikes: int) -> Generator[Outcome, None, None]:
    """Run the cases in turn; after one that failed the next ones have surroundings of their own."""
    around: Surroundings | None = None
    try:
        for case in cases:
            around = around or _surroundings()
            trial = Trial(around, random.randrange(2**31) if seed is None else seed, strikes)
            print(f"{case.fault}: {case.name} (seed {trial.seed})", flush=True)
            outcome = _outcome(case, trial)
            if outcome.problem:
                print(f"the output of its processes is in {around.stack.data_dir}", flush=True)
                _close(around, keep=True)
                around = None
            yield outcome
    finally:
        if around is not None:
            _close(around)
            shutil.rmtree(around.folder, ignore_errors=True)


def _close(around: Surroundings, *, keep: bool = False) -> None:
    """Stop everything, whatever state a case has left it in; what does not stop is said, and left behind."""
    try:
        with time_limit(CLEAN_UP_SECONDS):
            around.close(keep=keep)
    except Exception:  # noqa: BLE001 - the next case has surroundings of its own
        traceback.print_exc()


class OutOfTimeError(AssertionError):
    """A case took longer than any may."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTimeError in the block after so many seconds, and again while its own clean-up hangs.

    Raises:
        OutOfTimeError: the block was not done.
    """

    def end(number: int, frame: object) -> None:
        raise OutOfTimeError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds, CLEAN_UP_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _surroundings() -> Surroundings:
    """Start them in a new folder that the database's user may pass."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    folder.chmod(0o711)
    try:
        return Surroundings(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _outcome(case: Case, trial: Trial) -> Outcome:
    began = time.monotonic()
    problem = absent = ""
    try:
        with time_limit(CASE_SECONDS):
            case.act(trial)
    except NotHere as lack:
        absent = str(lack)
        trial.notes.append(absent)
    except (Exception, AssertionError):  # noqa: BLE001 - whatever it is, the next case runs
        problem = traceback.format_exc()
        print(problem, flush=True)
    outcome = Outcome(case=case, trial=trial, problem=problem, absent=absent)
    print(
        f"   {' | '.join(outcome.cells()[2:7])} | {time.monotonic() - began:.0f} s {'; '.join(trial.notes)}", flush=True
    )
    return outcome


if __name__ == "__main__":
    sys.exit(main())
