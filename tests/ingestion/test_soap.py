"""SOAP against a service with a WSDL: pages whole and in order, Faults and traps that are never taken for data."""

import json
from datetime import timedelta

import pytest

from ingestion.errors import ConfigurationError, RetryLater, RunFailed
from ingestion.http import Retry
from ingestion.pagination import Keyset, NextCursor, NextUrl, PageNumber, SinglePage
from ingestion.sources import Soap
from tests.ingestion import soap_server
from tests.ingestion.signing import Passwords
from tests.ingestion.soap_server import PASSWORD, SOAP_11, SOAP_12, USER, Stock, envelope, fault, item, response, serve
from tests.remote import Raw, Remote, Reply

QUICK = Retry(attempts=2, wait_initial=timedelta(milliseconds=1))
PAGES = PageNumber(param="request.page", size=2, size_param="request.size", total=("total",))
ONE = {"request": {"page": 1, "size": 9}}


def source(remote, **options):
    defaults = {"operation": "GetItems", "records": ("items", "item"), "pagination": PAGES, "retry": QUICK}
    return Soap(**{"wsdl": f"{remote.url}/service?wsdl", **defaults, "max_pages": 100, **options})


def items(count):
    return [item(f"A{number}", f"Item {number}", f"{number}.50") for number in range(count)]


def read(source, cursor=None):
    return [[json.loads(bytes(record)) for record in page.records] for page in source.pages(cursor)]


def one(*texts, **options):
    """Read one page of these items."""
    with serve(Stock(items=list(texts))) as remote:
        (page,) = read(source(remote, pagination=SinglePage(), arguments=ONE, **options))
    return page


def answered(reply, **options):
    """Read what answers the first call."""
    reply = reply if isinstance(reply, Reply | Raw) else Reply(body=reply)
    with serve(Stock(items=[], special=lambda page, namespace: reply)) as remote:
        return read(source(remote, pagination=SinglePage(), arguments=ONE, **options))


def why_not(reply, **options):
    with pytest.raises(RunFailed) as raised:
        answered(reply, **options)
    return raised.value


# Pages


@pytest.mark.parametrize(("port", "namespace"), [(None, SOAP_11), ("Stock11", SOAP_11), ("Stock12", SOAP_12)])
def test_reads_every_page_in_order_in_both_versions(port, namespace):
    stock = Stock(items=items(5))
    with serve(stock) as remote:
        pages = list(source(remote, port=port, arguments={"request": {"warehouse": "north"}}).pages(None))
    assert [page.number for page in pages] == [1, 2, 3]
    codes = [json.loads(bytes(record))["code"] for page in pages for record in page.records]
    assert codes == ["A0", "A1", "A2", "A3", "A4"]
    assert [(each["page"], each["size"], each["warehouse"]) for each in stock.asked] == [
        ("1", "2", "north"),
        ("2", "2", "north"),
        ("3", "2", "north"),
    ]
    assert {each["namespace"] for each in stock.asked} == {namespace}
    assert pages[-1].following is None


def test_goes_on_at_any_cursor_it_has_given_out():
    with serve(Stock(items=items(5))) as remote:
        pages = list(source(remote).pages(None))
        assert read(source(remote), pages[0].following) == read(source(remote))[1:]


def test_the_next_page_may_be_named_by_an_element():
    def special(page, namespace):
        following = f"<next>{page + 1}</next>" if page < 3 else '<next xsi:nil="true"/>'
        return Reply(body=envelope(response([item(str(page), "x")], beside=following), namespace))

    stock = Stock(items=[], special=special)
    pagination = NextCursor(param="request.page", cursor=("next",))
    with serve(stock) as remote:
        pages = read(source(remote, pagination=pagination, arguments={"request": {"page": 1, "size": 1}}))
    assert [page[0]["code"] for page in pages] == ["1", "2", "3"]


def test_the_last_record_may_be_the_cursor():
    stock = Stock(items=items(4))
    pagination = Keyset(param="request.warehouse", field=("code",), size=3)
    with serve(stock) as remote, pytest.raises(RunFailed, match="pagination_loop"):
        read(source(remote, pagination=pagination, arguments={"request": {"page": 1, "size": 3}}))
    assert [each.get("warehouse") for each in stock.asked] == [None, "A2"]


