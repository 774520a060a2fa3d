"""Which addresses servers of files may have: private ones, but not those where clouds have their metadata."""

import socket
from datetime import timedelta

import pytest

from ingestion.errors import RunFailed
from ingestion.sources import S3, Csv, Files, Ftp, Sftp
from tests.ingestion.files import servers
from tests.ingestion.files.servers import PASSWORD, USER
from tests.ingestion.files.shelf import QUICK
from tests.remote import Remote, Reply

HOST = "files.example"
METADATA = "169.254.169.254"


@pytest.fixture
def looked_up(monkeypatch):
    """Give HOST the addresses of each look at it, one after the other; each of these is a list."""
    answers: list[list[str]] = []
    real = socket.getaddrinfo

    def lookup(host, port, *args, **options):
        if host != HOST:
            return real(host, port, *args, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answers.pop(0)]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return answers


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"code\n1\n2\n")
    return tmp_path


def read(place):
    return sum(len(page.records) for page in Files(place=place, format=Csv(), **QUICK).pages(None))


def ftp_of(port, **options):
    options = {"tls": False, "password": lambda: PASSWORD, "silence": timedelta(seconds=5)} | options
    return Ftp(host=HOST, port=port, user=USER, **options)


def sftp_of(port, known):
    return Sftp(host=HOST, port=port, user=USER, password=lambda: PASSWORD, known_hosts=known)


def s3_of(url):
    return S3(bucket="b", endpoint=url, key_id=lambda: "key", secret=lambda: "s3cret")


def test_one_link_local_address_among_others_is_refused(looked_up):
    with Remote(Reply()) as remote:
        url = remote.url.replace("127.0.0.1", HOST)
        port = int(url.rpartition(":")[2])
        for place in (ftp_of(port), ftp_of(port, tls=True), sftp_of(port, ""), s3_of(url)):
            looked_up[:] = [["127.0.0.1", METADATA]]
            with pytest.raises(RunFailed, match=rf"private_address: {HOST} .* {METADATA}, which is link-local"):
                read(place)
            assert looked_up == []
        assert remote.accepted == 0


def test_an_address_that_the_operator_allows_is_connected_to(settings, looked_up, folder):
    settings.ALLOWED_PRIVATE_HOSTS = [HOST]
    looked_up[:] = [["127.0.0.1", METADATA]] * 2
    with servers.ftp(folder) as port:
        assert read(ftp_of(port)) == 2


def test_the_first_address_that_answers_is_taken(looked_up, folder):
    looked_up[:] = [["127.0.0.2", "127.0.0.1"]] * 3
    with servers.ftp(folder) as port:
        assert read(ftp_of(port)) == 2
    with servers.sftp(folder) as (port, known):
        assert read(sftp_of(port, known.replace("127.0.0.1", HOST))) == 2
    assert looked_up == []


def test_ftp_connects_to_the_address_that_was_looked_at(looked_up, folder):
    looked_up[:] = [["127.0.0.1"], ["127.0.0.1"], [METADATA]]  # for the listing, the file, and what must not be asked
    with servers.ftp(folder) as port:
        assert read(ftp_of(port)) == 2
    assert looked_up == [[METADATA]]


def test_a_certificate_has_to_have_the_name_and_not_the_address(looked_up, folder, tmp_path_factory):
    pem = servers.certificate(tmp_path_factory.getbasetemp())
    looked_up[:] = [["127.0.0.1"]]
    with servers.ftp(folder, tls=pem) as port, pytest.raises(RunFailed, match="cannot be trusted") as raised:
        ftp_of(port, tls=True, ca_file=str(pem)).connect()
    assert "Hostname mismatch" in str(raised.value.__cause__)


def test_sftp_connects_to_the_address_that_was_looked_at_and_knows_the_key_by_the_name(looked_up, folder):
    with servers.sftp(folder) as (port, known):
        looked_up[:] = [["127.0.0.1"], [METADATA]]
        assert read(sftp_of(port, known.replace("127.0.0.1", HOST))) == 2
        assert looked_up == [[METADATA]]
        looked_up[:] = [["127.0.0.1"]]
        with pytest.raises(RunFailed, match="access: SFTP refused"):
            read(sftp_of(port, known.replace("127.0.0.1", "other.example")))


def test_s3_looks_at_the_name_for_each_request(looked_up):
    listing = Reply(body=b"<ListBucketResult><Name>b</Name><IsTruncated>true</IsTruncated>"
                    b"<NextContinuationToken>t</NextContinuationToken></ListBucketResult>")  # fmt: skip
    with Remote(listing) as remote:
        # Twice for the first page: boto3 looks the name up itself when it connects.
        looked_up[:] = [["127.0.0.1"], ["127.0.0.1"], [METADATA]]
        with pytest.raises(RunFailed, match="private_address"):
            read(s3_of(remote.url.replace("127.0.0.1", HOST)))
        assert len(remote.requests) == 1
