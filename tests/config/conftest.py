"""Data directories of their own for the tests of the embedded servers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from config import servers
from config.servers.leases import is_kept
from tests.config.server_processes import eventually, processes_of


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data directory; in the end nothing of it may run, and all of it is removed."""
    path = tmp_path / "data"
    servers.addresses(path)
    yield path
    eventually(lambda: not processes_of(path), "no process is left behind")
    # A process that ends has lost its command line before it lets go of its files.
    eventually(lambda: not path.is_dir() or not is_kept(path), "no keeper holds its lock")
    servers.discard(path)