def test_pages_that_contradict_the_total_fail():
    reply = Reply(body=envelope(response([], beside="<total>5</total>")))
    with serve(Stock(items=[], special=lambda page, namespace: reply)) as remote, pytest.raises(RunFailed) as raised:
        read(source(remote))
    assert raised.value.code == "incomplete"


def test_what_is_inserted_while_pages_are_read_is_told():
    stock = Stock(items=items(6))
    with serve(stock) as remote:
        pages = source(remote).pages(None)
        first = next(pages)
        stock.items.insert(0, items(7)[-1])
        second = next(pages)
        pages.close()
    assert (first.warning, "page 2 begins with a record of page 1" in second.warning) == ("", True)


def test_the_same_page_again_is_a_loop():
    reply = Reply(body=envelope(response(items(2))))
    pagination = PageNumber(param="request.page", size=2, size_param="request.size")
    with serve(Stock(items=[], special=lambda page, namespace: reply)) as remote, pytest.raises(RunFailed) as raised:
        read(source(remote, pagination=pagination))
    assert raised.value.code == "pagination_loop"


# Records


def test_nil_is_null_and_text_stays_text():
    assert one(item("A1", "Bolt & nut"), item("A2", "Ü 🦔", "0.10", unit="m")) == [
        {"code": "A1", "name": "Bolt & nut", "price": None},
        {"@unit": "m", "code": "A2", "name": "Ü 🦔", "price": "0.10"},
    ]


def test_a_nil_record_is_null():
    assert one('<item xsi:nil="true"/>', item("A1", "Bolt")) == [None, {"code": "A1", "name": "Bolt", "price": None}]


def test_what_the_schema_lets_come_often_is_a_list_also_when_it_comes_once():
    once, twice = "<tag>a</tag><places><place>x</place></places>", "<tag>a</tag><tag>b</tag><places/>"
    first, second = one(item("A1", "Bolt", more=once), item("A2", "Nut", more=twice))
    assert (first["tag"], first["places"]) == (["a"], {"place": ["x"]})
    assert (second["tag"], second["places"]) == (["a", "b"], "")


def test_lists_may_be_named_where_the_schema_does_not_say_so():
    assert one(item("A1", "Bolt"), lists=("name",))[0]["name"] == ["Bolt"]
    unknown = "<extra>1</extra><extra>2</extra><extra>3</extra>"
    assert one(item("A1", "Bolt", more=unknown))[0]["extra"] == ["1", "2", "3"]


@pytest.mark.parametrize("content", ["", "<items/>", '<items xsi:nil="true"/>'])
def test_an_answer_may_have_no_records(content):
    reply = envelope(f'<GetItemsResponse xmlns="{soap_server.STOCK}">{content}</GetItemsResponse>')
    assert answered(reply) == [[]]


def test_the_declared_charset_counts():
    text = envelope(response([item("A1", "Ü")])).decode().replace('encoding="utf-8"', "")
    reply = Reply(body=text.encode("latin-1"), headers={"Content-Type": "text/xml; charset=iso-8859-1"})
    assert answered(reply)[0][0]["name"] == "Ü"
    assert why_not(Reply(body=b"", headers={"Content-Type": "text/xml; charset=klingon"})).code == "encoding"


# Faults


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize("namespace", [SOAP_11, SOAP_12])
def test_a_fault_fails_the_run_whatever_its_status(status, namespace):
    reply = Reply(status, fault("no such warehouse, token=abc123", namespace))
    stock = Stock(items=[], special=lambda page, namespace: reply)
    with serve(stock) as remote, pytest.raises(RunFailed) as raised:
        read(source(remote))
    assert raised.value.code == "soap_fault"
    assert "no such warehouse" in raised.value.message
    assert ("e:Server" if namespace == SOAP_11 else "e:Receiver") in raised.value.message
    assert "abc123" not in raised.value.message
    assert len(stock.asked) == 1


@pytest.mark.parametrize("body", [b"", b"<html>", envelope(response([]))])
def test_a_500_without_a_fault_is_asked_again(body):
    replies = [Reply(500, body), None]
    with serve(Stock(items=items(1), special=lambda page, namespace: replies.pop(0))) as remote:
        if body.startswith(b"<?xml"):
            with pytest.raises(RunFailed, match="http_status"):
                read(source(remote))
        else:
            assert len(read(source(remote))) == 1


