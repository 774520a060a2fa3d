"""What BAD_INPUT says of files, row by row, from the file to the table, the quarantine or the error of the run."""

import csv
import gzip
import io
import json
import zipfile

import pytest
import xlsxwriter
from django.db import models

from ingestion.models import Reject
from ingestion.sources import Csv, Excel, FileLimits, Json, Ndjson, Xml
from tests.ingestion.catalog import counts, table_of
from tests.ingestion.files.shelf import Shelf

GOOD = b"code,name\n1,a\n2,b\n"
LINES = b'{"code": 1, "name": "a"}\n{"code": 2, "name": "b"}\n'


def zipped(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def encrypted(content: bytes) -> bytes:
    """Set the flag of an encrypted member, where it is and in the directory (APPNOTE 4.4.4)."""
    changed = bytearray(content)
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        changed[content.index(signature) + at] |= 1
    return bytes(changed)


def workbook(*rows):
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, {"in_memory": True}) as book:
        page = book.add_worksheet()
        for number, row in enumerate(rows):
            page.write_row(number, 0, row)
    return buffer.getvalue()


@pytest.fixture
def sync(shelf):
    """Return a function that runs a feed of one file with this content."""

    def sync(content, name="a.csv", **options):
        for old in shelf.folder.iterdir():
            old.unlink()
        (shelf.folder / name).write_bytes(content)
        return shelf.sync(**({"pattern": "*"} | options))

    return sync


def rejected():
    found = Reject.objects.order_by("page", "position").values_list("reason", "raw")
    return [(reason, bytes(raw)) for reason, raw in found]


def names(model):
    return dict(model.objects.values_list("code", "name"))


def test_of_a_csv_file_each_bad_line_is_quarantined_and_the_others_are_loaded(sync, shelf):
    content = (
        b"\xef\xbb\xbfcode,name\r\n"
        b'1,"a,b"\r\n'
        b'2,"line\nbreak ""q"""\n'
        b"3,\\N\n4,\\.\n5,a\\\n6,tab\there\n"
        b"7\n8,x,y\n9,nul\x00\n10,\xe9\n"
        b"x,no number\n11,xxxxxxxxxxxxxxxxxxxxx\n,no key\n"
        b"code,name\n"
        b'12,"un"quoted\n'
        b"1,again\n"
        b"13,last,without a line end"
    )
    summary = sync(content)
    assert summary["state"] == "succeeded", summary["error"]
    assert names(shelf.model) == {
        1: "again",
        2: 'line\nbreak "q"',
        3: "\\N",
        4: "\\.",
        5: "a\\",
        6: "tab\there",
    }
    assert rejected() == [
        ("column_count", b"7"),
        ("column_count", b"8,x,y"),
        ("nul_character", b'{"code":"9","name":"nul\\u0000"}'),
        ("invalid_encoding", b"10,\xe9"),
        ("not_an_integer", b'{"code":"x","name":"no number"}'),
        ("too_long", b'{"code":"11","name":"xxxxxxxxxxxxxxxxxxxxx"}'),
        ("missing_key", b'{"code":"","name":"no key"}'),
        ("repeated_header", b"code,name"),
        ("malformed_quotes", b'12,"un"quoted'),
        ("column_count", b"13,last,without a line end"),
    ]


FAILING = {
    "unterminated quote": (b'code,name\n1,"a\n2,b\n', {}, "unterminated_quote"),
    "header missing": (b"1,a\n2,b\n", {}, "header"),
    "header twice": (b"code,name,name\n1,a,b\n", {}, "header"),
    "header in another case": (b"Code,NAME\n1,a\n", {}, "header"),
    "header empty": (b"code,\n1,a\n", {}, "header"),
    "preamble without a rule": (b"Report\ncode,name\n1,a\n", {}, "header"),
    "wrong delimiter": (b"code;name\n1;a\n", {}, "dialect"),
    "empty where it must not be": (b"", {"may_be_empty": False}, "empty_file"),
    "header only where it must not be": (b"code,name\n", {"may_be_empty": False}, "empty_file"),
    "UTF-16 undeclared": (GOOD.decode().encode("utf-16"), {}, "encoding"),
    "gzip by another name": (gzip.compress(GOOD), {}, "compression"),
    "gzip cut": (gzip.compress(GOOD)[:-9], {"compression": "gzip"}, "incomplete"),
    "gzip of nothing": (b"", {"compression": "gzip"}, "incomplete"),
    "gzip bomb": (
        gzip.compress(GOOD + b"3,c\n" * 100_000),
        {"compression": "gzip", "limits": FileLimits(decoded_bytes=10_000)},
        "file_too_large",
    ),
    "zip of nothing": (zipped(), {"compression": "zip"}, "archive"),
    "zip of two": (zipped(("a.csv", GOOD), ("b.csv", GOOD)), {"compression": "zip"}, "archive"),
    "zip in zip": (zipped(("a.zip", zipped(("a.csv", GOOD)))), {"compression": "zip"}, "archive"),
    "zip encrypted": (encrypted(zipped(("a.csv", GOOD))), {"compression": "zip"}, "archive"),
    "zip bomb": (zipped(("a.csv", GOOD + b"3," + b"c" * 2**24)), {"compression": "zip"}, "compression_ratio"),
    "zip that leads out": (zipped(("../a.csv", GOOD)), {"compression": "zip"}, "archive"),
    "NDJSON cut in its last line": (LINES[:-5], {"format": Ndjson()}, "incomplete"),
    "JSON cut": (b'[{"code": 1, "name": "a"}', {"format": Json()}, "not_json"),
    "JSON that is HTML": (b"<html></html>", {"format": Json()}, "not_json"),
    "JSON without a list": (b'{"code": 1}', {"format": Json()}, "shape"),
    "XML with entities": (
        b'<!DOCTYPE a [<!ENTITY b "c">]><r><i><code>1</code><name>&b;</name></i></r>',
        {"format": Xml(record="i")},
        "xml_dtd",
    ),
    "XML cut": (b"<r><i><code>1</code></i>", {"format": Xml(record="i")}, "not_xml"),
    "Excel that is none": (GOOD, {"format": Excel()}, "not_excel"),
    "Excel cut": (workbook(["code", "name"], [1, "a"])[:-60], {"format": Excel()}, "not_excel"),
    "Excel without a column": (workbook(["code", "title"], [1, "a"]), {"format": Excel()}, "header"),
}


