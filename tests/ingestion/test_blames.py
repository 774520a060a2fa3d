"""What of a remote a failure is laid to: the host, one request, or nothing of the feed's own."""

import socket
import threading
from contextlib import closing

import pytest

from ingestion.auth import ClientCredentials
from ingestion.errors import RetryLater
from ingestion.hosts import host_of
from ingestion.http import Client, Retry
from ingestion.sources import S3, Csv, Files, Ftp, Sftp, Web
from tests.remote import Remote, Reply

ONCE = Retry(attempts=1)
HOST = "127.0.0.1"


def s3(url: str) -> S3:
    return S3(bucket="exports", endpoint=url, key_id=lambda: "id", secret=lambda: "secret")


def blamed(place) -> str:
    with pytest.raises(RetryLater) as failure:
        next(Files(place=place, format=Csv(), retry=ONCE).pages(None))
    return failure.value.blames


@pytest.fixture
def closed_port():
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.mark.parametrize("kind", ["ftp", "sftp", "s3", "web"])
def test_a_place_of_files_that_refuses_connections_is_a_host_that_fails(closed_port, kind):
    place = {
        "ftp": Ftp(host=HOST, port=closed_port, tls=False),
        "sftp": Sftp(host=HOST, port=closed_port, user="ada", known_hosts="", password=lambda: "secret"),
        "s3": s3(f"http://{HOST}:{closed_port}"),
        "web": Web(urls=f"http://{HOST}:{closed_port}/photos.csv"),
    }[kind]
    assert blamed(place) == "host"
    assert host_of(Files(place=place, format=Csv())) == f"{HOST}:{closed_port}"


@pytest.mark.parametrize(
    ("greeting", "blames"), [(b"421 too many connections\r\n", "host"), (b"", "host"), (b"450 busy\r\n", "request")]
)
def test_an_ftp_server_says_whether_it_is_out_of_service(greeting, blames):
    with socket.create_server((HOST, 0)) as server:

        def greet():
            connection, _ = server.accept()
            with closing(connection):
                connection.sendall(greeting)

        thread = threading.Thread(target=greet)
        thread.start()
        assert blamed(Ftp(host=HOST, port=server.getsockname()[1], tls=False)) == blames
        thread.join()


@pytest.mark.parametrize(
    ("status", "code", "blames"),
    [
        (503, "ServiceUnavailable", "host"), (500, "InternalError", "request"),
        # It is asked too fast, and works.
        (503, "SlowDown", ""), (429, "TooManyRequests", ""),
    ],
)  # fmt: skip
def test_a_bucket_that_is_asked_too_fast_does_not_fail(status, code, blames):
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    with Remote(Reply(status=status, body=body)) as remote:
        assert blamed(s3(remote.url)) == blames


@pytest.mark.parametrize(
    ("origin", "blames"), [("localhost", ""), (f"{HOST}:1", ""), (HOST, ""), (f"{HOST}:{{port}}", "host")]
)
def test_who_gives_tokens_is_not_the_feeds_host(closed_port, origin, blames):
    """Unless it is the same: by the name and the port in the URL."""
    token_url = f"http://{HOST}:{closed_port}/token"
    auth = ClientCredentials(token_url=token_url, client_id="feed", client_secret=lambda: "secret")
    url = f"http://{origin.format(port=closed_port)}/orders"
    with Client(retry=ONCE, auth=auth, origins=(url,)) as client, pytest.raises(RetryLater, match="/token") as failure:
        client.get(url, {})
    assert failure.value.blames == blames