def test_a_service_that_stays_broken_is_put_off():
    for status in (500, 503):
        stock = Stock(items=[], special=lambda page, namespace, status=status: Reply(status))
        with serve(stock) as remote, pytest.raises(RetryLater) as raised:
            read(source(remote))
        assert str(status) in str(raised.value)
        assert len(stock.asked) == 2


def test_a_400_that_is_no_fault_fails():
    assert why_not(Reply(400, b"<html>no</html>")).code == "http_status"


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        (b"", "not_xml", "empty"),
        (b"<a>", "not_xml", "line 1"),
        (b"{}", "not_xml", "{}"),
        (b"<html/>", "shape", "expected a SOAP envelope"),
        (envelope(""), "shape", "empty body"),
        (envelope("<Other/>"), "shape", "expected GetItemsResponse as the answer, found 'Other'"),
        (envelope(response([])).replace(SOAP_11.encode(), b"urn:other"), "shape", "expected a SOAP envelope"),
        (envelope("<a>" * 100_000 + "</a>" * 100_000), "not_xml", "depth"),
    ],
)
def test_an_answer_that_is_none_fails(body, code, said):
    error = why_not(body)
    assert error.code == code
    assert said in error.message.lower() if said == "empty" else said in error.message


def test_a_cut_answer_is_asked_for_again():
    whole = envelope(response(items(1)))
    with pytest.raises(RetryLater, match="the connection ended"):
        answered(Raw([b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n\r\n", whole[:-30]]))


# Traps

BOMB = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {name} "{f"&{inner};" * 10}">' for inner, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "document_type",
    [
        "<!DOCTYPE a>",
        '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd">',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        BOMB + "]>",
    ],
)
@pytest.mark.parametrize("use", ["&x;", "&i;", ""])
def test_a_document_type_fails_and_nothing_is_expanded_or_fetched(document_type, use):
    text = envelope(response([item("A1", "NAME")])).decode()
    head, _, rest = text.partition("?>")
    error = why_not(f"{head}?>{document_type}{rest.replace('NAME', use)}".encode())
    assert error.code == "xml_dtd"
    assert "root:" not in str(error)
    attribute = rest.replace("<item>", f'<item unit="{use}">')
    assert why_not(f"{head}?>{document_type}{attribute}".encode()).code == "xml_dtd"


def test_a_wsdl_with_a_document_type_fails():
    def trapped(address):
        return '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + soap_server.wsdl(address)

    with serve(Stock(items=[], wsdl=trapped)) as remote, pytest.raises(RunFailed) as raised:
        read(source(remote))
    assert raised.value.code == "xml_dtd"


def test_what_a_wsdl_imports_from_elsewhere_is_not_fetched():
    with Remote(Reply(body=soap_server.SCHEMA.encode())) as other:
        for schema in (f"{other.url}/stock.xsd", "file:///etc/passwd", "//127.0.0.1:9/x.xsd"):
            stock = Stock(items=[], wsdl=lambda address, schema=schema: soap_server.wsdl(address, schema=schema))
            with serve(stock) as remote, pytest.raises(RunFailed) as raised:
                read(source(remote, url=remote.url))
            assert raised.value.code == "wsdl"
            assert "another origin" in raised.value.message
    assert other.requests == []


def test_a_service_at_another_origin_than_its_wsdl_has_to_be_named():
    stock = Stock(items=items(1))
    with serve(stock) as elsewhere:
        moved = Stock(items=[], wsdl=lambda address: soap_server.wsdl(f"{elsewhere.url}/service?key=s3cret"))
        with serve(moved) as remote:
            with pytest.raises(ConfigurationError, match="set url") as raised:
                read(source(remote))
            assert "s3cret" not in str(raised.value)
            assert stock.asked == []
            assert len(read(source(remote, url=lambda: f"{elsewhere.url}/service"))) == 1


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


def test_attachments_are_left_out_with_a_note(caplog):
    root = b"Content-Type: text/xml; charset=utf-8\r\nContent-ID: <root>", envelope(response([item("A1", "Ü")]))
    image = b"Content-Type: image/png\r\nContent-ID: <image>\r\nContent-Transfer-Encoding: binary", b"\x89PNG\r\n\x00"
    with caplog.at_level("WARNING"):
        assert answered(multipart(root, image))[0][0]["name"] == "Ü"
        assert answered(multipart(image, root, start="; start=<root>"))[0][0]["name"] == "Ü"
    assert why_not(multipart(image, root)).code == "not_xml"
    assert why_not(multipart()).code == "not_xml"
