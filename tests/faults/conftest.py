"""One stack serves all fault tests; they run in one process, being of one group."""

import pytest

from tests.faults.surroundings import Surroundings


@pytest.fixture(scope="session")
def around(tmp_path_factory):
    around = Surroundings(tmp_path_factory.mktemp("faults"))
    yield around
    around.close()
