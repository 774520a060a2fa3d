"""OAuth 2 against a real server whose refresh tokens can be used once, and the credentials that are stored."""

import io
import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connection

from ingestion import credentials
from ingestion.auth import Bearer, ClientCredentials, RefreshToken
from ingestion.auth.tokens import replaced_at
from ingestion.errors import ConfigurationError, RetryLater, RunFailed
from ingestion.feeds import Feed, Upsert
from ingestion.http import Client, Retry
from ingestion.models import Credential, Run
from ingestion.pagination import SinglePage
from ingestion.sources import JsonApi
from photos.models import Photo
from tests.ingestion.oauth_server import OAuthServer
from tests.remote import Raw, Remote, Reply

pytestmark = pytest.mark.django_db(transaction=True)

CLIENT, SECRET, REFRESH = "feed & co", "hush-9f8e7d %&", "refresh-hush-1"
ONCE = Retry(attempts=1)


@pytest.fixture
def server():
    return OAuthServer(client=CLIENT, secret=SECRET, refresh=REFRESH)


@pytest.fixture
def remote(server):
    with Remote(server.answer) as remote:
        yield remote


def machine(remote, **options):
    return ClientCredentials(token_url=remote.url + "/token", client_id=CLIENT, client_secret=lambda: SECRET, **options)


def stored(remote, **options):
    return RefreshToken(
        name="orders", token_url=remote.url + "/token", client_id=CLIENT, client_secret=lambda: SECRET, **options
    )


def get(remote, auth, times=1):
    with Client(retry=ONCE, auth=auth) as client:
        for _ in range(times):
            response = client.get(remote.url + "/orders", {})
    return response.body


@pytest.mark.parametrize("client_auth", ["basic", "body"])
def test_one_token_serves_all_clients_of_a_process(remote, server, client_auth):
    auth = machine(remote, client_auth=client_auth, scope="read")
    assert [get(remote, auth, times=2) for _ in range(2)] == [b"[]"] * 2
    assert server.grants == ["client_credentials"]


def test_the_server_and_the_client_may_come_from_functions(remote, server):
    common = {"token_url": lambda: remote.url + "/token", "client_id": lambda: CLIENT, "client_secret": lambda: SECRET}
    credentials.store("orders", REFRESH)
    for auth in (ClientCredentials(**common), ClientCredentials(**common, client_auth="body")):
        assert get(remote, auth) == b"[]"
    assert get(remote, RefreshToken(name="orders", **common)) == b"[]"
    assert server.grants == ["client_credentials", "client_credentials", "refresh_token"]


def test_a_refused_token_is_made_anew_once(remote, server):
    auth = machine(remote)
    get(remote, auth)
    server.access_tokens.clear()
    assert get(remote, auth) == b"[]"
    assert server.grants == ["client_credentials"] * 2
    asked = len(remote.requests)
    server.accepts = lambda request: False
    with pytest.raises(RunFailed, match=r"http_status: .* answered 401"):
        get(remote, auth)
    assert len(remote.requests) == asked + 3  # refused, a token, refused


def test_a_token_is_replaced_before_it_ends(remote, server, monkeypatch):
    auth = machine(remote)
    get(remote, auth)

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(seconds=3600 - 359)  # a tenth before the end

    monkeypatch.setattr("ingestion.auth.oauth.datetime", Later)
    get(remote, auth)
    assert server.grants == ["client_credentials"] * 2


