"""Disks that fail, and files that may not be read: tried again where that helps, and said in the system's words."""

import os
import tempfile
from pathlib import Path

import pytest

from ingestion.errors import RetryLater, RunFailed
from ingestion.sources import Csv, Disk, Files
from tests.ingestion.files.shelf import QUICK
from tests.ingestion.files.streams import rows_of


def reading(folder, pattern="*.csv", **options):
    return Files(place=Disk(folder=folder), pattern=pattern, format=Csv(**options), **QUICK)


def names(folder, pattern="**/*.csv"):
    with Disk(folder=folder).session() as session:
        return sorted(entry.name for entry in session.find(pattern))


def test_an_error_of_the_disk_is_tried_again_later():
    # The kernel's own: nothing is mapped at the first address of a process.
    with pytest.raises(RetryLater, match=r"mem cannot be read now: Input/output error \(3 tries\)") as raised:
        list(reading("/proc/self", "mem").pages(None))
    assert raised.value.blames == ""


@pytest.fixture
def anybody():
    """A folder for a user without rights, who the test is."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)
        (folder / "a.csv").write_text("code,name\n1,x\n")
        was = os.geteuid()
        try:
            yield folder, lambda: os.seteuid(65534) if was == 0 else None
        finally:
            os.seteuid(was)
            folder.chmod(0o755)


def test_a_file_that_may_not_be_read_needs_a_person(anybody):
    folder, become_nobody = anybody
    (folder / "a.csv").chmod(0)
    become_nobody()
    with pytest.raises(RunFailed, match=r"access: .*a\.csv cannot be read: Permission denied"):
        list(reading(folder).pages(None))


@pytest.mark.parametrize("mode", [0o000, 0o311], ids=["closed", "not to be listed"])
def test_a_folder_that_may_not_be_read_is_not_an_empty_one(anybody, mode):
    folder, become_nobody = anybody
    folder.chmod(mode)
    become_nobody()
    with pytest.raises(RunFailed, match=r"access: the folder .* cannot be read: Permission denied"):
        list(reading(folder).pages(None))


def test_links_that_lead_nowhere_are_no_files(tmp_path):
    (tmp_path / "a.csv").write_text("code,name\n1,x\n")
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nothing.csv")
    (tmp_path / "odd.csv").symlink_to(tmp_path / "a.csv" / "b.csv")
    assert names(tmp_path) == ["a.csv"]
    (page,) = reading(tmp_path).pages(None)
    assert rows_of(page) == [["1", "x"]]
