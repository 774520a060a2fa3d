"""A table of products and feeds for it, for whoever asks for them."""

import pytest
import stamina

from tests.ingestion.catalog import Catalog, table_of
from tests.ingestion.shop import Shop


@pytest.fixture
def catalog(monkeypatch):
    return Catalog(monkeypatch)


@pytest.fixture
def model():
    with table_of() as model:
        yield model


@pytest.fixture
def shop(monkeypatch, model):
    """Five pages, and the feed that reads them."""
    shop = Shop(monkeypatch, model, 5)
    with shop.remote:
        yield shop


@pytest.fixture
def no_waiting():
    """Try each request once, without the pauses of production."""
    with stamina.set_testing(True, attempts=1, cap=True):
        yield
