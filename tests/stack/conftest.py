"""A stack of its own for each test that starts real processes."""

import pytest

from tests.processes import running_stack


@pytest.fixture
def stack(tmp_path):
    with running_stack(tmp_path / "data") as stack:
        yield stack
