"""CSV text to records: every row of BAD_INPUT's table, the csv-spectrum corpus, and resuming anywhere."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.errors import ConfigurationError, RunFailed
from ingestion.sources import Csv, Facts, FileLimits
from tests.ingestion.files.streams import Stream, blocks, records, resumed_everywhere

PLAIN = b"id,name\n1,a\n2,b\n"
NEEDS = Facts(fields=frozenset({"id", "name"}))


def failure(content, *, facts=NEEDS, format_=None, **options):
    with pytest.raises(RunFailed) as caught:
        blocks(format_ or Csv(), content, facts=facts, **options)
    return caught.value


def test_each_row_is_an_object_of_text():
    assert records(Csv(), PLAIN) == [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}]


def spectrum():
    folder = Path(__file__).resolve().parents[4] / "shared" / "corpora" / "csv-spectrum"
    return sorted(path.stem for path in (folder / "csvs").glob("*.csv"))


@pytest.mark.parametrize("page_bytes", [1, 10, 128 * 1024])
@pytest.mark.parametrize("name", spectrum())
def test_csv_spectrum_is_read_right(corpora, name, page_bytes):
    content = (corpora / "csv-spectrum" / "csvs" / f"{name}.csv").read_bytes()
    expected = json.loads((corpora / "csv-spectrum" / "json" / f"{name}.json").read_bytes())
    if name == "location_coordinates":  # the corpus' own answer is another phone number, and no list
        expected = [expected | {"Contact Phone Number": "2095257564"}]
    assert records(Csv(page_bytes=page_bytes), content) == expected
    resumed_everywhere(Csv(page_bytes=page_bytes), content)


def test_the_corpus_is_whole(corpora):
    assert len(list((corpora / "csv-spectrum" / "csvs").glob("*.csv"))) == 12


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_are_those_of_any_system(end):
    content = end.join(["id,name", "1,a", "", "2,b", ""]).encode()
    for page_bytes in (1, 5, 1000):
        assert records(Csv(page_bytes=page_bytes), content) == [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}]


def test_mixed_line_ends_doubled_quotes_and_quoted_line_ends():
    content = b'id,name\r\n1,"a ""b"""\n2,"c,\r\nd"\r3,e\n4,f'
    expected = [("1", 'a "b"'), ("2", "c,\r\nd"), ("3", "e"), ("4", "f")]
    for page_bytes in (1, 9, 1000):
        found = records(Csv(page_bytes=page_bytes), content)
        assert [(record["id"], record["name"]) for record in found] == expected


def test_a_quote_inside_an_unquoted_value_is_a_character():
    assert records(Csv(), b'id,name\n1,5" pipe\n2,b\n') == [{"id": "1", "name": '5" pipe'}, {"id": "2", "name": "b"}]


@pytest.mark.parametrize("lines", [1, 50_000])
def test_an_unterminated_quote_fails_with_its_line(lines):
    content = b'id,name\n1,a\n2,"b\n' + b"3,c\n" * lines
    failed = failure(content, limits=FileLimits(record_bytes=20_000), piece=100_000)
    assert failed.code == "unterminated_quote"
    assert "line 3" in failed.message


def test_the_rest_of_a_file_behind_an_open_quote_is_not_read_into_memory():
    stream = Stream(b'id,name\n1,"a\n' + b"x\n" * 5_000_000, piece=65_536)
    with pytest.raises(RunFailed, match="unterminated_quote"):
        list(Csv(page_bytes=1000).blocks(stream, None, NEEDS, FileLimits(record_bytes=10_000)))
    assert stream.position < 400_000


def test_quotes_that_close_in_the_wrong_place():
    content = b'id,name\n1,"a"b\n2,b\n'
    assert records(Csv(), content) == [("malformed_quotes", b'1,"a"b'), {"id": "2", "name": "b"}]
    failed = failure(b'id,name\n1,a\n2,"a\n3,"b"\n')
    assert (failed.code, "line 3" in failed.message) == ("unterminated_quote", True)


