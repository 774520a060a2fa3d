"""Real servers for every test: the embedded PostgreSQL and Valkey, with a data directory of their own."""

import os
from pathlib import Path

import psycopg2
import pytest
from hypothesis import settings

# On a loaded machine the time of one example says nothing.
settings.register_profile("project", deadline=None)
settings.load_profile("project")


@pytest.fixture(scope="session", autouse=True)
def _servers():
    """Keep the servers running for the session; the last session to leave stops them."""
    from django.conf import settings as django_settings

    from config.embedded import ensure_servers

    lease = ensure_servers()
    if django_settings.EMBEDDED_POSTGRES:
        _do_without_safety_from_power_cuts(django_settings.DATA_DIR)
    yield
    if lease is not None:
        lease.release()


@pytest.fixture
def empty_queue():
    """No message of another test waits for a worker: with many of them dispatch wakes nobody twice."""
    from celery import current_app

    with current_app.connection_for_write() as broker:
        broker.default_channel.queue_purge("ingestion")


def _do_without_safety_from_power_cuts(data_dir: Path) -> None:
    """Let no commit in the tests' own database wait for the disk.

    It still survives kill -9 of any process. The stacks that tests start have databases of their own, with the settings
    that an operator's has.
    """
    from config import servers

    database = servers.addresses(data_dir).database
    connection = psycopg2.connect(
        dbname=database["NAME"], user=database["USER"], password=database["PASSWORD"],
        host=database["HOST"], port=database["PORT"] or None,
    )  # fmt: skip
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("ALTER SYSTEM SET fsync = off")
            cursor.execute("ALTER SYSTEM SET full_page_writes = off")
            cursor.execute("SELECT pg_reload_conf()")
    finally:
        connection.close()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """Have tests that commit put back what they found, instead of emptying all tables and filling them again."""
    from django.test import TransactionTestCase

    from tests.origin import Origin

    with django_db_blocker.unblock():
        origin = Origin()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _: origin.restore())
        yield


@pytest.fixture(scope="session")
def corpora() -> Path:
    """Return the folder of public test data; skips where it is absent."""
    beside = Path(__file__).resolve().parent.parent.parent / "shared" / "corpora"
    folder = Path(os.environ.get("CORPORA_DIR", beside))
    if not folder.is_dir():
        pytest.skip(f"no corpora at {folder}; set CORPORA_DIR")
    return folder
