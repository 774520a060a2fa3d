"""Credentials as remotes see them, and where they are never seen."""

import base64
import hashlib
import hmac
import json
import logging
from dataclasses import replace

import pytest
import stamina
from django.conf import settings as django_settings
from django.db import connection
from kombu import Connection

from ingestion import pipeline
from ingestion.auth import ApiKey, Basic, Bearer, Custom, Hmac, Login
from ingestion.errors import ConfigurationError, RunFailed
from ingestion.feeds import env_text
from ingestion.http import Client, Retry
from photos import feeds
from photos.sample_api import photo
from tests.remote import Raw, Remote, Reply, in_turn, json_pages

GOOD = Reply(body=b"[]")
SECRET = "hush-9f8e7d6c5b4a"


def secret():
    return SECRET


def asked(auth, answer=GOOD, path="/photos?x=1", times=1):
    with Remote(answer) as remote, Client(auth=auth, retry=Retry(attempts=1)) as client:
        for _ in range(times):
            client.get(remote.url + path, {})
    return remote.requests[-1]


def test_basic_and_bearer():
    pair = base64.b64encode(f"ada:{SECRET}".encode()).decode()
    for user in ("ada", lambda: "ada"):
        assert asked(Basic(user=user, password=secret)).headers["authorization"] == f"Basic {pair}"
    assert asked(Bearer(secret)).headers["authorization"] == f"Bearer {SECRET}"


def test_api_keys_in_headers_and_queries():
    assert asked(ApiKey(key=secret)).headers["x-api-key"] == SECRET
    assert asked(ApiKey(key=secret, header="X-Token")).headers["x-token"] == SECRET
    assert asked(ApiKey(key=lambda: "a b&c", param="key")).query == {"x": "1", "key": "a b&c"}
    assert asked(ApiKey(key=secret, param="key"), path="/").query == {"key": SECRET}


@pytest.mark.parametrize("encoding", ["hex", "base64"])
def test_signatures(encoding):
    def text(request):
        return f"{request.method} {request.url.partition('/photos')[1]}".encode()

    digest = hmac.new(SECRET.encode(), b"GET /photos", hashlib.sha256)
    expected = digest.hexdigest() if encoding == "hex" else base64.b64encode(digest.digest()).decode()
    request = asked(Hmac(key=secret, text=text, encoding=encoding, prefix="v1="))
    assert request.headers["x-signature"] == f"v1={expected}"


def test_a_signature_nobody_can_make_is_a_mistake_of_the_feed():
    with pytest.raises(ConfigurationError, match="crc32"):
        Hmac(key=secret, text=lambda request: b"", digest="crc32")


def test_a_function_of_the_feed_s_own():
    def sign(request):
        return replace(request, headers={**request.headers, "X-Length": str(len(request.url))})

    assert int(asked(Custom(sign)).headers["x-length"]) > 20


# Logging in


def session_server(*, token=None):
    """Answer as a remote whose sessions end after two requests."""
    sessions = {}

    def answer(request):
        if request.path == "/login":
            form = json.loads(request.body) if token else request.body.decode()
            if SECRET not in str(form):
                return Reply(403)
            name = f"s{len(sessions)}"
            sessions[name] = 2
            if token:
                return Reply(body=json.dumps({"data": {"token": name}}).encode())
            cookies = f"lang=de; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Path=/, sid={name}; HttpOnly"
            return Reply(302, headers={"Set-Cookie": cookies, "Location": "/home"})
        given = request.headers.get("authorization" if token else "cookie", "")
        name = given.rpartition(" ")[2].rpartition("=")[2]
        sessions[name] = sessions.get(name, 0) - 1
        return GOOD if sessions[name] >= 0 else Reply(401)

    return answer


@pytest.mark.parametrize("token", [(), ("data", "token")], ids=["cookie", "token"])
def test_a_session_is_begun_and_begun_again_when_it_ends(token):
    with (
        Remote(session_server(token=token)) as remote,
        Client(
            auth=Login(
                url=(lambda: remote.url + "/login") if token else remote.url + "/login",
                fields={"user": "ada", "password": secret},
                as_json=bool(token),
                token=token,
            ),
            retry=Retry(attempts=1),
        ) as client,
    ):
        for _ in range(5):
            client.get(remote.url + "/photos", {})
        assert [request.path for request in remote.requests].count("/login") == 3


