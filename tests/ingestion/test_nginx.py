"""What nginx makes of our requests: 304 for its tags, ranges to go on with, gzip, and TLS with a private authority."""

import gzip
import os
import time
from dataclasses import replace

import pytest
import stamina

from ingestion import pipeline
from ingestion.errors import RetryLater, RunFailed
from ingestion.feeds import Feed, Upsert
from ingestion.http import Answers, Client, Retry, Transport
from ingestion.pagination import PageNumber
from ingestion.sources import Csv, Facts, Files, JsonApi, Web
from tests.faults.proxy import Manners, Proxy
from tests.ingestion.catalog import COLUMNS, counts, products, table_of
from tests.ingestion.files.shelf import QUICK
from tests.nginx import nginx, private_authority
from tests.packing import PACKED
from tests.remote import json_list

PAGES = 3
LONG_AGO = time.time() - 7200


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with nginx(tmp_path_factory.mktemp("nginx") / "server") as server:
        yield server


def put(server, name, content):
    """Put a file that is two hours old, so that its Last-Modified is a validator."""
    path = server.www / name
    path.write_bytes(content)
    os.utime(path, (LONG_AGO, LONG_AGO))


# Pages


@pytest.fixture
def shop(monkeypatch, server):
    """Return a function that syncs the pages of a location, and returns the summary and what nginx answered."""
    with table_of() as model, stamina.set_testing(True, attempts=1, cap=True):
        for number in range(1, PAGES + 1):
            put(server, f"{number}.json", json_list(products(2 * number, 2 * number + 1)))

        def sync(location, **options):
            source = JsonApi(
                url=f"{server.url}/{location}",
                pagination=PageNumber(param="page", size=2),
                answers=Answers(empty=frozenset({404})),
            )
            feed = Feed(name="shop", source=replace(source, **options), columns=COLUMNS,
                        target=Upsert(model, key="code"), skip_unchanged_pages=True)  # fmt: skip
            monkeypatch.setattr("photos.feeds.SHOP", feed, raising=False)
            before = len(server.asked())
            summary = pipeline.run_here("shop").summary
            assert summary["state"] == "succeeded", summary
            return summary, [words[2] for words in server.asked()[before:]]

        yield sync


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("location", ["pages", "untagged"])
def test_pages_that_did_not_change_are_answered_with_304(shop, server, location):
    """Of `pages` it compresses the bodies, and makes their tags weak for that; `untagged` has Last-Modified alone."""
    summary, statuses = shop(location)
    assert (statuses, summary["inserted"]) == (["200"] * 3 + ["404"], 6)
    tag = server.asked()[-2][7]
    assert tag.startswith('"W/') if location == "pages" else tag == '"-"'
    summary, statuses = shop(location)
    assert (statuses, summary["pages_skipped"]) == (["304"] * 3 + ["404"], 3)
    assert counts(summary) == {"read": 6, "unchanged": 6}
    put(server, "2.json", json_list([{"code": 4, "name": "changed"}, *products(5)]))
    os.utime(server.www / "2.json", (LONG_AGO + 60, LONG_AGO + 60))
    summary, statuses = shop(location)
    assert (statuses, counts(summary)) == (["304", "200", "304", "404"], {"read": 6, "updated": 1, "unchanged": 5})


@pytest.mark.parametrize("members", [1, 3])
def test_gzip_is_decoded_whole_with_all_its_members(server, members):
    body = json_list(products(*range(1, 900)))
    size = len(body) // members + 1
    packed = b"".join(gzip.compress(body[start : start + size]) for start in range(0, len(body), size))
    put(server, "much.json.gz", packed)
    put(server, "9.json", body)
    with Client() as client:
        for path in ("packed/much.json", "pages?page=9"):
            response = client.get(f"{server.url}/{path}", {})
            assert (response.body, response.headers["content-encoding"]) == (body, "gzip")
        put(server, "much.json.gz", packed[:-3])
    quick = Retry(attempts=1)
    with Client(retry=quick) as client, pytest.raises(RetryLater, match="gzip data end too early"):
        client.get(f"{server.url}/packed/much.json", {})


