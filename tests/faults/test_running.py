"""How cases are run: one that hangs is ended, and costs nobody else anything; interrupted, they leave nothing."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.faults.__main__ import OutOfTimeError, time_limit
from tests.processes import ROOT, processes_of, wait_until


def test_a_case_that_hangs_is_ended():
    with pytest.raises(OutOfTimeError, match=r"not done after 0.05 s"), time_limit(0.05):
        time.sleep(30)  # what hangs; nobody waits for its end


def test_a_case_in_time_is_left_alone():
    with time_limit(0.05):
        pass
    time.sleep(0.1)  # longer than the limit, which would strike now if it were still set


@pytest.fixture
def temporary():
    """A folder for temporary files that the database's user may pass, as pytest's own is not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        yield Path(name)


def test_sigterm_ends_it_as_ctrl_c_does(temporary):
    command = [sys.executable, "-m", "tests.faults", "--only", "10,000 pages"]
    environment = os.environ | {"TMPDIR": str(temporary)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as running:
        wait_until(lambda: list(temporary.glob("faults-*/data/worker-1.log")), what="a worker")
        [folder] = temporary.glob("faults-*")
        started = processes_of(folder / "data")
        # As make does to what it started, after whoever has signalled the whole group.
        running.terminate()
        running.terminate()
        output, _ = running.communicate(timeout=30)
    assert output.endswith("Interrupted: 1 cases have not been run to their end.\n")
    assert running.returncode == 130
    assert not folder.exists()
    assert started
    assert not [command for pid, command in started.items() if Path(f"/proc/{pid}").exists()]
