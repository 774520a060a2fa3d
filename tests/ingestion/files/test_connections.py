"""Connections that break, servers that refuse, listings that lie: resumed, retried, or failed with what to do."""

import sys
import time
from dataclasses import replace
from datetime import timedelta

import pytest

from ingestion.errors import ConfigurationError, RetryLater, RunFailed
from ingestion.feeds import env_text
from ingestion.http import Limits
from ingestion.sources import S3, Csv, Facts, Files, Ftp, Sftp, Web
from ingestion.sources.files.entries import Entry
from ingestion.sources.files.folders import Found, walk
from tests.ingestion.files import servers
from tests.ingestion.files.servers import PASSWORD, USER
from tests.ingestion.files.shelf import QUICK
from tests.remote import Raw, Remote, Reply

CONTENT = b"code,name\n" + b"".join(b"%d,product %d\n" % (code, code) for code in range(60_000))


def read(place, **options):
    files = Files(place=place, format=Csv(), **(QUICK | options))
    return sum(len(page.records) for page in files.pages(None))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.csv").write_bytes(CONTENT)
    return tmp_path


def ftp_of(port, **options):
    options = {"tls": False, "password": lambda: PASSWORD, "silence": timedelta(seconds=5)} | options
    return Ftp(host="127.0.0.1", port=port, user=USER, **options)


def test_an_ftp_transfer_that_is_cut_without_a_226_goes_on_where_it_broke(folder, monkeypatch):
    monkeypatch.setattr(servers.CuttingData, "cuts", [100_000, 300_000])
    with servers.ftp(folder) as port:
        assert read(ftp_of(port)) == 60_000
    assert servers.CuttingData.cuts == []


def test_an_ftp_transfer_that_is_always_cut_is_tried_again_later(folder, monkeypatch):
    monkeypatch.setattr(servers.CuttingData, "cuts", [5000, 0, 0, 0, 0])
    with servers.ftp(folder) as port, pytest.raises(RetryLater, match=r"FTP, a\.csv.*3 tries"):
        read(ftp_of(port))


def test_an_ftp_login_that_is_refused_and_a_server_that_is_not_there(folder):
    with servers.ftp(folder) as port:
        with pytest.raises(RunFailed, match=r"access: FTP refused 127\.0\.0\.1: 530"):
            read(ftp_of(port, password=lambda: "wrong"))
        with pytest.raises(RunFailed, match="access"):
            read(ftp_of(port), pattern="nowhere/*.csv")
    with pytest.raises(RetryLater, match="ConnectionRefusedError"):
        read(ftp_of(port))


def test_ftp_with_tls_trusts_no_other_certificate(folder, tmp_path_factory):
    pem = servers.certificate(tmp_path_factory.getbasetemp())
    with servers.ftp(folder, tls=pem) as port:
        assert read(ftp_of(port, tls=True, ca_file=str(pem))) == 60_000
        with pytest.raises(RunFailed, match=r"access: FTP, 127\.0\.0\.1: the certificate cannot be trusted"):
            read(ftp_of(port, tls=True))
        # A server that demands TLS is not talked to without it.
        with pytest.raises(RunFailed, match=r"access: FTP refused 127\.0\.0\.1: 550 SSL/TLS required"):
            read(ftp_of(port))
    with pytest.raises(ConfigurationError, match=r"nowhere\.pem"):
        read(ftp_of(port, tls=True, ca_file="nowhere.pem"))