def test_wrong_secrets_fail_the_run_with_the_server_s_code_alone(remote):
    auth = ClientCredentials(token_url=remote.url + "/token", client_id=CLIENT, client_secret=lambda: "hush-wrong")
    with pytest.raises(RunFailed, match=r"credentials: .* 401: invalid_client") as raised:
        get(remote, auth)
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(400, b'{"error": "hush-9f8e7d of yours is wrong"}'),
        Reply(200, b"<html>hush-9f8e7d"),
        Reply(200, b"[" * 200_000),
        Reply(200, b'["hush-9f8e7d"]'),
        Reply(200, b'{"access_token": ""}'),
        Reply(200, b'{"access_token": "hush-9f8e7d", "token_type": "mac"}'),
        Reply(302, b"", {"Location": "/hush-9f8e7d"}),
    ],
    ids=lambda reply: f"{reply.status} {reply.body[:60].decode()}",
)
def test_a_strange_token_server_is_not_quoted(reply):
    with Remote(reply) as remote, pytest.raises(RunFailed, match="credentials: ") as raised:
        get(remote, machine(remote))
    assert "hush" not in str(raised.value)


def test_a_token_server_that_is_down_is_asked_later():
    with Remote(Reply(503, headers={"Retry-After": "120"})) as remote, pytest.raises(RetryLater) as raised:
        get(remote, machine(remote))
    assert raised.value.wait == timedelta(seconds=120)


# Refresh tokens


def test_a_refresh_token_is_used_once_and_the_next_one_is_stored_encrypted(remote, server):
    credentials.store("orders", REFRESH)
    assert get(remote, stored(remote)) == b"[]"
    server.access_tokens.clear()
    assert get(remote, stored(remote)) == b"[]"
    assert server.grants == ["refresh_token"] * 2
    (refresh,), (access,) = server.refresh_tokens, server.access_tokens
    assert refresh != REFRESH
    with credentials.locked("orders") as row:
        assert (row.values["refresh"], row.values["access"]) == (refresh, access)
    with connection.cursor() as cursor:
        cursor.execute("SELECT sealed FROM ingestion_credential")
        sealed = bytes(cursor.fetchone()[0])
    assert not any(secret.encode() in sealed for secret in (refresh, access, REFRESH))


def test_one_worker_refreshes_and_the_others_use_its_token(remote, server):
    credentials.store("orders", REFRESH)
    bodies, start = [], threading.Barrier(6)

    def work():
        start.wait()
        bodies.append(get(remote, stored(remote)))

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert bodies == [b"[]"] * 6
    assert server.grants == ["refresh_token"]


def test_all_workers_that_were_refused_need_one_refresh(remote, server):
    credentials.store("orders", REFRESH)
    clients = [Client(retry=ONCE, auth=stored(remote)) for _ in range(3)]
    for client in clients:
        with client:
            client.get(remote.url, {})
            server.access_tokens.clear()
    # Each client was refused with the token of the one before it, which was gone by then.
    assert server.grants == ["refresh_token"] * 3
    with clients[0] as first, clients[1] as second:
        first.get(remote.url, {})
        second.get(remote.url, {})
    assert server.grants == ["refresh_token"] * 4


def test_a_reply_without_a_refresh_token_keeps_the_old_one():
    def answer(request):
        if request.path != "/token":
            return Reply(body=b"[]")
        return Reply(body=json.dumps({"access_token": "a", "expires_in": "3600"}).encode())

    credentials.store("orders", REFRESH)
    with Remote(answer) as remote:
        assert get(remote, stored(remote)) == b"[]"
    with credentials.locked("orders") as row:
        assert row.values["refresh"] == REFRESH


def test_a_credential_that_was_never_set_is_asked_for(remote):
    with pytest.raises(ConfigurationError, match=r"manage.py credentials set orders"):
        get(remote, stored(remote))
    assert remote.requests == []


# Keys, and the command


def command(*args, given="", monkeypatch=None):
    written = io.StringIO()
    if monkeypatch:
        monkeypatch.setattr("sys.stdin", io.StringIO(given))
    call_command("credentials", *args, stdout=written)
    return written.getvalue()


def test_keys_are_rotated(settings):
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    settings.CREDENTIAL_KEYS = [old]
    credentials.store("orders", REFRESH)
    settings.CREDENTIAL_KEYS = [new, old]
    assert command("rotate") == "1 credentials are encrypted with the first key\n"
    settings.CREDENTIAL_KEYS = [new]
    with credentials.locked("orders") as row:
        assert row.values == {"refresh": REFRESH}
    settings.CREDENTIAL_KEYS = [old]
    with pytest.raises(CommandError, match="none of CREDENTIAL_KEYS decrypts the credential orders"):
        command("rotate")


