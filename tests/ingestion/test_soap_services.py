"""SOAP services as their WSDL describes them, what proves who asks them, and what they send beside the answer."""

import pytest
from django.db import models

from ingestion import pipeline
from ingestion.errors import ConfigurationError, RunFailed
from ingestion.feeds import Feed, Upsert
from ingestion.pagination import NextUrl, PageNumber, SinglePage
from ingestion.sources import Soap
from tests.ingestion import soap_server
from tests.ingestion.catalog import table_of
from tests.ingestion.signing import Passwords
from tests.ingestion.soap_reading import answered, items, read, source, why_not
from tests.ingestion.soap_server import PASSWORD, USER, Stock, envelope, fault, item, response, serve
from tests.remote import Remote, Reply

# The WSDL


def test_a_wsdl_may_be_a_file_with_its_schema_beside_it(tmp_path):
    (tmp_path / "stock.xsd").write_text(soap_server.SCHEMA)
    with serve(Stock(items=items(1))) as remote:
        path = tmp_path / "stock.wsdl"
        path.write_text(soap_server.wsdl(f"{remote.url}/service"))
        assert len(read(source(remote, wsdl=str(path)))) == 1
        path.write_text(soap_server.wsdl(remote.url, schema="../stock.xsd"))
        with pytest.raises(RunFailed, match="not in its folder"):
            read(source(remote, wsdl=str(path)))
        with pytest.raises(RunFailed, match="cannot be read"):
            read(source(remote, wsdl=str(tmp_path / "none.wsdl")))


def test_a_service_of_the_rpc_style_is_read_too():
    def rpc(address):
        whole = soap_server.wsdl(address).replace('style="document"', 'style="rpc"')
        whole = whole.replace('name="parameters" element="tns:GetItems"/>', 'name="page" type="xsd:int"/>')
        whole = whole.replace('name="parameters" element="tns:GetItemsResponse"/>', 'name="item" type="tns:Item"/>')
        return whole.replace('use="literal"', f'use="literal" namespace="{soap_server.STOCK}"')

    answer = f'<r:GetItemsResponse xmlns:r="{soap_server.STOCK}">{item("A1", "Bolt", more="<tag>a</tag>")}'
    stock = Stock(items=[], wsdl=rpc)
    with Remote(lambda request: stock.answer(request) if request.method == "GET" else reply) as remote:
        reply = Reply(body=envelope(f"{answer}</r:GetItemsResponse>"))
        rpc_source = source(remote, records=("item",), pagination=SinglePage(), arguments={"page": 1})
        assert read(rpc_source) == [[{"code": "A1", "name": "Bolt", "price": None, "tag": ["a"]}]]
    assert b'<ns0:GetItems xmlns:ns0="urn:example:stock"><page>1</page></ns0:GetItems>' in remote.requests[-1].body


@pytest.mark.parametrize("text", ["", "<a/>", "<html>", "<wsdl:definitions xmlns:wsdl='urn:x'/>"])
def test_a_document_that_is_no_wsdl_fails(text):
    with (
        serve(Stock(items=[], wsdl=lambda address: text)) as remote,
        pytest.raises((RunFailed, ConfigurationError), match=r"wsdl|no operation"),
    ):
        read(source(remote))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"operation": "Nothing"}, "no operation 'Nothing', only GetItems"),
        ({"port": "Stock13"}, "no operation 'GetItems'"),
        ({"records": ("rows", "row")}, "no element 'rows' in the answer, expected one of items, total, next"),
        ({"arguments": {"nothing": 1}}, "do not fit the operation GetItems"),
        ({"arguments": {"request": {"page": "x", "warehouse": 1, "other": 2}}}, "do not fit the operation GetItems"),
    ],
)
def test_what_the_wsdl_does_not_have_is_said_before_anything_is_asked(options, said):
    stock = Stock(items=[])
    with serve(stock) as remote, pytest.raises(ConfigurationError, match=said):
        read(source(remote, **options))
    assert stock.asked == []


LINKS = {"pagination": NextUrl(url=("next",))}


def test_wrong_arguments_of_the_source_are_said_when_it_is_declared():
    for wrong in ({"records": "item"}, {"records": ()}, {"lists": "tag"}, {"user": "a"}, {"password": str}, LINKS):
        with pytest.raises(ConfigurationError):
            Soap(**{"wsdl": "a", "operation": "b", "records": ("c",), "pagination": SinglePage(), **wrong})


# Security and attachments