def test_too_few_and_too_many_columns_are_rejected_with_their_text():
    content = b'id,name\n1,a\n2\n3,"c\nd",x\n4,d\n'
    assert records(Csv(), content) == [
        {"id": "1", "name": "a"},
        ("column_count", b"2"),
        ("column_count", b'3,"c\nd",x'),
        {"id": "4", "name": "d"},
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"1,a\n2,b\n", "no column 'id', 'name'"),
        (b"id,title\n1,a\n", "no column 'name'"),
        (b"ID,Name\n1,a\n", "the header is 'ID', 'Name'"),
        (b"id,name,name\n1,a,b\n", "'name' is there twice"),
        (b"id,\n1,a\n", "no column 'name'"),
        (b"Report of today\nid,name\n1,a\n", "no column 'id', 'name'"),
    ],
)
def test_a_header_without_what_is_needed_fails(content, said):
    failed = failure(content)
    assert failed.code == "header"
    assert said in failed.message


def test_a_reordered_header_and_columns_that_nobody_needs_are_fine():
    content = b"name,,x,x,id\na,1,2,3,7\n"
    assert records(Csv(), content, facts=NEEDS) == [{"name": "a", "column_2": "1", "x": "2", "x_2": "3", "id": "7"}]


def test_a_header_can_be_renamed_and_given():
    assert records(Csv(rename={"ID": "id", "user.name": "name"}), b"ID,user.name\n1,a\n", facts=NEEDS) == [
        {"id": "1", "name": "a"}
    ]
    assert records(Csv(names=("id", "name")), b"1,a\n2,b\n", facts=NEEDS) == records(Csv(), PLAIN)


def test_a_preamble_a_repeated_header_and_a_footer_by_rule():
    content = b"Report\n;;\nid,name\n1,a\nid,name\n2,b\nTotal: 2\n\n"
    for page_bytes in (1, 12, 1000):
        format_ = Csv(skip_lines=2, skip_footer=1, skip_repeated_header=True, page_bytes=page_bytes)
        assert records(format_, content, facts=NEEDS) == [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}]
        resumed_everywhere(format_, content, facts=NEEDS)


def test_a_repeated_header_and_a_footer_without_a_rule_are_rejected():
    assert records(Csv(), b"id,name\n1,a\nid,name\nTotal: 1\n") == [
        {"id": "1", "name": "a"},
        ("repeated_header", b"id,name"),
        ("column_count", b"Total: 1"),
    ]


@pytest.mark.parametrize("delimiter", [b";", b"\t", b"|"])
@pytest.mark.parametrize("facts", [NEEDS, Facts()], ids=["needs", "no needs"])
def test_the_wrong_delimiter_fails(delimiter, facts):
    failed = failure(PLAIN.replace(b",", delimiter), facts=facts)
    assert failed.code == "dialect"
    assert repr(delimiter.decode()) in failed.message


def test_the_wrong_delimiter_of_a_file_without_a_header_fails():
    assert failure(b"1;a\n2;b\n", format_=Csv(names=("id", "name"))).code == "dialect"


def test_other_dialects_are_declared():
    assert records(Csv(delimiter=";", quote="'"), b"id;name\n1;'a;b'\n") == [{"id": "1", "name": "a;b"}]
    assert records(Csv(escape="\\"), b'id,name\n1,a\\,b\n2,"c\\"d"\n') == [
        {"id": "1", "name": "a,b"},
        {"id": "2", "name": 'c"d'},
    ]
    assert records(Csv(quote=""), b'id,name\n1,"a\n') == [{"id": "1", "name": '"a'}]


@pytest.mark.parametrize(
    "options",
    [{"delimiter": ""}, {"delimiter": ";;"}, {"encoding": "utf-99"}, {"nulls": "NULL"}, {"names": "id"}],
    ids=repr,
)
def test_a_dialect_that_cannot_be_is_a_configuration_error(options):
    with pytest.raises(ConfigurationError):
        Csv(**options)


def test_empty_and_quoted_empty_are_both_empty_text_or_null_by_rule():
    content = b'id,name\n1,\n2,""\n3,NULL\n'
    assert [record["name"] for record in records(Csv(), content)] == ["", "", "NULL"]
    assert [record["name"] for record in records(Csv(nulls=("", "NULL")), content)] == [None, None, None]


