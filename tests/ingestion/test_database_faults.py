"""A database that says "not now", and one whose reply to COMMIT is lost: each chunk is loaded exactly once."""

import contextlib
import select
import socket
import threading
import time
from typing import Self

import psycopg2
import pytest
from django.db import connection

from ingestion.feeds import Append, History, Mirror, Replace, Upsert
from ingestion.models import Run
from ingestion.signals import chunk_committed
from tests.ingestion.catalog import counts, products, rows, table_of
from tests.ingestion.shop import somebody

pytestmark = pytest.mark.django_db(transaction=True)


class Proxy:
    """Forward TCP connections to the database; cut those whose COMMIT of a COPY is among `cuts`, counted from 1.

    The COMMIT is forwarded (or not), and its reply is swallowed.
    """

    def __init__(self, path: str, cuts: set[int], *, forward: bool) -> None:
        self.path, self.cuts, self.forward = path, cuts, forward
        self.commits = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self.start(self.accept)
        return self

    def __exit__(self, *error: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(timeout=10)

    def start(self, target, *arguments) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self.threads.append(thread)
        thread.start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self.path)
                self.start(self.pump, client, server)

    def pump(self, client: socket.socket, server: socket.socket) -> None:
        copied = False
        with client, server, contextlib.suppress(OSError):
            while True:
                ready, _, _ = select.select([client, server], [], [])
                if server in ready:
                    received = server.recv(65536)
                    client.sendall(received)
                else:
                    received = client.recv(65536)
                    copied = copied or b"COPY " in received
                    if copied and b"COMMIT\x00" in received:
                        copied = False
                        self.commits += 1
                        if self.commits in self.cuts:
                            return self.cut(server, received)
                    server.sendall(received)
                if not received:
                    return None

    def cut(self, server: socket.socket, commit: bytes) -> None:
        if self.forward:
            server.sendall(commit)
            server.recv(65536)  # the reply that nobody gets


@contextlib.contextmanager
def through(proxy: Proxy, monkeypatch):
    """Let Django's connections go through the proxy for the time being."""
    with proxy, monkeypatch.context() as patch:
        patch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
        patch.setitem(connection.settings_dict, "PORT", str(proxy.port))
        connection.close()
        yield
        connection.close()


def socket_path() -> str:
    info = connection.get_connection_params()
    return f"{info['host']}/.s.PGSQL.{info.get('port') or 5432}"


MODES = {
    "append": (Append, {}),
    "upsert": (Upsert, {"key": "code"}),
    "mirror": (Mirror, {"key": "code"}),
    "replace": (Replace, {"key": "code"}),
}


@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_a_lost_reply_to_commit_is_settled_by_reading_back(catalog, model, monkeypatch, mode, forward):
    """The first chunk's and the last chunk's COMMIT are cut off, before or after the server has them."""
    target, options = MODES[mode]
    heard = []

    def hear(**event):
        heard.extend(event["inserted"])

    chunk_committed.connect(hear, sender=model)
    proxy = Proxy(socket_path(), {1, 4}, forward=forward)
    with through(proxy, monkeypatch):
        summary = catalog.sync(target(model, **options), products(1, 2), products(3), products(4))
    assert (summary["state"], counts(summary)) == ("succeeded", {"read": 4, "inserted": 4})
    assert rows(model, "code") == [1, 2, 3, 4]
    assert proxy.commits >= 4 or forward
    assert sorted(heard) == ([] if mode == "append" else [1, 2, 3, 4])
    assert Run.objects.count() == 1


def test_a_lost_reply_at_the_end_of_a_history(catalog, monkeypatch):
    from django.db import models

    fields = {"code": models.BigIntegerField(), "name": models.CharField(max_length=20)}
    times = {"since": models.DateTimeField(), "until": models.DateTimeField(null=True)}
    with table_of(**fields, **times) as model:
        target = History(model, key="code", valid_from="since", valid_to="until")
        with through(Proxy(socket_path(), {1}, forward=True), monkeypatch):
            assert counts(catalog.sync(target, products(1), products(2))) == {"read": 2, "inserted": 2}
        assert rows(model, "code") == [1, 2]


def other_connection():
    return psycopg2.connect(**connection.get_connection_params())


def until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_deadlock_is_tried_again(catalog, model, caplog):
    target = Upsert(model, key="code")
    catalog.sync(target, products(1, 2))
    other, watch = other_connection(), other_connection()
    watch.autocommit = True

    def is_waiting():
        with watch.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND pid <> %s",
                [other.info.backend_pid],
            )
            return cursor.fetchone()[0]

    def cross():
        until(is_waiting)
        with other.cursor() as cursor:
            cursor.execute("UPDATE photos_order SET note = 'other' WHERE code = 1")
        other.commit()

    with other.cursor() as cursor:
        # The other one never looks for deadlocks, so the chunk is what the server gives up.
        cursor.execute("SET deadlock_timeout = '1h'; UPDATE photos_order SET note = 'other' WHERE code = 2")
    thread = threading.Thread(target=cross)
    thread.start()
    summary = catalog.sync(target, products(1, 2, name="new"))
    thread.join()
    other.close()
    watch.close()
    assert counts(summary) == {"read": 2, "updated": 2}
    assert rows(model, "code", "name", "note") == [(1, "new", "other"), (2, "new", "other")]
    assert "database error 40P01" in caplog.text


