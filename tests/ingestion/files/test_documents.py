"""XML, JSON documents and Excel sheets to records; and what of them is never read."""

import datetime as dt
import io
import json
import zipfile

import pytest
import xlsxwriter

from ingestion.errors import RunFailed
from ingestion.sources import Excel, Facts, FileLimits, Json, Xml
from tests.ingestion.files.streams import Stream, blocks, records, resumed_everywhere

ITEM = Xml(record="item")


def failure(format_, content, **options):
    with pytest.raises(RunFailed) as caught:
        blocks(format_, content, **({"piece": 100_000} | options))
    return caught.value.code


def test_elements_become_objects_of_text():
    content = b"""<?xml version="1.0" encoding="UTF-8"?>
    <feed xmlns="urn:x" xmlns:y="urn:y"><head><title>all</title></head>
      <item id="1"><name>a &amp; b</name><y:tag>x</y:tag><tag>y</tag><empty/><price unit="EUR"> 1.5 </price></item>
      <list><item id="2"><name><![CDATA[<c>]]></name><tag>z</tag><!-- no --><deep><er>1</er></deep></item></list>
    </feed>"""
    assert records(ITEM, content) == [
        {
            "@id": "1", "name": "a & b", "tag": ["x", "y"], "empty": "",
            "price": {"@unit": "EUR", "#text": "1.5"},
        },
        {"@id": "2", "name": "<c>", "tag": "z", "deep": {"er": "1"}},
    ]  # fmt: skip


def test_a_list_of_one_element_is_a_list_where_that_is_said_and_nil_is_null():
    content = (
        b'<a xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        b'<item><tag>x</tag><end xsi:nil="true"/><no xsi:nil="false"/></item></a>'
    )
    assert records(Xml(record="item", lists=("tag",)), content) == [{"tag": ["x"], "end": None, "no": ""}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_the_encoding_is_the_one_that_xml_declares(encoding):
    content = f'<?xml version="1.0" encoding="{encoding}"?><a><item><n>é</n></item></a>'.encode(encoding)
    assert records(ITEM, content) == [{"n": "é"}]


BOMB = (
    b"""<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><a><item><n>&c;</n></item></a>"""
)
EXTERNAL = b"""<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a><item><n>&x;</n></item></a>"""
PARAMETER = b"""<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd"><a><item/></a>"""


@pytest.mark.parametrize("content", [BOMB, EXTERNAL, PARAMETER, BOMB.decode().encode("utf-16")])
@pytest.mark.parametrize("piece", [3, 100_000])
def test_a_document_type_with_its_entities_is_never_read(content, piece):
    assert failure(ITEM, content, piece=piece) == "xml_dtd"


def test_text_that_only_looks_like_a_document_type_is_text():
    content = b"<a><item><n><![CDATA[<!DOCTYPE html>]]></n></item></a>"
    assert records(ITEM, content) == [{"n": "<!DOCTYPE html>"}]


@pytest.mark.parametrize(
    "content", [b"", b"no", b"<a><item>", b"<a><item></a>", b"<a/><b/>", b"<a>&b;</a>", b'<a x="1" x="2"/>']
)
def test_what_is_no_xml_or_is_cut_fails(content):
    assert failure(ITEM, content) == "not_xml"


def test_xml_is_read_in_pages_with_bounded_memory():
    content = b"<a>" + b"".join(b"<w><item><n>%d</n></item></w>" % n for n in range(50)) + b"</a>"
    assert resumed_everywhere(Xml(record="item", page_records=7), content) == 8
    assert len(records(Xml(record="item", page_records=7), content)) == 50
    stream = Stream(b"<a>" + b"<w>x</w>" * 1_000_000, piece=100_000)
    with pytest.raises(RunFailed, match="record_too_large"):
        list(ITEM.blocks(stream, None, Facts(), FileLimits(record_bytes=500_000)))
    assert stream.position < 1_000_000


DOCUMENT = {"meta": {"n": 3}, "data": {"rows": [{"a": 1, "b": 0.10}, {"a": 12345678901234567890}, {"a": "é"}]}}


@pytest.mark.parametrize("whole_bytes", [10, 1_000_000])
def test_a_json_document_is_read_whole_or_as_a_stream_with_the_same_records(whole_bytes):
    content = json.dumps(DOCUMENT).replace("0.1}", "0.10}").encode()
    format_ = Json(records=("data", "rows"), whole_bytes=whole_bytes, page_records=2)
    assert records(format_, b"\xef\xbb\xbf" + content) == DOCUMENT["data"]["rows"]
    assert resumed_everywhere(format_, content) == 2
    texts = [bytes(raw).replace(b" ", b"") for block in blocks(format_, content) for raw in block.records]
    assert texts[0] == b'{"a":1,"b":0.10}'
    assert records(Json(whole_bytes=whole_bytes), b'[{"a":1},{"a":2}]') == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("whole_bytes", [5, 1_000_000])
def test_json_that_is_none_or_is_cut_or_has_no_list_fails(whole_bytes):
    format_ = Json(records=("data",), whole_bytes=whole_bytes)
    whole = b'{"data": [{"a": 1}, {"a": 2}]}'
    assert failure(format_, whole[:20]) in ("incomplete", "not_json")
    assert failure(format_, b"<html><body>") == "not_json"
    assert failure(format_, b'{"rows": [{"a": 1}]}') == "shape"
    assert failure(format_, b'{"data": {"a": 1}}') == "shape"
    assert failure(format_, b"\x1f\x8b\x08 and more of it") == "compression"


def test_a_document_too_big_for_memory_is_not_held():
    stream = Stream(b"[" + b'{"a": "xxxxxxxxxxxxxxxxxxxx"},' * 1_000_000, piece=65_536)
    first = next(Json(whole_bytes=100_000).blocks(stream, None, Facts(), FileLimits()))
    assert len(first.records) == 1_000
    assert stream.position < 400_000


def workbook(*rows, sheet="Data"):
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, {"in_memory": True, "default_date_format": "yyyy-mm-dd"}) as book:
        page = book.add_worksheet(sheet)
        for number, row in enumerate(rows):
            for column, cell in enumerate(row):
                if cell is not None:
                    page.write(number, column, cell)
        book.add_worksheet("Other").write(0, 0, "id")
    return buffer.getvalue()