@pytest.mark.parametrize("digest", [False, True])
def test_a_user_name_token_goes_with_every_request_and_is_new_for_each(digest):
    replies = [None, Reply(503), None, None]
    stock = Stock(items=items(5), secured=True, special=lambda page, namespace: replies.pop(0))
    with serve(stock) as remote:
        pages = read(source(remote, user=lambda: USER, password=lambda: PASSWORD, digest=digest))
    assert [len(page) for page in pages] == [2, 2, 1]
    assert len(stock.asked) == 4
    assert len(set(stock.nonces)) == (4 if digest else 0)


def test_what_was_sent_is_not_shown_when_the_service_says_it_back():
    said = "no warehouse s3cret-m4rker, header s3cret-h3ader, password s3cret-passw0rd"
    options = {
        "arguments": {"request": {"warehouse": "s3cret-m4rker"}},
        "headers": {"X-Key": "s3cret-h3ader"},
        "user": USER,
        "password": lambda: PASSWORD,
    }
    with serve(Stock(items=[], special=lambda page, namespace: Reply(500, fault(said)))) as remote:
        with pytest.raises(RunFailed) as raised:
            read(source(remote, **options))
        assert "no warehouse …, header …, password" in raised.value.message
        wrong = {"request": {"page": 1, "size": 1, "other": "s3cret-m4rker"}}
        with pytest.raises(ConfigurationError, match="do not fit the operation") as refused:
            read(source(remote, **options | {"pagination": SinglePage(), "arguments": wrong}))
        assert "m4rker" not in str(refused.value)


def test_requests_for_the_wsdl_and_for_pages_are_signed():
    stock = Stock(items=items(3))

    def guarded(request):
        return stock.answer(request) if request.headers.get("authorization") == "good" else Reply(401)

    with Remote(guarded) as remote:
        assert len(read(source(remote, auth=Passwords(["old", "good"])))) == 2
        with pytest.raises(RunFailed):
            read(source(remote))
    assert {each["headers"]["authorization"] for each in stock.asked} == {"good"}


def test_a_wrong_password_is_a_fault_without_secrets():
    with serve(Stock(items=[], secured=True)) as remote, pytest.raises(RunFailed) as raised:
        read(source(remote, user=USER, password=lambda: "s3cret-wrong"))
    assert raised.value.code == "soap_fault"
    assert not any(secret in str(raised.value) for secret in ("hunter2", "s3cret"))


def multipart(*parts, start=""):
    lines = b"".join(b"--b\r\n%b\r\n\r\n%b\r\n" % part for part in parts) + b"--b--\r\n"
    return Reply(body=lines, headers={"Content-Type": f'multipart/related; boundary=b; type="text/xml"{start}'})


ATTACHED = "answers come with attachments, which are not loaded"
ROOT = b"Content-Type: text/xml; charset=utf-8\r\nContent-ID: <root>", envelope(response([item("A1", "Ü")]))
IMAGE = b"Content-Type: image/png\r\nContent-ID: <image>\r\nContent-Transfer-Encoding: binary", b"\x89PNG\r\n\x00"


def test_the_xml_is_read_of_an_answer_with_attachments():
    assert answered(multipart(ROOT, IMAGE))[0][0]["name"] == "Ü"
    assert answered(multipart(IMAGE, ROOT, start="; start=<root>"))[0][0]["name"] == "Ü"
    assert why_not(multipart(IMAGE, ROOT)).code == "not_xml"
    assert why_not(multipart()).code == "not_xml"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("parts", "warned"), [((ROOT,), []), ((ROOT, IMAGE), [ATTACHED])])
def test_a_run_warns_once_of_attachments_that_are_not_loaded(monkeypatch, parts, warned):
    end = ROOT[0], envelope(response([]))
    replies = [
        multipart(*parts),
        multipart((ROOT[0], envelope(response([item("A2", "Ö")]))), *parts[1:]),
        multipart(end),
    ]
    fields = {"name": models.CharField(max_length=20, unique=True)}
    with table_of(**fields) as model, serve(Stock(items=[], special=lambda *_: replies.pop(0))) as remote:
        paged = PageNumber(param="request.page", size=1, size_param="request.size")
        soap = source(remote, pagination=paged)
        feed = Feed(name="stock", source=soap, columns={"name": "name"}, target=Upsert(model, key="name"))
        monkeypatch.setattr("photos.feeds.STOCK", feed, raising=False)
        summary = pipeline.run_here("stock").summary
    assert (summary["error"], summary["inserted"], summary["warnings"], replies) == (None, 2, warned, [])
