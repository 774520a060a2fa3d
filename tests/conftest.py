"""Real servers for every test: the embedded PostgreSQL and Valkey, with a data directory of their own."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# On a loaded machine the time of one example says nothing.
settings.register_profile("project", deadline=None)
settings.load_profile("project")


@pytest.fixture(scope="session", autouse=True)
def _servers():
    """Keep the servers running for the session; the last session to leave stops them."""
    from config.embedded import ensure_servers

    lease = ensure_servers()
    yield
    if lease is not None:
        lease.release()


@pytest.fixture(scope="session")
def corpora() -> Path:
    """Return the folder of public test data; skips where it is absent."""
    beside = Path(__file__).resolve().parent.parent.parent / "shared" / "corpora"
    folder = Path(os.environ.get("CORPORA_DIR", beside))
    if not folder.is_dir():
        pytest.skip(f"no corpora at {folder}; set CORPORA_DIR")
    return folder