def test_cells_keep_their_types():
    at = dt.datetime(2024, 2, 29, 10, 30)  # noqa: DTZ001 - Excel knows no zones
    content = workbook(["id", "name", "price", "at", "ok"], [1, "a", 1.5, at, True], [2, None, None, None, None])
    assert records(Excel(), content) == [
        {"id": 1, "name": "a", "price": 1.5, "at": "2024-02-29T10:30:00", "ok": True},
        {"id": 2, "name": None, "price": None, "at": None, "ok": None},
    ]


def test_a_sheet_is_named_and_rows_before_the_header_are_left_out():
    content = workbook(["Report"], ["ID", "x"], [1, 2], [None, None], [3, 4], sheet="My data")
    format_ = Excel(sheet="My data", skip_rows=1, rename={"ID": "id"}, page_records=1)
    assert records(format_, content, facts=Facts(fields=frozenset({"id"}))) == [{"id": 1, "x": 2}, {"id": 3, "x": 4}]
    assert resumed_everywhere(format_, content) == 2
    assert failure(Excel(sheet="Nowhere"), content) == "sheet"
    assert failure(Excel(), content, facts=Facts(fields=frozenset({"id"}))) == "header"


def test_an_excel_file_that_is_none_cut_or_a_bomb_fails():
    content = workbook(["id"], *[[number] for number in range(2000)])
    assert failure(Excel(), b"id,name\n") == "not_excel"
    assert failure(Excel(), b"") == "not_excel"
    assert failure(Excel(), content[:-100]) == "not_excel"
    assert failure(Excel(file_bytes=1000), content) == "file_too_large"
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b" " * 10_000_000)
    assert failure(Excel(file_bytes=1_000_000), bomb.getvalue()) == "file_too_large"


def test_an_empty_sheet_and_a_header_alone_have_no_records():
    assert records(Excel(), workbook()) == []
    assert records(Excel(), workbook(["id", "name"])) == []


@pytest.mark.parametrize(
    ("format_", "module", "extra", "content"),
    [
        (ITEM, "lxml.etree", "xml", b"<a/>"),
        (Excel(), "python_calamine", "excel", b"x"),
        (Json(whole_bytes=1), "ijson", "big-json", b"[{}]"),
    ],
)
def test_a_format_whose_library_is_missing_asks_for_its_extra(monkeypatch, format_, module, extra, content):
    import sys

    from ingestion.errors import ConfigurationError

    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=f"is not installed: it is in the extra '{extra}'"):
        blocks(format_, content)
