"""Addresses that a remote may lead to: public ones, and those that the operator has allowed."""

import socket
import subprocess
import sys
import textwrap
from ipaddress import ip_address

import pytest

from ingestion.errors import RunFailed
from ingestion.http import Client, Transport
from ingestion.http.network import is_allowed, is_link_local, is_public
from tests.processes import ROOT
from tests.remote import Remote, Reply

GOOD = Reply(body=b"[]")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "100.127.255.255", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1",
        "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "::", "::1", "fe80::1", "fe80::1%1", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "2001:db8::1", "100::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:7f00:1::",
    ],
)  # fmt: skip
def test_what_is_not_public(address):
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "93.184.216.34", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "2606:4700::1111",
     "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"],
)  # fmt: skip
def test_what_is_public(address):
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["169.254.0.0", "169.254.169.254", "169.254.255.255", "100.100.100.200", "fe80::1", "febf::1", "fd00:ec2::254",
     "fd20:ce::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1"],
)  # fmt: skip
def test_what_is_link_local(address):
    assert is_link_local(ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["169.253.255.255", "169.255.0.0", "127.0.0.1", "10.0.0.1", "192.168.1.1", "100.100.100.199", "1.1.1.1", "::1",
     "fd00:ec2::253", "fec0::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"],
)  # fmt: skip
def test_what_is_not_link_local(address):
    assert not is_link_local(ip_address(address))


@pytest.mark.parametrize(
    ("entry", "host", "address", "expected"),
    [
        ("api.intern", "API.intern", "10.0.0.1", True),
        ("api.intern", "evil.example", "10.0.0.1", False),
        ("10.0.0.0/8", "any.example", "10.255.0.1", True),
        ("10.0.0.0/8", "any.example", "11.0.0.1", False),
        ("127.0.0.1", "any.example", "::ffff:127.0.0.1", True),
        ("[::1]", "localhost", "::1", True),
        ("::1", "localhost", "127.0.0.1", False),
        ("", "any.example", "127.0.0.1", False),
    ],
)
def test_what_the_operator_allows(entry, host, address, expected):
    assert is_allowed(host, ip_address(address), [entry]) == expected


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "127.1"])
def test_every_way_to_write_a_private_address_is_refused(settings, host):
    settings.ALLOWED_PRIVATE_HOSTS = []
    with Remote(GOOD) as remote, Client() as client:
        with pytest.raises(RunFailed, match="private_address") as raised:
            client.get(remote.url.replace("127.0.0.1", host) + "/?key=hush", {})
        assert remote.accepted == 0
    assert "ALLOWED_PRIVATE_HOSTS" in str(raised.value)
    assert "hush" not in str(raised.value)


def test_an_allowed_name_is_connected_to(settings):
    settings.ALLOWED_PRIVATE_HOSTS = ["localhost"]
    with Remote(GOOD) as remote, Client() as client:
        assert client.get(remote.url.replace("127.0.0.1", "localhost"), {}).body == b"[]"
        with pytest.raises(RunFailed, match="private_address"):
            client.get(remote.url, {})


def test_a_redirect_to_a_private_address_is_refused(settings):
    with Remote(GOOD) as other, Remote(Reply(302, headers={"Location": other.url})) as remote:
        start = remote.url.replace("127.0.0.1", "localhost")
        settings.ALLOWED_PRIVATE_HOSTS = ["localhost"]
        connection = Transport(redirects=1, other_origins=(other.url,))
        with Client(transport=connection) as client, pytest.raises(RunFailed, match="private_address"):
            client.get(start, {})
        assert other.accepted == 0


def test_a_name_with_one_private_address_among_others_is_refused(settings, monkeypatch):
    settings.ALLOWED_PRIVATE_HOSTS = []
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("93.184.216.34", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)
    with Client() as client, pytest.raises(RunFailed, match=r"private_address: .*127\.0\.0\.1"):
        client.get("http://both.example/", {})


def test_the_address_that_was_looked_at_is_the_one_connected_to(settings, monkeypatch):
    """The second look at a name would find another address (DNS rebinding)."""
    settings.ALLOWED_PRIVATE_HOSTS = ["127.0.0.1"]
    names = []
    real = socket.getaddrinfo

    def rebinding(host, *args, **options):
        if host == "rebinding.example":
            names.append(host)
            host = "127.0.0.1" if len(names) == 1 else "127.0.0.2"
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with Remote(GOOD) as remote, Client() as client:
        assert client.get(remote.url.replace("127.0.0.1", "rebinding.example"), {}).body == b"[]"
    assert names == ["rebinding.example"]
    assert remote.requests[0].headers["host"].startswith("rebinding.example")


CANARY = """
    import os, subprocess
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "addr", "add", "169.254.169.254/32", "dev", "lo"], check=True)
    os.environ.update(DJANGO_SETTINGS_MODULE="tests.settings", SECRET_KEY="x" * 50, DEBUG="on",
        DATABASE_URL="postgres://nobody@127.0.0.1/none", REDIS_URL="redis://127.0.0.1/0")
    import django, socket
    django.setup()
    from ingestion.errors import IngestionError
    from ingestion.http import Client, Transport
    from ingestion.pagination import LinkHeader
    from ingestion.sources import S3, Csv, Files, Ftp, JsonApi, Sftp, Web
    from tests.remote import Remote, Reply
    canary = socket.create_server(("169.254.169.254", 80))
    canary.settimeout(0.5)

    def try_to(read):
        try:
            read()
        except IngestionError as error:
            print(str(error).partition(":")[0])

    hosts = "169.254.169.254", "[::ffff:169.254.169.254]", "2852039166"
    for host in hosts:
        url, name = f"http://{host}/latest", host.strip("[]")
        with Client() as client:
            try_to(lambda: client.get(url, {}))
        for place in (
            Web(urls=url),
            Ftp(host=name, port=80),
            Ftp(host=name, port=80, tls=False),
            Sftp(host=name, port=80, user="reader", known_hosts=""),
            S3(bucket="bucket", endpoint=url, key_id=lambda: "id", secret=lambda: "secret"),
        ):
            try_to(lambda: next(Files(place=place, pattern="*", format=Csv()).pages(None)))
        trusting = Transport(redirects=1, other_origins=(f"http://{host}",))
        with Remote(Reply(302, headers={"Location": url})) as remote, Client(transport=trusting) as client:
            try_to(lambda: client.get(remote.url, {}))
        linked = Reply(body=b"[{}]", headers={"Link": f'<{url}>; rel="next"'})
        with Remote(linked) as remote:
            source = JsonApi(url=remote.url, pagination=LinkHeader(hosts=(name,)), transport=trusting)
            try_to(lambda: list(source.pages(None)))
            assert len(remote.requests) == 1
    try:
        canary.accept()
        print("asked")
    except TimeoutError:
        print("silence")
    # The canary does sing when it is asked.
    socket.create_connection(("169.254.169.254", 80)).close()
    canary.accept()
"""


def test_a_canary_at_the_address_of_cloud_metadata_gets_no_request():
    unshare = ["unshare", "--net"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no right to make a network namespace")
    finished = subprocess.run(
        [*unshare, sys.executable, "-c", textwrap.dedent(CANARY)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.stderr == ""
    assert finished.stdout.split() == ["private_address"] * 3 * 8 + ["silence"]