def test_sftp_talks_to_no_server_with_another_key_and_says_who_was_refused(folder):
    with servers.sftp(folder) as (port, known):
        place = Sftp(host="127.0.0.1", port=port, user=USER, password=lambda: PASSWORD, known_hosts=known)
        assert read(place) == 60_000
        import asyncssh

        other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
        for wrong in (f"[127.0.0.1]:{port} {other}", ""):
            with pytest.raises(RunFailed, match="access: SFTP refused"):
                read(Sftp(host="127.0.0.1", port=port, user=USER, password=lambda: PASSWORD, known_hosts=wrong))
        with pytest.raises(RunFailed, match="access: SFTP refused"):
            read(Sftp(host="127.0.0.1", port=port, user=USER, password=lambda: "wrong", known_hosts=known))
        with pytest.raises(RunFailed, match="file_missing: there is no folder nowhere/"):
            read(place, pattern="nowhere/*.csv")
        with pytest.raises(ConfigurationError, match="SFTP: a key or the known hosts cannot be read"):
            read(Sftp(host="127.0.0.1", port=port, user=USER, key=lambda: "no key", known_hosts=known))
    with pytest.raises(RetryLater, match="SFTP"):
        read(place)


def test_what_differs_between_environments_may_come_from_functions(tmp_path, monkeypatch):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a.csv").write_bytes(CONTENT)
    for name, value in (("PLACE_HOST", "127.0.0.1"), ("PLACE_USER", USER), ("PLACE_FOLDER", "out")):
        monkeypatch.setenv(name, value)
    place = {name: env_text(f"PLACE_{name.upper()}") for name in ("host", "user", "folder")}
    with servers.ftp(tmp_path) as port:
        assert read(Ftp(port=port, password=lambda: PASSWORD, tls=False, **place)) == 60_000
    with servers.sftp(tmp_path) as (port, known):
        assert read(Sftp(port=port, password=lambda: PASSWORD, known_hosts=known, **place)) == 60_000
    with (
        Remote(s3_error(403, "AccessDenied")) as remote,
        pytest.raises(RunFailed, match="S3 refused out: AccessDenied"),
    ):
        read(replace(s3_of(remote), bucket=place["folder"]))
    monkeypatch.delenv("PLACE_USER")
    for kind, options in ((Ftp, {"tls": False}), (Sftp, {"known_hosts": ""})):
        with pytest.raises(ConfigurationError, match="PLACE_USER is not set"):
            read(kind(port=1, **options, **place))


def s3_of(remote):
    return S3(bucket="b", endpoint=remote.url, key_id=lambda: "key", secret=lambda: "s3cret")


def s3_error(status, code):
    return Reply(status, f"<Error><Code>{code}</Code><Message>said so</Message></Error>".encode())


@pytest.mark.parametrize(
    ("reply", "raised", "said"),
    [
        (s3_error(403, "AccessDenied"), RunFailed, "access: S3 refused b: AccessDenied: said so"),
        (s3_error(503, "SlowDown"), RetryLater, r"SlowDown: said so \(3 tries\)"),
        (s3_error(500, "InternalError"), RetryLater, "InternalError"),
        (Reply(200, b"<html>"), RetryLater, "S3, b"),
        (Raw([], end="reset"), RetryLater, "S3, b: "),
    ],
)
def test_what_s3_refuses_fails_and_what_may_pass_is_tried_again(reply, raised, said):
    with Remote(reply) as remote, pytest.raises(raised, match=said) as caught:
        read(s3_of(remote))
    assert "s3cret" not in str(caught.value)


def test_s3_asks_no_metadata_service_for_credentials(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "nowhere")
    with Remote(Reply(500)) as metadata, Remote(Reply(500)) as store:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url)
        with pytest.raises(ConfigurationError, match="Unable to locate credentials"):
            read(S3(bucket="b", endpoint=store.url))
    assert (metadata.requests, store.requests) == ([], [])


def cut_once(answer, at):
    """Answer the first download with a body that ends early."""
    cut = []

    def cutting(request):
        reply = answer(request)
        if request.method == "GET" and not cut:
            cut.append(request)
            head = [f"HTTP/1.1 {reply.status} OK", *(f"{name}: {value}" for name, value in reply.headers.items())]
            return Raw([("\r\n".join([*head, "", ""])).encode() + reply.body[:at]])
        return reply

    return cutting


