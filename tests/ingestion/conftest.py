"""A table of products and a feed for it, for whoever asks for them."""

import pytest

from tests.ingestion.catalog import Catalog, table_of


@pytest.fixture
def catalog(monkeypatch):
    return Catalog(monkeypatch)


@pytest.fixture
def model():
    with table_of() as model:
        yield model
