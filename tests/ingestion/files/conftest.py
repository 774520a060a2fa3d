"""A feed of files with a table of its own."""

import pytest

from tests.ingestion.catalog import table_of
from tests.ingestion.files.shelf import Shelf


@pytest.fixture
def shelf(monkeypatch, tmp_path, transactional_db):
    with table_of() as model:
        (tmp_path / "in").mkdir()
        yield Shelf(monkeypatch, model, tmp_path / "in")