def test_a_field_beyond_the_csv_modules_limit_is_read():
    long = b"x" * 200_000
    for quote in (b"", b'"'):
        (record,) = records(Csv(), b"id,name\n1," + quote + long + quote + b"\n", piece=100_000)
        assert len(record["name"]) == 200_000
    assert failure(b"id,name\n1," + long * 9, limits=FileLimits(record_bytes=100_000), piece=9000).code == (
        "record_too_large"
    )


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf", b"id,name\n", b"id,name"])
def test_an_empty_file_and_a_header_alone_have_no_records(content):
    (block,) = blocks(Csv(), content, facts=NEEDS)
    assert len(block.records) == 0
    assert block.following is None


def test_a_byte_order_mark_is_no_part_of_the_first_name():
    assert records(Csv(), b"\xef\xbb\xbf" + PLAIN, facts=NEEDS) == records(Csv(), PLAIN)


def test_other_encodings_are_declared_never_guessed():
    text = "id,name\n1,é\n2,ü\n"
    for encoding in ("utf-16", "utf-16-le", "latin-1", "cp1252", "utf-8-sig"):
        found = records(Csv(encoding=encoding, page_bytes=3), text.encode(encoding))
        assert found == [{"id": "1", "name": "é"}, {"id": "2", "name": "ü"}]
        resumed_everywhere(Csv(encoding=encoding, page_bytes=3), text.encode(encoding))
    assert records(Csv(encoding="shift_jis"), "id,name\n1,表\n".encode("shift_jis")) == [{"id": "1", "name": "表"}]


def test_bytes_that_are_not_in_the_encoding_reject_their_record_alone():
    content = "id,name\n1,a\n2,é\n3,c\n".encode("latin-1")
    assert records(Csv(), content)[1] == ("invalid_encoding", b"2,\xe9")
    assert [type(record) for record in records(Csv(), content)] == [dict, tuple, dict]
    assert records(Csv(encoding="ascii"), content)[1] == ("invalid_encoding", b"2,\xe9")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_utf_16_that_is_not_declared_fails_with_a_hint(encoding):
    failed = failure(PLAIN.decode().encode(encoding))
    assert (failed.code, "encoding='utf-16'" in failed.message) == ("encoding", True)


def test_half_a_character_of_utf_16_fails():
    assert failure("id,name\n1,a\n".encode("utf-16")[:-1], format_=Csv(encoding="utf-16")).code == "encoding"


@pytest.mark.parametrize("magic", [b"\x1f\x8b\x08\x00", b"PK\x03\x04"])
def test_compressed_data_are_not_taken_for_text(magic):
    assert failure(magic + b"xxxx").code == "compression"


cells = st.text(alphabet=st.sampled_from(list('ab,"\n\r\té😀 ')), max_size=5)


@given(
    st.lists(st.tuples(cells.filter(lambda text: text.strip("\r\n")), cells), max_size=8),
    st.integers(1, 60),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_what_pythons_writer_wrote_is_read_back_and_resumed_anywhere(rows, page_bytes, end, quoted):
    buffer = io.StringIO(newline="")
    # Python quotes a carriage return only where one ends the lines.
    quoting = csv.QUOTE_ALL if quoted or end == "\n" else csv.QUOTE_MINIMAL
    csv.writer(buffer, lineterminator=end, quoting=quoting).writerows([("id", "name"), *rows])
    content = buffer.getvalue().encode()
    format_ = Csv(page_bytes=page_bytes)
    found = records(format_, content, facts=NEEDS)
    expected = [{"id": left, "name": right} for left, right in rows]
    assert found == expected
    resumed_everywhere(format_, content, facts=NEEDS)


def test_a_file_is_read_block_by_block():
    stream = Stream(b"id,name\n" + b"1,a\n" * 1_000_000, piece=65_536)
    first = next(Csv(page_bytes=1000).blocks(stream, None, NEEDS, FileLimits()))
    assert len(first.records) == 250
    assert stream.position < 300_000