@pytest.mark.parametrize(("keys", "message"), [([], "is not set"), (["hush"], "cannot be used")])
def test_without_a_usable_key_nothing_is_stored(settings, keys, message):
    settings.CREDENTIAL_KEYS = keys
    with pytest.raises(ConfigurationError, match=message) as raised:
        credentials.store("orders", REFRESH)
    assert "hush" not in str(raised.value)
    assert not Credential.objects.exists()


def test_the_command_sets_and_lists_and_shows_no_secret(monkeypatch):
    assert command("set", "orders", given=REFRESH + "\n", monkeypatch=monkeypatch) == "orders is set\n"
    with credentials.locked("orders") as row:
        assert row.values == {"refresh": REFRESH}
    listed = command()
    assert listed.startswith("orders: changed 20")
    assert REFRESH not in listed
    with pytest.raises(CommandError, match="no token"):
        command("set", "orders", given="\n", monkeypatch=monkeypatch)
    for wrong in (("set",), ("test",), ("rotate", "orders")):
        with pytest.raises(CommandError, match="takes"):
            command(*wrong)


def declared(monkeypatch, remote, token):
    orders = JsonApi(url=remote.url + "/orders", pagination=SinglePage(), retry=ONCE, auth=Bearer(lambda: token))
    feed = Feed(name="orders", source=orders, columns={"remote_id": "id"}, target=Upsert(Photo, key="remote_id"))
    monkeypatch.setattr("photos.feeds.ORDERS", feed, raising=False)


def test_the_command_reads_a_feed_s_first_page_and_loads_nothing(monkeypatch):
    with Remote(Reply(body=b'[{"id": 1}, {"id": 2}]')) as remote:
        declared(monkeypatch, remote, SECRET[:6])
        assert command("test", "orders") == "orders: the remote has answered, 2 records on the first page\n"
        assert [request.headers["authorization"] for request in remote.requests] == [f"Bearer {SECRET[:6]}"]
    assert not Run.objects.exists()
    assert not Photo.objects.exists()


def test_the_command_says_that_a_feed_s_credentials_are_refused_and_shows_no_secret(monkeypatch):
    def refuse(request):
        said = request.headers["authorization"].encode()
        return Raw([b"HTTP/1.1 401 not " + said + b"\r\nContent-Length: 0\r\n\r\n"])

    with Remote(refuse) as remote:
        declared(monkeypatch, remote, REFRESH)
        with pytest.raises(CommandError, match=r"^http_status: GET .*/orders answered 401 not …") as raised:
            command("test", "orders")
    assert REFRESH not in str(raised.value)


def test_the_command_knows_no_feed_of_another_name():
    with pytest.raises(CommandError, match="nobody"):
        command("test", "nobody")


# When a token ends

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expires", "seconds"),
    [
        (3600, 3240),  # a tenth
        (3600.5, 3240.45),
        ("3600", 3240),
        ("3600.0", 3240),
        (600, 540),  # a minute
        (300, 240),
        (100, 50),  # half of a short life
        ("2026-11-23T13:00:00Z", 3240),
        ("2026-11-23T13:00:00", 3240),
        ("Mon, 23 Nov 2026 13:00:00 GMT", 3240),
        (NOW.timestamp() + 3600, 3240),
        ("2020-01-01T00:00:00Z", 0),
        (10**400, 315_360_000 * 0.9),
        ("1e400", 315_360_000 * 0.9),
    ],
)
def test_when_a_token_is_replaced(expires, seconds):
    assert replaced_at(expires, NOW) == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize("expires", [None, True, 0, -5, "soon", "", float("nan"), [], {}])
def test_nobody_knows_when_it_ends(expires):
    assert replaced_at(expires, NOW) is None