def test_a_file_that_is_not_what_it_should_be_fails_its_run_and_is_read_again(sync, shelf):
    # In one test: a database that is emptied for each takes longer than all of the runs.
    found = {}
    for what, (content, options, _) in FAILING.items():
        summary = sync(content, "a.dat", **options)
        code, _, message = (summary["error"] or "").partition(": ")
        found[what] = (summary["state"], code, "a.dat" in message)
    assert found == {what: ("failed", code, True) for what, (_, _, code) in FAILING.items()}
    assert shelf.loaded() == []


ODD = {
    "reordered": (b"name,x,code\na,0,1\nb,0,2\n", {}),
    "two members": (gzip.compress(GOOD[:10]) + gzip.compress(GOOD[10:]), {"compression": "gzip"}),
    "folders in a zip": (zipped(("folder/", b""), ("folder/a.csv", GOOD)), {"compression": "zip"}),
    "declared UTF-16": (GOOD.decode().encode("utf-16"), {"format": Csv(encoding="utf-16")}),
    "blank lines": (LINES + b"\n\n", {"format": Ndjson()}),
    "no last line end": (LINES[:-1], {"format": Ndjson()}),
    "a workbook": (workbook(["name", "code"], ["a", 1], ["b", 2]), {"format": Excel()}),
    "a preamble, a footer": (b"Report\n" + GOOD + b"2 lines\n", {"format": Csv(skip_lines=1, skip_footer=1)}),
}


def test_what_is_odd_and_good_is_loaded(sync, shelf):
    for what, (content, options) in ODD.items():
        shelf.model.objects.all().delete()
        assert (what, counts(sync(content, "a.dat", **options))) == (what, {"read": 2, "inserted": 2})
        assert names(shelf.model) == {1: "a", 2: "b"}
    for empty in (b"", b"code,name\n"):
        summary = sync(empty)
        assert (summary["state"], counts(summary)) == ("succeeded", {})


def test_a_field_longer_than_the_reader_s_own_limit_is_loaded(monkeypatch, tmp_path, transactional_db):
    long = "x" * 131_073
    content = f'code,name\n1,{long}\n2,"{long}"\n3,b\n'.encode()
    with table_of(code=models.BigIntegerField(unique=True), name=models.TextField()) as model:
        (tmp_path / "a.csv").write_bytes(content)
        summary = Shelf(monkeypatch, model, tmp_path).sync()
        assert (summary["error"], summary["rejected"], names(model)) == (None, 0, {1: long, 2: long, 3: "b"})


def test_of_an_ndjson_file_each_bad_line_is_quarantined_and_the_others_are_loaded(sync, shelf):
    bad = (
        b'{"code": 3, "name": "nul\\u0000"}',
        b'{"code": 4, "name": "\\ud800"}',
        b'{"code": 5, "name": "\xe9"}',
        b'{"code": 6, "name": NaN}',
        b"not json",
        b"[7]",
        b"null",
        b'{"name": "no key"}',
        b'{"code": 9223372036854775808, "name": "x"}',
    )
    summary = sync(b"\n".join([LINES.strip(), *bad]) + b"\n", "a.ndjson", format=Ndjson())
    assert summary["state"] == "succeeded", summary["error"]
    assert names(shelf.model) == {1: "a", 2: "b"}
    assert [raw for _, raw in rejected()] == list(bad)
    assert [reason for reason, _ in rejected()] == [
        "nul_character",
        "lone_surrogate",
        "invalid_encoding",
        "non_finite_number",
        "not_json",
        "not_an_object",
        "not_an_object",
        "missing_key",
        "out_of_range",
    ]


def test_all_naughty_strings_are_loaded_byte_for_byte(monkeypatch, tmp_path, corpora, transactional_db):
    strings = json.loads((corpora / "blns.json").read_text())
    rows = [{"code": number, "name": text} for number, text in enumerate(strings)]
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, ("code", "name"), quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    with table_of(code=models.BigIntegerField(unique=True), name=models.TextField()) as model:
        shelf = Shelf(monkeypatch, model, tmp_path)
        for name, content, format_ in (("a.csv", table.getvalue(), Csv()), ("a.ndjson", lines, Ndjson())):
            (tmp_path / name).write_text(content, newline="")
            model.objects.all().delete()
            summary = shelf.sync(pattern=name, format=format_)
            assert counts(summary) == {"read": len(strings), "inserted": len(strings)}
            assert names(model) == dict(enumerate(strings))