@pytest.mark.parametrize("reason", ["it answered 404", "it answered 416"])
def test_the_words_beside_a_status_are_no_status(reason):
    refusal = Raw([f"HTTP/1.1 402 {reason}\r\nContent-Length: 0\r\n\r\n".encode()])
    with (
        Remote(lambda request: Reply(405) if request.method == "HEAD" else refusal) as remote,
        pytest.raises(RunFailed, match=rf"http_status: GET .* answered 402 {reason}"),
    ):
        read(Web(urls=f"{remote.url}/a.csv"))


@pytest.mark.parametrize("modified", ["Wed, 21 Oct 2015 07:28:00 -0000", "Wed, 21 Oct 2015 07:28:00", "yesterday"])
def test_a_date_without_a_zone_or_none_settles_a_file_nevertheless(modified):
    reply = Reply(body=CONTENT, headers={"Last-Modified": modified, "ETag": '"1"'})
    with Remote(reply) as remote:
        assert read(Web(urls=f"{remote.url}/a.csv"), settled_for=timedelta(minutes=1)) == 60_000


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_is_cut_goes_on_where_it_broke(folder, ranges):
    with Remote(cut_once(servers.folder_over_http(folder, ranges=ranges), 500_000)) as remote:
        assert read(Web(urls=f"{remote.url}/a.csv")) == 60_000
        gets = [request.headers.get("range") for request in remote.requests if request.method == "GET"]
    assert len(gets) == 2
    assert gets[0] is None
    assert gets[1] is not None
    assert gets[1].startswith("bytes=")


@pytest.mark.parametrize(
    ("body", "raised"),
    [(CONTENT, None), (CONTENT[:-10], "may have been cut"), (CONTENT[:-1].replace(b"\n", b"\r\n") + b"\r", None)],
    ids=["whole", "cut", "other line ends"],
)
def test_a_download_without_a_length_ends_with_a_line_break_or_may_have_been_cut(body, raised):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\n\r\n"
    answer = Raw([head, body])
    with Remote(lambda request: Reply(405) if request.method == "HEAD" else answer) as remote:
        place = Web(urls=f"{remote.url}/a.csv")
        if raised is None:
            assert read(place) == 60_000
        else:
            with pytest.raises(RetryLater, match=raised):
                read(place)


def test_a_download_that_changes_when_it_is_taken_up_again_is_not_spliced(folder):
    serve = servers.folder_over_http(folder)

    def answer(request):
        if "range" in request.headers:
            (folder / "a.csv").write_bytes(CONTENT.replace(b"product", b"article"))
        return serve(request)

    with Remote(cut_once(answer, 500_000)) as remote, pytest.raises(RetryLater, match="was changed"):
        read(Web(urls=f"{remote.url}/a.csv"))


def test_a_server_without_tags_is_read_whole_and_never_remembered(folder):
    with servers.web(folder, tags=False) as remote:
        files = Files(place=Web(urls=f"{remote.url}/a.csv"), format=Csv(), **QUICK)
        pages = list(files.pages(None))
    assert sum(len(page.records) for page in pages) == 60_000
    assert pages[-1].file is None


@pytest.mark.parametrize("ranges", [True, False])
def test_of_a_server_without_head_the_version_is_that_of_a_get_which_nobody_reads(folder, ranges):
    with servers.web(folder, head=False, ranges=ranges) as remote:
        files = Files(place=Web(urls=f"{remote.url}/a.csv"), format=Csv(), **QUICK)
        pages = list(files.pages(None))
        file = pages[-1].file
        assert sum(len(page.records) for page in pages) == 60_000
        assert (file.version[0], file.size_bytes) == ('"', len(CONTENT))
        again = files.for_feed(Facts(loaded={"a.csv": file.version}))
        assert list(again.pages(None)) == []
        remote.answer = servers.folder_over_http(folder, head=False, tags=False)
        assert len(list(again.pages(None))) == len(pages)
        (folder / "a.csv").write_bytes(b"")
        assert [len(page.records) for page in files.pages(None)] == [0]
        (folder / "a.csv").unlink()
        with pytest.raises(RunFailed, match="file_missing"):
            list(files.pages(None))


