"""A marker secret, sent in every way to remotes that fail in every way and say it back: nobody writes it down."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from ingestion.auth import ApiKey, Basic, ClientCredentials, Custom, Login
from ingestion.cleaning import computed
from ingestion.http import Rate, Transport
from ingestion.pagination import LinkHeader, NextUrl, PageNumber, SinglePage
from ingestion.sources import S3, Connection, Csv, Files, Ftp, GraphQL, JsonApi, Sftp, Soap, Web
from tests.ingestion import soap_server
from tests.ingestion.files import servers
from tests.ingestion.leaks import FEWER, HEADER, HTTP_FAILURES, MARKER, QUICK, SHORT, START, bench_with, echo
from tests.remote import Remote, Reply


@pytest.fixture
def bench(monkeypatch, transactional_db):
    with bench_with(monkeypatch) as bench:
        yield bench


def rest(remote, **options):
    """Return a source that sends the marker wherever a feed can put it."""
    host = remote.url.removeprefix("http://")
    defaults = {
        "url": f"http://ada:{HEADER}@{host}/items?key={HEADER}",
        "pagination": PageNumber(param="page", size=2),
        "headers": {"X-Token": HEADER},
        "params": {"token": MARKER},
        "auth": Basic(user="ada", password=lambda: MARKER),
    }
    return JsonApi(**defaults | QUICK | SHORT | options)


def rest_requests(bench, *, post):
    body = {"method": "POST", "body": {"filter": {"secret": MARKER}}} if post else {}
    errors = []
    for answer in HTTP_FAILURES.values():
        with Remote(answer) as remote:
            errors.append(bench.fails(rest(remote, **body)))
    assert len(errors) == len(HTTP_FAILURES)
    assert bench.fails(rest(remote, **body)).endswith("(2 tries)")  # nobody listens any more
    with Remote(lambda r: Reply(302, headers={"Location": f"/items?again={HEADER}"})) as remote:
        url = f"{remote.url}/items?key={HEADER}"
        assert "redirects" in bench.fails(rest(remote, url=url, transport=Transport(redirects=2), **body))


def keys_in_links(bench):
    def answer(request):
        assert request.query["api_key"] == HEADER
        if "page" in request.query:
            return Reply(500, echo(request).encode())
        more = f"/items?page=2&api_key={HEADER}"
        body = {"items": [{"code": 1, "name": "a"}], "next": more}
        return Reply(body=json.dumps(body).encode(), headers={"Link": f'<{more}>; rel="next"'})

    key = ApiKey(key=lambda: HEADER, param="api_key")
    with Remote(answer) as remote:
        options = {"auth": key, "records": ("items",), "params": {}, "url": f"{remote.url}/items"}
        for pagination in (LinkHeader(), NextUrl(url=("next",))):
            error = bench.fails(rest(remote, pagination=pagination, **options))
            assert "answered 500" in error


def records_and_crashes(bench):
    records = [{"code": "x", "name": "a"}, {"code": 2, "name": "b"}]
    pages = {"1": records, "2": [{"code": 3, "name": "c", "new": 1}]}

    def answer(request):
        return Reply(body=json.dumps(pages.get(request.query["page"], [])).encode())

    def fails(record):
        raise ValueError(record["code"])

    def crash(request):
        secret = MARKER  # what a traceback with local variables would show
        raise LookupError(len(secret))

    with Remote(answer) as remote:
        summary = bench.run(rest(remote))
        assert (summary["state"], summary["inserted"], summary["rejected"]) == ("succeeded", 2, 1)
        summary = bench.run(rest(remote), columns={"code": "code", "name": computed(fails)})
        assert (summary["state"], summary["rejected"]) == ("succeeded", 3)
        assert bench.fails(rest(remote, auth=Custom(crash))).startswith("LookupError")
        budget = Rate(name="marker", requests=100, within=timedelta(seconds=1))
        assert bench.run(rest(remote, rates=(budget,)))["state"] == "succeeded"


def tokens_and_logins(bench):
    def token(request):
        return Reply(
            body=json.dumps({"access_token": HEADER, "refresh_token": HEADER, "token_type": "Bearer"}).encode()
        )

    tokens = [token, *(HTTP_FAILURES[name] for name in ("http_status: GET", "500", "not_json", "shape", "no response"))]
    for number, given in enumerate(tokens):
        for refuse in FEWER if given is token else FEWER[:1]:

            def answer(request, given=given, refuse=refuse):
                return given(request) if request.path == "/token" else refuse(request)

            with Remote(answer) as remote:
                url = f"{remote.url}/token"
                machine = ClientCredentials(
                    token_url=url, client_id=f"feed-{number}", client_secret=lambda: MARKER, client_auth="body"
                )
                login = Login(url=url, fields={"password": lambda: MARKER}, token=("access_token",))
                for auth in (machine, login):
                    assert bench.fails(rest(remote, auth=auth, url=f"{remote.url}/items", headers={}, params={}))


def graphql(bench):
    def source(remote):
        return GraphQL(
            url=f"{remote.url}/graphql",
            query="query ($secret: String) { products(secret: $secret) { nodes { code name } } }",
            records=("products",),
            pagination=Connection(size=2),
            variables={"secret": MARKER},
            headers={"X-Token": HEADER},
            **QUICK | SHORT,
        )

    failures = [
        *FEWER,
        lambda r: Reply(200, json.dumps({"errors": [{"message": echo(r)}]}).encode()),
        lambda r: Reply(400, json.dumps({"errors": [{"message": echo(r)}]}).encode()),
        lambda r: Reply(200, json.dumps({"errors": echo(r)}).encode()),
        lambda r: Reply(400, echo(r).encode()),
    ]
    for answer in failures:
        with Remote(answer) as remote:
            assert bench.fails(source(remote))


def soap(bench):
    def source(remote):
        return Soap(
            wsdl=f"{remote.url}/service?wsdl&key={HEADER}",
            operation="GetItems",
            records=("items", "item"),
            pagination=SinglePage(),
            arguments={"request": {"page": 1, "size": 2}},
            user="reader",
            password=lambda: MARKER,
            headers={"X-Token": HEADER},
            **QUICK | SHORT,
        )

    failures = [
        *FEWER,
        lambda r: Reply(500, soap_server.fault(f"{HEADER} {START}%/".replace("<", ""))),
        lambda r: Reply(200, soap_server.fault("wrong password " + MARKER)),
    ]
    stock = soap_server.Stock(items=[])
    for refuse in failures:

        def answer(request, refuse=refuse):
            return stock.answer(request) if request.method == "GET" else refuse(request)

        for remote in (Remote(answer), Remote(refuse)):  # of the call, and of the WSDL
            with remote:
                assert bench.fails(source(remote))


def files_behind_urls(bench):
    for answer in FEWER:
        with Remote(answer) as remote:
            place = Web(
                urls=f"{remote.url}/items.csv?signature={HEADER}",
                headers={"X-Token": HEADER},
                auth=Basic(user="ada", password=lambda: MARKER),
                **SHORT,
            )
            assert bench.fails(Files(place=place, format=Csv(), **QUICK))


def buckets(bench):
    def says_it(request):
        body = f"<Error><Code>AccessDenied</Code><Message>{HEADER} {request.headers['authorization']}</Message></Error>"
        return Reply(403, body.encode(), {"Content-Type": "application/xml"})

    for answer in (says_it, lambda r: replace(says_it(r), status=500), *HTTP_FAILURES.values()):
        with Remote(answer) as remote:
            place = S3(
                bucket="b",
                endpoint=remote.url,
                key_id=lambda: HEADER,
                secret=lambda: HEADER,
                silence=timedelta(milliseconds=150),
            )
            assert bench.fails(Files(place=place, format=Csv(), **QUICK))


def ftp_and_sftp(bench, tmp_path):
    with servers.ftp(tmp_path) as port:
        place = Ftp(host="127.0.0.1", port=port, user="ada", password=lambda: HEADER, tls=False)
        assert bench.fails(Files(place=place, format=Csv(), **QUICK))
    assert bench.fails(Files(place=place, format=Csv(), **QUICK))
    with servers.sftp(tmp_path) as (port, known):
        place = Sftp(host="127.0.0.1", port=port, user="ada", password=lambda: HEADER, known_hosts=known)
        assert bench.fails(Files(place=place, format=Csv(), **QUICK))
        assert bench.fails(Files(place=replace(place, key=lambda: f"-----BEGIN {HEADER}"), format=Csv(), **QUICK))
    assert bench.fails(Files(place=place, format=Csv(), **QUICK))


def test_nothing_that_was_sent_is_written_down(bench, tmp_path):
    for post in (False, True):
        rest_requests(bench, post=post)
    keys_in_links(bench)
    records_and_crashes(bench)
    tokens_and_logins(bench)
    graphql(bench)
    soap(bench)
    files_behind_urls(bench)
    buckets(bench)
    ftp_and_sftp(bench, tmp_path)
    bench.check(places=70)
