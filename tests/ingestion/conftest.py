"""A table of products and feeds for it, for whoever asks for them."""

import pytest
import stamina

from ingestion import pipeline
from tests.ingestion.catalog import Catalog, table_of
from tests.ingestion.hostile import FIELDS, Hostile
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
def hostile(monkeypatch):
    """A feed of a hostile remote, with a column of any text."""
    with table_of(**FIELDS) as model:
        yield Hostile(monkeypatch, model)


@pytest.fixture
def no_waiting():
    """Try each request once, without the pauses of production."""
    with stamina.set_testing(True, attempts=1, cap=True):
        yield


@pytest.fixture
def tried_twice():
    """Try each request twice, without the pauses of production."""
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


@pytest.fixture
def tried_often():
    """Try each request as often as in production, without the pauses."""
    with stamina.set_testing(True, attempts=5, cap=True):
        yield


@pytest.fixture
def sync(settings):
    """Return a function that runs the photos feed from a remote to its end, and returns the summary."""

    def sync(remote, **options):
        settings.PHOTOS_API_URL = remote.url
        return pipeline.run_here("photos", **options).summary

    return sync
