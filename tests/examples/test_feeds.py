"""The examples' feeds, each from a real server of its kind into the table of the examples."""

import gzip
import io
import json
import time
from dataclasses import replace
from decimal import Decimal

import boto3
import pytest
import xlsxwriter
from django.apps import apps
from django.conf import settings as current
from django.db import connection

from ingestion import checks, feeds, pipeline
from ingestion.cleaning import constant, decimal
from ingestion.feeds import env_url
from ingestion.models import Reject
from ingestion.pagination import PageNumber
from tests import placeholder
from tests.ingestion import graphql_server, soap_server
from tests.ingestion.files import servers
from tests.ingestion.files.servers import PASSWORD, USER
from tests.remote import Remote, Reply

ITEMS = [{"code": "A1", "name": "Bolt", "price": "0.25"}, {"code": "A2", "name": "Nut; small", "price": None}]


@pytest.fixture
def module(settings, transactional_db):
    """Install the examples for one test, and return their feeds."""
    settings.INSTALLED_APPS = [*current.INSTALLED_APPS, "examples"]
    from examples import feeds as module

    model = apps.get_model("examples", "Item")
    with connection.schema_editor() as editor:
        editor.create_model(model)
    yield module
    with connection.schema_editor() as editor:
        editor.delete_model(model)


def sync(name, *, again=0):
    summary = pipeline.run_here(name).summary
    assert (summary["state"], summary["read"], summary["inserted"]) == ("succeeded", 2, 2), summary["error"]
    rows = apps.get_model("examples", "Item").objects.filter(source=name.removeprefix("examples-")).order_by("code")
    assert [(row.code, row.name, row.price) for row in rows] == [
        ("A1", "Bolt", Decimal("0.25")),
        ("A2", "Nut; small", None),
    ]
    assert pipeline.run_here(name).summary["read"] == again


def at(module, monkeypatch, name, **changes):
    """Let an example's place be the test's server."""
    feed = getattr(module, name)
    source = replace(feed.source, place=replace(feed.source.place, **changes))
    monkeypatch.setattr(module, name, replace(feed, source=source))


def test_every_example_is_right(module):
    assert checks.check_feeds(None) == []
    names = {feed.name for feed in feeds.declared()}
    assert {
        f"examples-{kind}"
        for kind in (
            "links",
            "changes",
            "post",
            "children",
            "details",
            "export",
            "graphql",
            "soap",
            "disk",
            "web",
            "json",
            "s3",
            "ftp",
            "sftp",
        )
    } <= names


def test_a_graphql_server(module, monkeypatch):
    stock = graphql_server.Stock(
        products=[
            graphql_server.Item(code="A1", name="Bolt", amount="0.25"),
            graphql_server.Service(code="A2", name="Nut; small", hours=1),
        ]
    )
    with graphql_server.serve(stock) as url:
        monkeypatch.setenv("EXAMPLES_URL", url.removesuffix("/graphql"))
        sync("examples-graphql", again=2)
        stock.products[0] = None
        summary = pipeline.run_here("examples-graphql").summary
        assert (summary["state"], summary["unchanged"], summary["rejected"]) == ("succeeded", 1, 1)
        assert Reject.objects.get().reason == "not_an_object"
        stock.products[0] = graphql_server.Item(code="A1", name="Bolt", broken=True)
        summary = pipeline.run_here("examples-graphql").summary
        assert (summary["state"], summary["error"][:15]) == ("failed", "graphql_errors:")


def test_a_soap_service(module, monkeypatch):
    stock = soap_server.Stock(
        items=[soap_server.item("A1", "Bolt", "0.25"), soap_server.item("A2", "Nut; small")], secured=True
    )
    with soap_server.serve(stock) as remote:
        monkeypatch.setenv("EXAMPLES_URL", remote.url)
        monkeypatch.setenv("EXAMPLES_PASSWORD", soap_server.PASSWORD)
        sync("examples-soap", again=2)
        stock.items = [soap_server.item("A1", "Bolt", "cheap"), '<item xsi:nil="true"/>', stock.items[1]]
        assert pipeline.run_here("examples-soap").summary["rejected"] == 2
        assert sorted(Reject.objects.values_list("reason", "field")) == [
            ("not_a_number", "price"),
            ("not_an_object", ""),
        ]


