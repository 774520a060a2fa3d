"""BAD_INPUT.md, "Protocol", row by row: from a remote's bytes to table, quarantine, run and cursor.

Every page is a chunk of its own. What fails a run comes on its second page: the first one stays, as does the cursor.
"""

import json
import os

import pytest

from ingestion import pipeline
from ingestion.cleaning import text
from ingestion.feeds import Feed, Upsert
from ingestion.models import Part, Reject, SourceFile
from ingestion.pagination import LinkHeader, NextUrl, PageNumber
from ingestion.sources import Connection, Csv, Disk, Files, GraphQL, JsonApi, Soap, Web, Xml
from tests.ingestion import graphql_server, soap_server
from tests.ingestion.catalog import COLUMNS, counts, products, rows, table_of
from tests.remote import Remote, Reply, json_list

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def bad(monkeypatch):
    with table_of() as model:
        yield Bad(monkeypatch, model)


class Bad:
    """Runs a feed of a source to its end, and says what is left of it."""

    def __init__(self, monkeypatch, model):
        self._monkeypatch, self.model = monkeypatch, model

    def sync(self, source, **columns):
        feed = Feed(name="bad", source=source, columns=COLUMNS | columns, target=Upsert(self.model, key="code"),
                    chunk_rows=1)  # fmt: skip
        self._monkeypatch.setattr("photos.feeds.BAD", feed, raising=False)
        self.summary = pipeline.run_here("bad").summary

    def names(self):
        return dict(rows(self.model, "code", "name"))

    def assert_failed(self, code, *, codes=(1, 2)):
        """Assert that the run failed with a clear error, and that what came before is there and stays."""
        assert self.summary["state"] == "failed"
        assert self.summary["error"].startswith(f"{code}: "), self.summary["error"]
        assert rows(self.model, "code") == list(codes)
        assert not Reject.objects.exists()
        cursor = Part.objects.get().cursor
        assert (cursor and cursor["pages"]) == (1 if codes else None)

    def assert_loaded(self, *codes):
        assert (self.summary["state"], counts(self.summary)) == (
            "succeeded",
            {"read": len(codes), "inserted": len(codes)},
        )
        assert rows(self.model, "code") == list(codes)


# XML: entity bombs, external entities, DTD

DOCUMENT_TYPES = [
    '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY x "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>',
    '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
    '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd">',
    "<!DOCTYPE a>",
]


@pytest.mark.parametrize("document_type", DOCUMENT_TYPES)
def test_a_document_type_in_a_file_fails(bad, document_type):
    entity = "&x;" if "ENTITY x" in document_type else "x"
    body = f"<?xml version='1.0'?>{document_type}<a><item><code>1</code><name>{entity}</name></item></a>".encode()
    with Remote(Reply(body=body)) as remote:
        bad.sync(Files(place=Web(urls=f"{remote.url}/a.xml"), format=Xml(record="item")))
    bad.assert_failed("xml_dtd", codes=())


@pytest.mark.parametrize("document_type", DOCUMENT_TYPES)
def test_a_document_type_in_an_answer_of_soap_fails(bad, document_type):
    body = soap_server.envelope(soap_server.response([soap_server.item("3", "x")])).decode()
    trapped = body.replace("?>", f"?>{document_type}", 1).encode()
    sync_soap(bad, soap_items(4), special=lambda page, _: Reply(body=trapped) if page == 2 else None)
    bad.assert_failed("xml_dtd")


# SOAP: Fault in a 200, xsi:nil, one element where a list is expected


def soap_items(count):
    return [soap_server.item(f"{number}", f"item {number}") for number in range(1, count + 1)]


def sync_soap(bad, items, *, special=lambda page, namespace: None, **columns):
    pages = PageNumber(param="request.page", size=2, size_param="request.size", total=("total",))
    with soap_server.serve(soap_server.Stock(items=items, special=special)) as remote:
        wsdl = f"{remote.url}/service?wsdl"
        bad.sync(Soap(wsdl=wsdl, operation="GetItems", records=("items", "item"), pagination=pages), **columns)


def test_a_fault_in_a_200_fails(bad):
    sync_soap(bad, soap_items(4), special=lambda page, _: Reply(body=soap_server.fault("no")) if page == 2 else None)
    bad.assert_failed("soap_fault")


def test_nil_is_null(bad):
    items = [soap_server.item("1", "a"), soap_server.item("2", "b", "2.50")]
    assert 'xsi:nil="true"' in items[0]
    sync_soap(bad, items, note=text("price", default="none"))
    bad.assert_loaded(1, 2)
    assert rows(bad.model, "code", "note") == [(1, "none"), (2, "2.50")]


def test_one_element_where_a_list_is_expected_is_one_record(bad):
    sync_soap(bad, soap_items(1))
    bad.assert_loaded(1)


# GraphQL: errors beside partial data, null node, union types

QUERY = """query ($first: Int!, $after: String) { catalogue { products(first: $first, after: $after) {
  nodes { __typename ... on Item { code name price } ... on Service { code name hours } }
  pageInfo { endCursor hasNextPage } } } }"""


def sync_graphql(bad, products, **columns):
    with graphql_server.serve(graphql_server.Stock(products=products)) as url:
        source = GraphQL(url=url, query=QUERY, records=("catalogue", "products"), pagination=Connection(size=2))
        bad.sync(source, **columns)


