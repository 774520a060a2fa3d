"""A marker secret that goes to servers beside the remote, or comes from them, and what is not even sent."""

import json
import sys
from dataclasses import replace
from datetime import timedelta

import asyncssh
import pytest

from ingestion import credentials, runs
from ingestion.auth import ApiKey, Bearer, Custom, Hmac, Login, RefreshToken
from ingestion.http import Answers, Transport
from ingestion.models import Trigger
from ingestion.pagination import SinglePage
from ingestion.sources import S3, Csv, Excel, Export, Files, Ftp, Json, JsonApi, Sftp, Web, Xml
from tests.ingestion.files import servers
from tests.ingestion.leaks import FEWER, HEADER, HTTP_FAILURES, MARKER, QUICK, SHORT, bench_with, echo, raw
from tests.remote import Remote, Reply


@pytest.fixture
def bench(monkeypatch, transactional_db):
    with bench_with(monkeypatch) as bench:
        yield bench


def api(url, **options):
    return JsonApi(**{"url": url, "pagination": SinglePage()} | QUICK | SHORT | options)


def said_back(request):
    """Refuse in the status line, with all headers: nothing of a response is shown as readily."""
    said = " ".join(f"{name}={value}" for name, value in sorted(request.headers.items()))
    return raw(f"HTTP/1.1 403 {said} {request.query}\r\nContent-Length: 0\r\n\r\n")


def user_info(bench):
    with Remote(said_back) as remote:
        assert bench.fails(api(remote.url.replace("//", f"//ada:{HEADER}@")))


def schemes(bench):
    signed = Hmac(key=lambda: HEADER, text=lambda request: request.url.encode())
    for auth in (Bearer(lambda: HEADER), ApiKey(key=lambda: HEADER), signed):
        with Remote(said_back) as remote:
            assert "answered 403" in bench.fails(api(remote.url, auth=auth))
    for auth in (Bearer(lambda: HEADER + "\n"), ApiKey(key=lambda: MARKER), ApiKey(key=lambda: "\r\n" + HEADER)):
        with Remote(said_back) as remote:
            assert "cannot be requested" in bench.fails(api(remote.url, auth=auth))


def refresh_tokens(bench):
    def refused(status, error):
        told = {"error": error, "error_description": HEADER}
        return lambda r: Reply(status, json.dumps(told | {"said": echo(r)}).encode())

    def granted(request):
        return Reply(body=json.dumps({"access_token": HEADER, "refresh_token": HEADER + "-2"}).encode())

    failures = [refused(400, "invalid_grant"), refused(400, HEADER), refused(401, "invalid_client"), granted]
    for number, given in enumerate([*failures, *FEWER]):
        credentials.store(f"marker-{number}", HEADER)

        def answer(request, given=given):
            return given(request) if request.path == "/token" else said_back(request)

        for client_auth in ("basic", "body"):
            with Remote(answer) as remote:
                auth = RefreshToken(
                    name=f"marker-{number}",
                    token_url=f"{remote.url}/token",
                    client_id="ada",
                    client_secret=lambda: HEADER,
                    client_auth=client_auth,
                )
                assert bench.fails(api(remote.url, auth=auth))


def cookies(bench):
    def answer(request):
        if request.path == "/login":
            return Reply(headers={"Set-Cookie": f"session={HEADER}; Path=/"})
        return said_back(request)

    with Remote(answer) as remote:
        auth = Login(url=f"{remote.url}/login", fields={"user": "ada", "password": lambda: MARKER})
        assert "answered 403" in bench.fails(api(remote.url, auth=auth))


def proxies(bench):
    def refuses(request):
        said = request.headers["proxy-authorization"]
        return raw(f"HTTP/1.1 407 {said} {HEADER}\r\nContent-Length: 0\r\n\r\n")

    with Remote(refuses) as proxy:
        through = Transport(proxy=proxy.url.replace("//", f"//ada:{HEADER}@"))
        for scheme in ("http", "https"):
            assert "407" in bench.fails(api(f"{scheme}://orders.example/items", transport=through))
    assert [request.method for request in proxy.requests if request.method == "CONNECT"]
    for gone in (through.proxy, f"http://ada:{HEADER}@[proxy"):
        assert bench.fails(api("http://orders.example/", transport=Transport(proxy=gone)))
    for broken in (f"ada:{HEADER}@proxy", f"ftp://ada:{HEADER}@proxy"):
        assert "proxy cannot be used" in bench.fails(api("http://orders.example/", transport=Transport(proxy=broken)))