@pytest.mark.parametrize(
    ("reply", "token"),
    [
        (Reply(403, SECRET.encode()), ()),
        (Reply(200), ()),
        (Reply(200, b'{"data": {}}'), ("data", "token")),
        (Reply(200, b"<html>"), ("token",)),
        (Reply(200, b"[" * 200_000), ("token",)),
    ],
)
def test_a_login_that_gives_nothing_fails_the_run(reply, token):
    with (
        Remote(reply) as remote,
        pytest.raises(RunFailed, match="credentials: ") as raised,
        Client(auth=Login(url=remote.url, fields={"password": secret}, token=token)) as client,
    ):
        client.get(remote.url, {})
    assert SECRET not in str(raised.value)


# Secrets in files


def test_a_secret_comes_from_the_environment_or_from_a_file(monkeypatch, tmp_path):
    monkeypatch.setenv("ORDERS_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(ConfigurationError, match="the file that ORDERS_TOKEN_FILE names cannot be read"):
        env_text("ORDERS_TOKEN")()
    (tmp_path / "token").write_text(SECRET + "\n")
    assert env_text("ORDERS_TOKEN")() == SECRET
    monkeypatch.setenv("ORDERS_TOKEN", "first")
    assert env_text("ORDERS_TOKEN")() == "first"
    with pytest.raises(ConfigurationError, match="OTHER_TOKEN is not set"):
        env_text("OTHER_TOKEN")()


# Where secrets are never seen

SCHEMES = {
    "basic": lambda remote: Basic(user=SECRET, password=secret),
    "bearer": lambda remote: Bearer(secret),
    "header": lambda remote: ApiKey(key=secret),
    "query": lambda remote: ApiKey(key=secret, param="key"),
    "login": lambda remote: Login(url=remote.url + "/login?key=" + SECRET, fields={"password": secret}),
}
FAULTS = {
    "good": lambda: json_pages([photo(n) for n in range(1, 4)]),
    "refused": lambda: Reply(401, SECRET.encode()),
    "down": lambda: Reply(503, SECRET.encode()),
    "cut": lambda: Raw([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n["]),
    "redirect": lambda: Reply(302, headers={"Location": f"http://{SECRET}@example.com/{SECRET}"}),
    "damaged": lambda: Reply(body=b"no gzip", headers={"Content-Encoding": "gzip"}),
    "not JSON": lambda: Reply(body=f"<html>token={SECRET}".encode()),
}


def everything_stored():
    """Return the rows of all tables, and all values of Redis."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            yield from map(repr, cursor.fetchall())
    with Connection(django_settings.CELERY_BROKER_URL) as broker:
        redis = broker.default_channel.client
        yield from (repr((key, redis.dump(key))) for key in redis.scan_iter())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_secret_is_logged_or_stored(settings, monkeypatch, caplog, scheme, fault):
    caplog.set_level(logging.DEBUG)
    login = Reply(headers={"Set-Cookie": f"sid={SECRET}"})
    failing = FAULTS[fault]()
    answer = failing if callable(failing) else in_turn(failing)

    with Remote(lambda request: login if request.path == "/login" else answer(request)) as remote:
        settings.PHOTOS_API_URL = remote.url
        source = replace(feeds.PHOTOS.source, auth=SCHEMES[scheme](remote), retry=Retry(attempts=2))
        monkeypatch.setattr(feeds, "PHOTOS", replace(feeds.PHOTOS, source=source))
        with stamina.set_testing(True, attempts=2, cap=True):
            summary = pipeline.run_here("photos").summary
    assert summary["state"] == ("succeeded" if fault == "good" else "failed")
    assert remote.requests
    shown = [
        json.dumps(summary),
        caplog.text,
        repr([record.__dict__ for record in caplog.records]),
    ]
    assert "photos" in shown[0] + shown[1]
    assert [text for text in [*shown, *everything_stored()] if SECRET in text] == []