def graphql_items(*codes):
    return [graphql_server.Item(code=f"{code}", name=f"item {code}", amount=f"{code}.50") for code in codes]


def test_errors_beside_partial_data_fail(bad):
    broken = graphql_server.Item(code="4", name="broken", broken=True)
    sync_graphql(bad, [*graphql_items(1, 2, 3), broken])
    bad.assert_failed("graphql_errors")


def test_a_null_node_is_quarantined(bad):
    sync_graphql(bad, [*graphql_items(1), None, *graphql_items(3)])
    assert (bad.summary["state"], counts(bad.summary)) == ("succeeded", {"read": 3, "inserted": 2, "rejected": 1})
    (reject,) = Reject.objects.all()
    assert (reject.reason, bytes(reject.raw), reject.page, reject.position) == ("not_an_object", b"null", 1, 1)
    assert bad.names() == {1: "item 1", 3: "item 3"}


def test_members_of_a_union_are_loaded_with_what_each_has(bad):
    service = graphql_server.Service(code="2", name="repair", hours=3)
    sync_graphql(bad, [*graphql_items(1), service], note=text("price", default="no price"))
    bad.assert_loaded(1, 2)
    assert rows(bad.model, "code", "note") == [(1, "1.50"), (2, "no price")]


# Next link: other host, //host, file:, downgrade, user info, malformed, two rel=next

LINKS = {
    "other host": "http://127.0.0.2:9/3",
    "no scheme": "//127.0.0.2/3",
    "file": "file:///etc/passwd",
    "another port": "http://127.0.0.1:9/3",
    "user info": "http://user:hush@{host}/3",
    "malformed": "http://[::1",
    "no URL": "/a b",
}


@pytest.mark.parametrize("is_header", [False, True])
@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
def test_a_next_link_that_leads_elsewhere_fails(bad, link, is_header):
    def answer(request):
        is_first = request.path == "/1"
        following = "/2" if is_first else link.format(host=request.headers["host"])
        records = products(1, 2) if is_first else products(3, 4)
        if is_header:
            return Reply(body=json_list(records), headers={"Link": f'<{following}>; rel="next"'})
        return Reply(body=json.dumps({"data": records, "next": following}).encode())

    with Remote(answer) as remote:
        url = f"{remote.url}/1"
        if is_header:
            bad.sync(JsonApi(url=url, pagination=LinkHeader()))
        else:
            bad.sync(JsonApi(url=url, records=("data",), pagination=NextUrl(url=("next",))))
        assert [request.path for request in remote.requests] == ["/1", "/2"]
    bad.assert_failed("next_link")
    assert "hush" not in bad.summary["error"]


def test_two_next_links_fail(bad):
    def answer(request):
        both = '</3>; rel="next", </4>; rel="next"'
        is_first = request.path == "/1"
        link = '</2>; rel="next"' if is_first else both
        return Reply(body=json_list(products(1, 2) if is_first else products(3, 4)), headers={"Link": link})

    with Remote(answer) as remote:
        bad.sync(JsonApi(url=f"{remote.url}/1", pagination=LinkHeader()))
    bad.assert_failed("next_link")


# Totals and has_more: as strings, negative, decreasing


def sync_told(bad, *told, **pagination):
    """Sync two pages of two records; beside each is what it tells."""

    def answer(request):
        number = int(request.query["page"])
        records = products(2 * number - 1, 2 * number) if number <= 2 else []
        return Reply(body=json.dumps({"data": records} | told[min(number, len(told)) - 1]).encode())

    with Remote(answer) as remote:
        pages = PageNumber(param="page", size=2, **pagination)
        bad.sync(JsonApi(url=remote.url, records=("data",), pagination=pages))
        return len(remote.requests)


def test_totals_and_has_more_as_text_are_what_they_say(bad):
    assert sync_told(bad, {"total": "4"}, total=("total",)) == 2
    bad.assert_loaded(1, 2, 3, 4)


def test_false_as_text_is_false(bad):
    assert sync_told(bad, {"more": "true"}, {"more": "false"}, has_more=("more",)) == 2
    bad.assert_loaded(1, 2, 3, 4)


@pytest.mark.parametrize("second", [-1, "-4", 3, "many", True])
def test_a_total_that_is_negative_or_no_number_or_becomes_smaller_fails(bad, second):
    sync_told(bad, {"total": 6}, {"total": second}, total=("total",))
    bad.assert_failed("total")


def test_more_that_is_neither_yes_nor_no_fails(bad):
    sync_told(bad, {"more": True}, {"more": "perhaps"}, has_more=("more",))
    bad.assert_failed("has_more")


# A listing with `..`, absolute names, newlines, non-UTF-8 names: no file system has the first two, and what FTP and
# SFTP list of them, or of a newline, is in files/test_connections.py


def test_a_name_with_a_newline_or_that_is_no_utf_8_is_loaded_from_a_folder(bad, tmp_path):
    for name, code in ((b"a\nb.csv", 1), (b"caf\xe9.csv", 2), (b"plain.csv", 3)):
        (tmp_path / os.fsdecode(name)).write_text(f"code,name\n{code},x\n")
    bad.sync(Files(place=Disk(folder=tmp_path), format=Csv()))
    bad.assert_loaded(1, 2, 3)
    assert set(SourceFile.objects.values_list("name", flat=True)) == {"a\nb.csv", r"caf\xe9.csv", "plain.csv"}
