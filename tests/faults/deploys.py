"""Workers of an older commit beside those of this one, on this one's database: fault 23."""

import io
import subprocess
import tarfile
from pathlib import Path

from tests.faults.catalogue import NotHere, Trial, case
from tests.faults.killing import kill_owner, strike_until_done
from tests.faults.surroundings import Surroundings, Worker
from tests.processes import ROOT


@case(23, is_random=True)
def _beside_the_last_migration(trial: Trial) -> None:
    """A worker of the commit before the newest migration beside a new one; whichever works is killed at random."""
    [newest, *_] = commits("--diff-filter=A", "--", ":(glob)*/migrations/*.py")
    beside(trial, git("rev-parse", f"{newest}^").decode().strip())


@case(23, is_random=True)
def _beside_the_oldest(trial: Trial) -> None:
    """As before, with a worker of the oldest commit that has these tests, and all migrations since."""
    [*_, oldest] = commits("--diff-filter=A", "--", "tests/faults/app/apps.py")
    beside(trial, oldest)


def beside(trial: Trial, commit: str) -> None:
    """Let an old and a new worker take runs from each other, until all strikes are spent."""
    around = trial.around
    # Called so by the oldest.
    source = around.stack.environment["FAULTS_API_URL"]
    folder = check_out(around, commit)
    with around.workers() as [new]:
        old = around.worker(wrapper=("env", "-C", str(folder)), FAULTS_URL=source)
        try:
            old.wait_until_ready()
            workers: list[Worker] = [old, new]
            struck = {old.name: 0, new.name: 0}

            def strike() -> bool:
                owner = kill_owner(around, workers)
                if owner is not None:
                    struck[owner.name] += 1
                return owner is not None

            strike_until_done(trial, strike)
        finally:
            old.kill()
    trial.notes.append(
        f"{commit[:9]}: {struck[old.name]} times the old one had to leave, {struck[new.name]} the new one"
    )
    assert min(struck.values()), trial.notes


def commits(*options: str) -> list[str]:
    """Return commits of this repository, the newest first.

    Raises:
        NotHere: its history is not here.
    """
    shallow = git("rev-parse", "--is-shallow-repository").decode().strip()
    found = git("log", "--format=%H", *options).decode().split()
    if shallow != "false" or not found:
        raise NotHere("takes a clone with its whole history, and this one is shallow")
    return found


def git(*arguments: str) -> bytes:
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotHere(f"takes git and a clone of the repository: {error}") from None


def check_out(around: Surroundings, commit: str) -> Path:
    """Return a new folder with the files of the commit."""
    folder = around.folder / f"at-{commit[:9]}"
    with tarfile.open(fileobj=io.BytesIO(git("archive", commit))) as files:
        files.extractall(folder, filter="data")
    return folder