def test_links_of_a_rest_endpoint(module, monkeypatch):
    def answer(request):
        number = int(request.query.get("page", 1))
        more = {"Link": f'</items?per_page={request.query["per_page"]}&page=2>; rel="next"'} if number == 1 else {}
        return Reply(body=json.dumps([ITEMS[number - 1]]).encode(), headers=more)

    with Remote(answer) as remote:
        monkeypatch.setenv("EXAMPLES_URL", remote.url)
        sync("examples-links", again=2)
    assert [(request.query["per_page"], request.query.get("page")) for request in remote.requests[:2]] == [
        ("100", None),
        ("100", "2"),
    ]


def test_what_has_changed_since_the_last_run(module, monkeypatch):
    changed = int(time.time()) - 60

    def answer(request):
        since = int(request.query.get("changed_since", 0))
        found = [item | {"changed": changed} for item in ITEMS if changed >= since]
        return Reply(body=json.dumps(found if request.query["page"] == "1" else []).encode())

    with Remote(answer) as remote:
        monkeypatch.setenv("EXAMPLES_URL", remote.url)
        sync("examples-changes", again=2)
    assert [query.get("changed_since") for query in remote.queries] == [
        None,
        None,
        str(changed - 3600),
        str(changed - 3600),
    ]


def test_orders_that_are_searched_with_a_post(module, monkeypatch):
    def answer(request):
        asked = json.loads(request.body)
        assert (request.method, asked["status"], asked["page"]["size"]) == ("POST", "open", 50)
        number = asked["page"].get("after", 0)
        lines = [{"code": ITEMS[number]["code"], "price": ITEMS[number]["price"]}]
        found = {"orders": [{"title": ITEMS[number]["name"], "lines": lines}], "meta": {"next": 1, "more": "true"}}
        return Reply(body=json.dumps(found if number == 0 else found | {"meta": {"more": "false"}}).encode())

    with Remote(answer) as remote:
        monkeypatch.setenv("EXAMPLES_URL", remote.url)
        sync("examples-post", again=2)


def test_children_of_each_record_in_ndjson(module, monkeypatch):
    def answer(request):
        if request.path == "/shelves":
            return Reply(body=json.dumps([{"id": "a/1"}, {"id": 2}] if request.query["page"] == "1" else []).encode())
        return Reply(body=json.dumps(ITEMS[{"/shelves/a%2F1/items": 0, "/shelves/2/items": 1}[request.path]]).encode())

    with Remote(answer) as remote:
        monkeypatch.setenv("EXAMPLES_URL", remote.url)
        sync("examples-children", again=2)


def test_details_of_each_row(module, monkeypatch):
    model = apps.get_model("examples", "Item")
    model.objects.bulk_create(model(source="links", code=code, name="?") for code in ("A1", "A2"))
    model.objects.create(source="disk", code="A3", name="?")
    details = {f"/items/{item['code']}": item for item in ITEMS}
    with Remote(lambda request: Reply(body=json.dumps(details[request.path]).encode())) as remote:
        monkeypatch.setenv("EXAMPLES_URL", remote.url)
        sync("examples-details", again=2)


def test_links_and_children_of_the_real_jsonplaceholder(module, monkeypatch, tmp_path, corpora):
    """Two of the examples, with JSONPlaceholder's addresses: a list by its links, and the same by its parents."""
    comments = json.loads((corpora / "jsonplaceholder.json").read_text())["comments"]
    columns = {"code": "id", "name": "name", "price": decimal("price", default=None)}
    linked = replace(
        module.LINKED.source, url=env_url("EXAMPLES_URL", "/comments"), params={"_page": "1", "_limit": "90"}
    )
    children = replace(
        module.CHILDREN.source,
        parents=replace(
            module.CHILDREN.source.parents,
            url=env_url("EXAMPLES_URL", "/posts"),
            pagination=PageNumber(param="_page", size_param="_limit", size=40, total_header="X-Total-Count"),
        ),
        source=replace(
            module.CHILDREN.source.source, url=env_url("EXAMPLES_URL", "/posts/{parent}/comments"), format=None
        ),
    )
    model = apps.get_model("examples", "Item")
    with placeholder.serve(tmp_path, corpora) as url:
        monkeypatch.setenv("EXAMPLES_URL", url)
        for name, kind, source in (("LINKED", "links", linked), ("CHILDREN", "children", children)):
            declared = replace(getattr(module, name), source=source, columns=columns | {"source": constant(kind)})
            monkeypatch.setattr(module, name, declared)
            summary = pipeline.run_here(declared.name).summary
            assert (summary["state"], summary["inserted"], summary["rejected"]) == ("succeeded", 500, 0), summary[
                "error"
            ]
            stored = model.objects.filter(source=kind).values_list("code", "name")
            assert sorted(stored) == sorted((str(comment["id"]), comment["name"]) for comment in comments)