@pytest.mark.parametrize("coding", ["br", "zstd"])
def test_what_is_stored_compressed_is_decoded_whatever_was_asked_for(server, coding):
    body = json_list(products(*range(1, 900)))
    name = "much.json." + {"br": "br", "zstd": "zst"}[coding]
    put(server, name, PACKED[coding](body))
    with Client(headers={"Accept-Encoding": "identity"}) as client:
        response = client.get(f"{server.url}/{name}", {})
    assert (response.body, response.headers["content-encoding"]) == (body, coding)


# Files

ROWS = 60_000
TABLE = b"code,name\n" + b"".join(b"%d,product %d\n" % (code, code) for code in range(ROWS))


def files_at(url, **options):
    return Files(place=Web(urls=url), format=Csv(page_bytes=100_000), **QUICK, **options)


def rows_of(pages):
    return sum(len(page.records) for page in pages)


def test_a_file_goes_on_at_the_byte_where_it_stopped(server):
    put(server, "resumed.csv", TABLE)
    files = files_at(f"{server.url}/resumed.csv")
    pages = files.pages(None)
    first = [next(pages) for _ in range(3)]
    pages.close()
    before = len(server.asked())
    rest = list(files.pages(first[-1].following))
    assert rows_of(first) + rows_of(rest) == ROWS
    (get,) = (words for words in server.asked()[before:] if words[0] == "GET")
    assert (get[2], get[4][:7], int(get[3])) == ("206", '"bytes=', len(TABLE) - int(get[4][7:-2]))
    file = rest[-1].file
    assert file.size_bytes == len(TABLE)
    assert list(files.for_feed(Facts(loaded={"resumed.csv": file.version})).pages(None)) == []


def test_a_download_whose_connection_breaks_is_taken_up_again_and_never_spliced(server):
    put(server, "broken.csv", TABLE)
    # So slow that most of it is still to come after the first page, on a loaded machine too.
    slow, proxy = Manners(limit=600_000), Proxy(int(server.url.rpartition(":")[2]))
    try:
        url = f"http://127.0.0.1:{proxy.port}/broken.csv"
        proxy.manners = slow
        pages = files_at(url).pages(None)
        read = rows_of([next(pages)])
        proxy.manners = Manners()
        proxy.reset()
        assert read + rows_of(pages) == ROWS
        assert "206" in {words[2] for words in server.asked() if "broken" in words[1]}
        proxy.manners = slow
        pages = files_at(url).pages(None)
        next(pages)
        proxy.manners = Manners()
        put(server, "broken.csv", TABLE.replace(b"product", b"article"))
        os.utime(server.www / "broken.csv")
        proxy.reset()
        with pytest.raises(RetryLater, match="was changed while it was read"):
            list(pages)
    finally:
        proxy.close()


# TLS


def test_a_private_authority_and_a_certificate_of_one_s_own(tmp_path):
    pki = private_authority(tmp_path / "pki")
    others = private_authority(tmp_path / "others")
    ca = Transport(ca_file=str(pki / "ca.pem"))
    own = replace(ca, certificate_file=str(pki / "client.pem"), key_file=str(pki / "client.key"))
    foreign = replace(ca, certificate_file=str(others / "client.pem"), key_file=str(others / "client.key"))
    with nginx(tmp_path / "server", pki=pki) as server:
        put(server, "1.json", b'[{"code":1}]')

        def get(transport):
            with Client(transport=transport, retry=Retry(attempts=1)) as client:
                return client.get(f"{server.url}/pages", {"page": "1"}).body

        with pytest.raises(RetryLater, match="CERTIFICATE_VERIFY_FAILED"):
            get(Transport())
        with pytest.raises(RetryLater, match="CERTIFICATE_VERIFY_FAILED"):
            get(Transport(ca_file=str(others / "ca.pem")))
        for refused in (ca, foreign):
            with pytest.raises(RunFailed, match="answered 400"):
                get(refused)
        assert get(own) == b'[{"code":1}]'
