"""Refresh tokens that are spent while nobody has stored the next one: killed, refused, rolled back, or no database."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from ingestion import credentials
from ingestion.auth import RefreshToken
from ingestion.errors import RetryLater, RunFailed
from ingestion.http import Client, Retry
from ingestion.models import Credential
from tests.ingestion.oauth_server import OAuthServer
from tests.remote import Remote, Reply

pytestmark = pytest.mark.django_db(transaction=True)

REFRESH = "refresh-hush-1"


class Killed(BaseException):
    """What no code catches."""


@pytest.fixture
def server():
    credentials.store("orders", REFRESH)
    return OAuthServer(client="feed", secret="hush", refresh=REFRESH)


@pytest.fixture
def remote(server):
    with Remote(server.answer) as remote:
        yield remote


def get(remote):
    auth = RefreshToken(name="orders", token_url=f"{remote.url}/token", client_id="feed", client_secret=lambda: "hush")
    with Client(retry=Retry(attempts=1), auth=auth) as client:
        return client.get(f"{remote.url}/orders", {}).body


def killed_before_the_store(remote, monkeypatch):
    """Ask for a token and end where only memory has it, as a process does that is killed there."""

    def kill(*args):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(credentials.Locked, "save", kill)
        with pytest.raises(Killed):
            get(remote)


def asked(*, seconds_ago):
    Credential.objects.update(asked_at=datetime.now(UTC) - timedelta(seconds=seconds_ago))


def listed(capsys):
    call_command("credentials")
    return capsys.readouterr().out


def test_that_a_token_is_sent_is_committed_before_it_is(remote, server):
    seen = []
    told = server.token

    def token(request):
        seen.append(Credential.objects.get().asked_at)
        connection.close()
        return told(request)

    server.token = token
    get(remote)
    assert len(seen) == 1
    assert seen[0] is not None
    assert Credential.objects.get().asked_at is None


def test_the_old_token_goes_on_where_its_server_still_takes_it(remote, server, monkeypatch):
    killed_before_the_store(remote, monkeypatch)
    # Replies get lost: until the new one is used the old one is as good.
    server.refresh_tokens.add(REFRESH)
    assert get(remote) == b"[]"
    row = Credential.objects.get()
    assert (row.asked_at, row.refused_at) == (None, None)


def test_a_token_whose_successor_was_lost_is_a_person_s_business_and_both_sides_say_so(
    remote, server, monkeypatch, capsys
):
    killed_before_the_store(remote, monkeypatch)
    assert "sent 2" in listed(capsys)
    # Whoever asked may be alive, and lack nothing but its database.
    with pytest.raises(RetryLater, match="may yet store the next refresh token of orders") as later:
        get(remote)
    assert later.value.wait == timedelta(seconds=30)
    asked(seconds_ago=61)
    with pytest.raises(RunFailed, match=r"credentials: .* 400: invalid_grant .* never stored: .* log in again"):
        get(remote)
    told = listed(capsys)
    assert "log in again, and set it" in told
    assert "hush" not in told
    # Said again by each run, with the same words.
    with pytest.raises(RunFailed, match=r"never stored: .* manage\.py credentials set orders"):
        get(remote)
    server.refresh_tokens.add("another")
    credentials.store("orders", "another")
    assert get(remote) == b"[]"
    assert "refused" not in listed(capsys)


def test_a_token_that_was_revoked_is_no_lost_one(remote, server, capsys):
    server.refresh_tokens.clear()
    with pytest.raises(RunFailed, match=r"credentials: .* 400: invalid_grant .* log in again") as raised:
        get(remote)
    assert "never stored" not in str(raised.value)
    assert "sent" not in listed(capsys)
    assert "refused 2" in listed(capsys)


def test_a_wrong_secret_is_not_a_login(remote, server):
    server.authenticate_client = lambda *args, **kwargs: False
    with pytest.raises(RunFailed, match="invalid_client") as raised:
        get(remote)
    assert "log in" not in str(raised.value)
    assert Credential.objects.get().refused_at is None


def test_a_database_that_is_lost_while_the_token_is_asked_for_gets_it_when_it_is_back(remote, server):
    told = server.token

    def token(request):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND state = 'idle in transaction'"
            )
        connection.close()
        return told(request)

    server.token = token
    assert get(remote) == b"[]"
    with credentials.locked("orders") as row:
        assert {row.values["refresh"]} == server.refresh_tokens
        assert row.asked_at is None


def test_what_somebody_has_set_meanwhile_stays():
    credentials.store("orders", "set by hand")
    credentials.succeed("orders", spent=REFRESH, values={"refresh": "of a worker that was away"})
    with credentials.locked("orders") as row:
        assert row.values == {"refresh": "set by hand"}


def test_a_dry_run_that_is_rolled_back_keeps_the_token(remote, server):
    with transaction.atomic():
        assert get(remote) == b"[]"
        transaction.set_rollback(True)
    with credentials.locked("orders") as row:
        assert {row.values["refresh"]} == server.refresh_tokens


def test_an_answer_that_is_no_token_leaves_the_note(server):
    strange = Reply(body=json.dumps({"access_token": ""}).encode())
    with Remote(strange) as remote, pytest.raises(RunFailed, match="without a bearer token"):
        get(remote)
    assert Credential.objects.get().asked_at is not None
