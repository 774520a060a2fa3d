"""One sample API for each module that asks for it."""

from collections.abc import Iterator

import pytest

from tests.photos.sample_server import PHOTOS, Server, sample_api


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with sample_api("--photos", str(PHOTOS)) as running:
        yield running