def test_a_database_that_does_not_serialize_is_tried_again(catalog, model, caplog):
    """Somebody updates a row between the snapshot of the chunk's transaction and its merge."""
    target = Upsert(model, key="code")
    catalog.sync(target, products(1, 2))
    others = []

    def interfere(execute, statement, params, many, context):
        if not others and isinstance(statement, str) and "differing" in statement:
            with somebody() as cursor:
                cursor.execute("UPDATE photos_order SET note = 'other' WHERE code = 2")
            others.append(True)
        return execute(statement, params, many, context)

    with connection.cursor() as cursor:
        cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    try:
        with connection.execute_wrapper(interfere):
            summary = catalog.sync(target, products(1, 2, name="new"))
    finally:
        connection.close()
    assert counts(summary) == {"read": 2, "updated": 2}
    assert rows(model, "code", "name", "note") == [(1, "new", "own"), (2, "new", "other")]
    assert caplog.text.count("database error 40001") == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("code", ["40001", "55P03", "57P01"])
def test_a_failure_that_may_pass_is_tried_again_with_nothing_left_of_the_first_try(catalog, model, mode, code):
    target, options = MODES[mode]
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE SEQUENCE tries; CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF nextval('tries') <= 2 THEN RAISE EXCEPTION 'not now' USING ERRCODE = '{code}'; END IF;"
            " RETURN NULL; END $$;"
            "CREATE TRIGGER fail AFTER INSERT ON photos_order FOR EACH STATEMENT EXECUTE FUNCTION fail()"
        )
    try:
        summary = catalog.sync(target(model, **options), products(1), products(2, 3))
        assert counts(summary) == {"read": 3, "inserted": 3}
        assert rows(model, "code") == [1, 2, 3]
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION fail() CASCADE; DROP SEQUENCE tries")


def test_a_database_that_is_read_only_for_a_while_is_waited_out(catalog, model, caplog):
    """As in a failover: the connection breaks, and new ones reach a server that does not take writes yet."""
    connection.ensure_connection()
    pid = connection.connection.info.backend_pid
    operator = other_connection()
    operator.autocommit = True
    name = connection.settings_dict["NAME"]
    back = threading.Timer(0.3, lambda: alter("RESET default_transaction_read_only"))

    def alter(change):
        with operator.cursor() as cursor:
            cursor.execute(f'ALTER DATABASE "{name}" {change}')

    def fail_over(number):
        if number == 2:
            alter("SET default_transaction_read_only = on")
            with operator.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
            back.start()

    try:
        summary = catalog.sync(Upsert(model, key="code"), products(1), products(2), before=fail_over)
    finally:
        back.join()
        alter("RESET default_transaction_read_only")
        operator.close()
    assert counts(summary) == {"read": 2, "inserted": 2}
    assert "database error 25006" in caplog.text


# The signal


def test_a_signal_tells_the_keys_of_each_committed_chunk(catalog, model):
    target = Mirror(model, key="code", allow_delete_share=0.5)
    catalog.sync(target, products(1, 2, 3))
    heard = []

    def hear(sender, **event):
        assert not connection.in_atomic_block
        heard.append((sender, event["feed"], event["inserted"], event["updated"], event["deleted"]))

    chunk_committed.connect(hear, sender=model)
    summary = catalog.sync(target, products(1) + products(2, name="new"), products(4, 5, 4))
    assert heard == [(model, "catalog", (), (2,), ()), (model, "catalog", (4, 5), (), (3,))]
    assert counts(summary) == {"read": 5, "inserted": 2, "updated": 1, "unchanged": 1, "deleted": 1, "duplicates": 1}


def test_a_receiver_that_fails_changes_nothing(catalog, model, caplog):
    def fail(**event):
        raise LookupError("in the receiver")

    chunk_committed.connect(fail, sender=model)
    assert counts(catalog.sync(Upsert(model, key="code"), products(1), products(2))) == {"read": 2, "inserted": 2}
    assert "in the receiver" in caplog.text


def test_no_signal_is_sent_for_what_is_rolled_back(catalog, model):
    heard = []

    def hear(**event):
        heard.append(event)

    chunk_committed.connect(hear, sender=model)
    assert counts(catalog.sync(Upsert(model, key="code"), products(1), dry_run=True)) == {"read": 1, "inserted": 1}
    assert heard == []