def redirects(bench):
    with Remote(said_back) as other:
        signed = f"{other.url}/file?signature={HEADER}"
        for allowed in ((other.url,), ()):
            transport = Transport(redirects=1, other_origins=allowed)
            with Remote(Reply(302, headers={"Location": signed})) as remote:
                assert bench.fails(api(remote.url, transport=transport))
                files = Files(
                    place=Web(urls=f"{remote.url}/a.csv", transport=transport, **SHORT), format=Csv(), **QUICK
                )
                assert bench.fails(files)


def exports(bench):
    def export(remote, **options):
        known = {"id": ("id",), "state": ("state",), "reason": ("why",), "ready": frozenset({"done"})}
        return Export(
            url=f"{remote.url}/exports?key={HEADER}",
            status=f"{remote.url}/exports/{{export}}?key={HEADER}",
            headers={"X-Token": HEADER},
            body={"secret": MARKER},
            link=("link",),
            format=Csv(),
            failed=frozenset({"failed"}),
            **known | QUICK | SHORT | options,
        )

    for answer in FEWER:
        with Remote(answer) as remote:
            assert bench.fails(export(remote))

    def failing(request):
        if request.method == "POST":
            return Reply(body=b'{"id": 1}')
        return Reply(body=json.dumps({"state": "failed", "why": echo(request)}).encode())

    with Remote(failing) as remote:
        assert "export_failed" in bench.fails(export(remote))
    with Remote(said_back) as storage:

        def done(request):
            link = f"{storage.url}/1.csv?signature={HEADER}"
            return Reply(body=json.dumps({"id": 1, "state": "done", "link": link}).encode())

        with Remote(done) as remote:
            assert bench.fails(export(remote))
            transport = Transport(other_origins=(storage.url,))
            assert "answered 403" in bench.fails(export(remote, transport=transport))


def formats(bench):
    for written in (Json(), Xml(record="item"), Excel(), Csv()):
        for answer in (HTTP_FAILURES["not_json: at once"], HTTP_FAILURES["shape"], chunks_that_say_it):
            with Remote(answer) as remote:
                place = Web(urls=f"{remote.url}/items?key={HEADER}", headers={"X-Token": HEADER}, **SHORT)
                assert bench.run(Files(place=place, format=written, **QUICK))["state"] in ("failed", "succeeded")


def chunks_that_say_it(request):
    """Break the framing of the body with what was sent."""
    if request.method == "HEAD":
        return Reply()
    return raw(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na,b\r\n{HEADER}\r\n")


def unexpected(bench):
    def crash(text):
        raise LookupError(text)

    with Remote(lambda r: Reply(200, echo(r).encode())) as remote:
        url = f"{remote.url}/items?key={HEADER}"
        assert bench.fails(api(url, auth=Custom(lambda request: crash(request.url)))).startswith("LookupError")
        answers = Answers(body=lambda response: crash(response.body.decode()))
        assert bench.fails(api(url, answers=answers, headers={"X-Token": HEADER})).startswith("LookupError")


def addresses(bench):
    for url in (
        f"http:/orders/items?key={HEADER}",
        f"ada:{HEADER}@orders/items",
        f"ftp://ada:{HEADER}@orders/items",
        f"http://ada:{HEADER}@[::1/items",
        f"http://ada:{HEADER}@127.0.0.1:99999/items?key={HEADER}",
        f"http://ada:{HEADER}@10.0.0.1/items?key={HEADER}",
        f"http://ada:{HEADER}@orders.invalid/items?key={HEADER}",
    ):
        for source in (api(url), Files(place=Web(urls=url, **SHORT), format=Csv(), **QUICK)):
            assert not bench.fails(source).startswith("ValueError")
        place = S3(bucket="b", endpoint=url, key_id=lambda: "AKIA", secret=lambda: "secret")
        assert bench.fails(Files(place=place, format=Csv(), **QUICK))
    place = S3(bucket="b", endpoint="http://127.0.0.1:1", key_id=lambda: HEADER + "\n", secret=lambda: HEADER)
    assert bench.fails(Files(place=place, format=Csv(), **QUICK))


MAKES_CREDENTIALS = """
import datetime, json, sys, uuid
ends_at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=5)
made = {"AccessKeyId": "AKIA0123", "SecretAccessKey": sys.argv[1], "SessionToken": f"{sys.argv[1]}-{uuid.uuid4()}"}
print(json.dumps(made | {"Version": 1, "Expiration": ends_at.isoformat()}))
"""


def what_boto3_finds(bench, folder, patch):
    """Credentials of the environment, of a file, and of a command that makes new ones for each request."""
    kept = {"aws_access_key_id": "AKIA0123", "aws_secret_access_key": HEADER, "aws_session_token": f"{HEADER}-token"}
    (folder / "kept").write_text("[kept]\n" + "".join(f"{name} = {value}\n" for name, value in kept.items()))
    (folder / "made.py").write_text(MAKES_CREDENTIALS)
    command = f"{sys.executable} -S {folder / 'made.py'} {HEADER}"
    (folder / "config").write_text(f"[profile made]\ncredential_process = {command}\n")
    tokens = []

    def says_it(request):
        tokens.append(request.headers["x-amz-security-token"])
        body = f"<Error><Code>AccessDenied</Code><Message>{HEADER} and {tokens[-1]}.</Message></Error>"
        return Reply(403, body.encode(), {"Content-Type": "application/xml"})

    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "kept"))
    patch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    variables = {name.upper(): value for name, value in kept.items()}
    for given in (variables, {"AWS_PROFILE": "kept"}, {"AWS_PROFILE": "made"}):
        with patch.context() as environment, Remote(says_it) as remote:
            for name, value in given.items():
                environment.setenv(name, value)
            place = S3(bucket="b", endpoint=remote.url)
            assert "S3 refused b: AccessDenied: … and …." in bench.fails(Files(place=place, format=Csv(), **QUICK))
    assert tokens[:2] == [f"{HEADER}-token"] * 2
    assert tokens[2].startswith(f"{HEADER}-")


