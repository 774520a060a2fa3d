"""Faults of a SOAP service, and traps in its documents: never taken for data, nothing is expanded or fetched."""

import pytest

from ingestion.errors import ConfigurationError, RetryLater, RunFailed
from tests.ingestion import soap_server
from tests.ingestion.soap_reading import answered, items, read, source, why_not
from tests.ingestion.soap_server import SOAP_11, SOAP_12, Stock, envelope, fault, item, response, serve
from tests.remote import Raw, Remote, Reply

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