def test_an_export(module, monkeypatch):
    def answer(request):
        if request.method == "POST":
            assert json.loads(request.body) == {"table": "items", "format": "ndjson"}
            return Reply(status=202, body=b'{"id": 4711}')
        if request.path == "/exports/4711":
            return Reply(body=b'{"export": {"state": "completed", "files": ["/files/1", "/files/2"]}}')
        return Reply(body=json.dumps(ITEMS[int(request.path[-1]) - 1]).encode() + b"\n")

    with Remote(answer) as remote:
        monkeypatch.setenv("EXAMPLES_URL", remote.url)
        sync("examples-export", again=2)


def test_files_from_a_folder(module, monkeypatch, tmp_path):
    monkeypatch.setenv("EXAMPLES_FOLDER", str(tmp_path))
    (tmp_path / "a.csv").write_text('code;name;price\nA1;Bolt;0,25\nA2;"Nut; small";\n', encoding="cp1252")
    sync("examples-disk")
    assert [path.name.endswith("-a.csv") for path in (tmp_path / "loaded").iterdir()] == [True]


def test_files_behind_urls(module, monkeypatch, tmp_path):
    (tmp_path / "items.ndjson.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, ITEMS)).encode()))
    (tmp_path / "items.json").write_text(json.dumps({"data": {"items": ITEMS}}))
    with servers.web(tmp_path) as remote:
        monkeypatch.setenv("EXAMPLES_URL", remote.url)
        sync("examples-web")
        sync("examples-json")


def test_a_bucket(module, monkeypatch):
    with servers.s3() as url:
        monkeypatch.setenv("EXAMPLES_S3_URL", url)
        monkeypatch.setenv("EXAMPLES_S3_KEY_ID", "key")
        monkeypatch.setenv("EXAMPLES_S3_SECRET", "secret")
        client = boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret"
        )
        client.create_bucket(Bucket="examples")
        content = b"code,name,price\nA1,Bolt,0.25\nA2,Nut; small,\n"
        client.put_object(Bucket="examples", Key="items/2026/a.csv.gz", Body=gzip.compress(content))
        sync("examples-s3")


def test_an_ftp_server_with_tls(module, monkeypatch, tmp_path, tmp_path_factory):
    (tmp_path / "a.xml").write_text(
        '<items><item code="A1"><name>Bolt</name><price>0.25</price></item>'
        '<item code="A2"><name>Nut; small</name><price/></item></items>'
    )
    pem = servers.certificate(tmp_path_factory.getbasetemp())
    monkeypatch.setenv("EXAMPLES_PASSWORD", PASSWORD)
    with servers.ftp(tmp_path, tls=pem) as port:
        at(module, monkeypatch, "FTP", port=port, user=USER, ca_file=str(pem))
        sync("examples-ftp")


def test_an_sftp_server(module, monkeypatch, tmp_path):
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, {"in_memory": True}) as book:
        sheet = book.add_worksheet("Items")
        for number, row in enumerate([["code", "name", "price"], ["A1", "Bolt", 0.25], ["A2", "Nut; small", ""]]):
            sheet.write_row(number, 0, row)
    (tmp_path / "a.xlsx").write_bytes(buffer.getvalue())
    with servers.sftp(tmp_path) as (port, known):
        monkeypatch.setenv("EXAMPLES_PASSWORD", PASSWORD)
        monkeypatch.setenv("EXAMPLES_KNOWN_HOSTS", known)
        at(module, monkeypatch, "SFTP", port=port, user=USER)
        sync("examples-sftp")
