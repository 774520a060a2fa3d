"""SOAP against a service with a WSDL: pages whole and in order, and records as the schema says they are."""

import json

import pytest

from ingestion.errors import RunFailed
from ingestion.pagination import Keyset, NextCursor, PageNumber
from tests.ingestion import soap_server
from tests.ingestion.soap_reading import answered, items, one, read, source, why_not
from tests.ingestion.soap_server import SOAP_11, SOAP_12, Stock, envelope, item, response, serve
from tests.remote import Reply

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