def ftp_in_its_own_words(bench, folder, patch):
    """Give other replies than those that pyftpdlib would, with the password in them."""
    place = Ftp(host="127.0.0.1", user="ada", password=lambda: HEADER, tls=False, silence=timedelta(seconds=2))
    for of, instead in (("230", "530"), ("150", "451"), ("226", "451"), ("226", "550"), ("213", "501"), ("200", "421")):

        def respond(handler, reply, *_, of=of, instead=instead):
            told = f"{instead} {HEADER}" if reply.startswith(of) else reply
            handler.push(f"{told}\r\n".encode())  # without its own log

        patch.setattr(servers.FTPHandler, "respond", respond)
        with servers.ftp(folder) as port:
            assert bench.fails(Files(place=replace(place, port=port), format=Csv(), **QUICK))


def sftp_in_its_own_words(bench, folder, patch):
    def fails_with(error):
        def fail(*_):
            raise error

        return fail

    for owner, name, error in (
        (asyncssh.SFTPServer, "scandir", asyncssh.SFTPPermissionDenied(HEADER)),
        (asyncssh.SFTPServer, "open", asyncssh.SFTPFailure(HEADER)),
        (asyncssh.SFTPServer, "read", asyncssh.SFTPFailure(HEADER)),
        (asyncssh.SSHServer, "auth_completed", asyncssh.DisconnectError(2, HEADER)),
    ):
        with patch.context() as patched:
            patched.setattr(owner, name, fails_with(error))
            with servers.sftp(folder) as (port, known):
                place = Sftp(host="127.0.0.1", port=port, user="ada", password=lambda: HEADER, known_hosts=known)
                assert bench.fails(Files(place=place, format=Csv(), **QUICK))


def test_nothing_that_others_say_is_written_down(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(servers, "USER", "ada")
    monkeypatch.setattr(servers, "PASSWORD", HEADER)
    (tmp_path / "a.csv").write_text("code,name\n1,a\n")
    user_info(bench)
    schemes(bench)
    refresh_tokens(bench)
    cookies(bench)
    proxies(bench)
    redirects(bench)
    exports(bench)
    formats(bench)
    unexpected(bench)
    addresses(bench)
    what_boto3_finds(bench, tmp_path, monkeypatch)
    ftp_in_its_own_words(bench, tmp_path, monkeypatch)
    sftp_in_its_own_words(bench, tmp_path, monkeypatch)
    runs.request("photos", trigger=Trigger.COMMAND)  # a message for the broker
    bench.check(places=60)