@pytest.mark.parametrize(
    ("reply", "raised", "said"),
    [
        (Reply(404), RunFailed, r"file_missing: a\.csv"),
        (Reply(401), RunFailed, "http_status: .* answered 401"),
        (Reply(302, headers={"Location": "http://169.254.169.254/"}), RunFailed, "answered 302"),
        (Reply(503), RetryLater, r"answered 503"),
    ],
)
def test_what_http_answers_besides_the_file(reply, raised, said):
    with Remote(reply) as remote, pytest.raises(raised, match=said) as caught:
        read(Web(urls=f"{remote.url}/a.csv?key=s3cret"))
    assert "s3cret" not in str(caught.value)


def trickle(head):
    yield head
    while True:
        time.sleep(0.05)
        yield b"x"


HASTY = {"silence": timedelta(seconds=5), "deadline": timedelta(seconds=0.5)}


def test_an_object_that_trickles_is_given_up():
    described = {"ETag": '"1"', "Content-Length": "1000000", "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
    head = "\r\n".join(["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in described.items()), "", ""])
    listing = (
        b"<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated><Contents><Key>a.csv</Key><Size>1000000</Size>"
        b'<LastModified>2015-10-21T07:28:00Z</LastModified><ETag>"1"</ETag></Contents></ListBucketResult>'
    )

    def answer(request):
        if "list-type" in request.query:
            return Reply(body=listing, headers={"Content-Type": "application/xml"})
        return Reply(headers=described) if request.method == "HEAD" else Raw(trickle(head.encode()))

    with (
        Remote(answer) as remote,
        pytest.raises(RetryLater, match=r"S3, a\.csv: not complete after 0\.5 s \(3 tries\)"),
    ):
        read(replace(s3_of(remote), **HASTY))


def test_an_ftp_transfer_that_trickles_is_given_up(folder):
    with (
        servers.ftp(folder, data=servers.TricklingData) as port,
        pytest.raises(RetryLater, match=r"FTP, a\.csv: not complete after 0\.5 s \(3 tries\)"),
    ):
        read(ftp_of(port, **HASTY))


def test_a_download_that_trickles_is_given_up():
    def answer(request):
        return (
            Reply(headers={"Content-Length": "1000000"})
            if request.method == "HEAD"
            else Raw(trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"))
        )

    limits = Limits(deadline=timedelta(seconds=0.3))
    with Remote(answer) as remote, pytest.raises(RetryLater, match=r"not complete after 0\.3 s"):
        read(Web(urls=f"{remote.url}/a.csv", limits=limits))


def test_two_urls_of_one_name_are_refused():
    with pytest.raises(ConfigurationError, match=r"the same path, a\.csv"):
        read(Web(urls=("http://127.0.0.1:9/a.csv?day=1", "http://127.0.0.1:9/a.csv?day=2")))


@pytest.mark.parametrize(
    "name", ["../etc/passwd", "/etc/passwd", "..", "a/b.csv", "a\nb.csv", "a\r.csv", "nul\x00.csv", "..\\x.csv", ""]
)
def test_names_in_a_listing_that_may_lead_elsewhere_are_never_used(name):
    asked = []

    def listing(folder):
        asked.append(folder)
        for is_folder in (False, True):
            yield Found(name=name, is_folder=is_folder, entry=Entry(name=f"in/{name}", handle="used", version="1"))

    found = list(walk("in/**/*", listing))
    assert asked == ["in/"]
    assert [entry.handle for entry in found] == ([] if name == ".." else [None])
    assert all(entry.problem for entry in found)


@pytest.mark.parametrize(
    ("place", "module", "extra"),
    [(S3(bucket="b"), "boto3", "s3"), (Sftp(host="127.0.0.1", user="x", known_hosts=""), "asyncssh", "sftp")],
)
def test_a_library_that_is_not_installed_is_asked_for_by_its_extra(monkeypatch, place, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=f"{module} is not installed: it is in the extra '{extra}'"):
        read(place)
