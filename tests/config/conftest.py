"""Data directories of their own for the tests of the embedded servers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from config import servers
from tests.config.server_processes import eventually, processes_of


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data directory; in the end nothing of it may run, and all of it is removed."""
    path = tmp_path / "data"
    servers.addresses(path)
    yield path
    eventually(lambda: not processes_of(path), "no process is left behind")
    servers.discard(path)
