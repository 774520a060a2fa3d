"""NDJSON to records: lines of any length, cut lines, odd encodings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.errors import RunFailed
from ingestion.sources import FileLimits, Ndjson
from tests.ingestion.files.streams import Stream, blocks, records, resumed_everywhere


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("page_bytes", [1, 10, 1000])
def test_each_line_is_a_record(end, page_bytes):
    content = end.join(['{"a":1}', "", "  ", '{"a":"x\u2028y\x85"}', '{"a":3}', ""]).encode()
    assert records(Ndjson(page_bytes=page_bytes), content) == [{"a": 1}, {"a": "x\u2028y\x85"}, {"a": 3}]
    resumed_everywhere(Ndjson(page_bytes=page_bytes), content)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", b"  \n\n"])
def test_an_empty_file_has_no_records(content):
    assert records(Ndjson(), content) == []


def test_a_byte_order_mark_is_no_part_of_the_first_line():
    assert records(Ndjson(), b'\xef\xbb\xbf{"a":1}\n{"a":2}') == [{"a": 1}, {"a": 2}]


def test_a_last_line_without_a_line_break_counts_when_it_is_whole():
    assert records(Ndjson(), b'{"a":1}\n{"a":2}') == [{"a": 1}, {"a": 2}]


def test_a_last_line_that_is_whole_but_bad_is_left_to_cleaning():
    (block,) = blocks(Ndjson(), b'{"a":1}\n{"a":NaN}')
    assert list(map(bytes, block.records)) == [b'{"a":1}', b'{"a":NaN}']


@pytest.mark.parametrize("cut", range(1, len('{"a":{"b":[1,2]}}')))
def test_a_last_line_cut_anywhere_fails(cut):
    with pytest.raises(RunFailed, match="incomplete"):
        blocks(Ndjson(), b'{"a":1}\n' + b'{"a":{"b":[1,2]}}'[:cut])


def test_a_bad_line_in_the_middle_is_left_to_cleaning():
    (block,) = blocks(Ndjson(), b'{"a":1}\n{"a":\nnull\n{"a":2}\n')
    assert [bytes(raw) for raw in block.records] == [b'{"a":1}', b'{"a":', b"null", b'{"a":2}']


def test_a_line_longer_than_a_page_is_read_up_to_the_limit():
    line = b'{"a":"' + b"x" * 5000 + b'"}\n'
    assert len(records(Ndjson(page_bytes=100), line * 3)) == 3
    stream = Stream(b"x" * 1_000_000, piece=1000)
    with pytest.raises(RunFailed, match="record_too_large"):
        list(Ndjson(page_bytes=100).blocks(stream, None, None, FileLimits(record_bytes=4000)))
    assert stream.position < 20_000


def test_utf_16_and_compressed_data_fail():
    for content, code in ((b'{"a":1}'.decode().encode("utf-16"), "encoding"), (b"\x1f\x8b\x08", "compression")):
        with pytest.raises(RunFailed, match=code):
            blocks(Ndjson(), content)


@given(st.lists(st.binary(max_size=6).filter(lambda line: b"\n" not in line), max_size=8), st.integers(1, 30))
def test_blocks_are_cut_between_lines_alone(lines, page_bytes):
    content = b'{"x":0}\n' + b"".join(line + b"\n" for line in lines)
    found = blocks(Ndjson(page_bytes=page_bytes), content)
    whole = [raw for block in found for raw in map(bytes, block.records)]
    expected = [line for line in content.replace(b"\r\n", b"\n").split(b"\n") if line and not line.isspace()]
    assert whole == expected
    assert sum(block.size_bytes for block in found) == len(content)
    resumed_everywhere(Ndjson(page_bytes=page_bytes), content)
