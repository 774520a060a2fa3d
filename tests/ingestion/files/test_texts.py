"""Groups of text rows: the same lines, keys and counts as row by row, at once where nothing needs a second look."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.cleaning import Column, compile_columns
from ingestion.drift import Watch
from ingestion.encoding import encode_lines
from ingestion.errors import RecordRejected
from ingestion.groups import compile_texts
from ingestion.preparation import Preparer
from ingestion.tabular import TextRecords, text_records
from ingestion.types import Page

NAMES = ("id", "text", "number", "price", "day", "at", "flag", "uid", "code")
COLUMNS = (
    Column(name="id", kind="integer", path=("id",), is_key=True),
    Column(name="text", kind="text", path=("text",), max_length=20),
    Column(name="number", kind="integer", path=("number",), limits=(-32768, 32767), null=True),
    Column(name="price", kind="decimal", path=("price",), max_digits=6, decimal_places=2, null=True),
    Column(name="day", kind="date", path=("day",), null=True),
    Column(name="at", kind="timestamp", path=("at",), null=True),
    Column(name="flag", kind="boolean", path=("flag",), null=True),
    Column(name="uid", kind="uuid", path=("uid",), null=True),
    Column(name="code", kind="text", path=("code",), choices=frozenset({"a", "b"}), null=True),
    Column(name="raw", kind="json", path=None),
)
PLAIN = [
    "1", "a title", "-12", "12.50", "2024-02-29", "2024-02-29T10:00:00+02:00", "true",
    "0a0e1f5a-0000-4000-8000-0123456789ab", "a",
]  # fmt: skip


def row(**changes):
    return [changes.get(name, value) for name, value in zip(NAMES, PLAIN, strict=True)]


def one_by_one(records, columns=COLUMNS):
    """Return the lines, keys and coercions as records taken alone give them."""
    from collections import Counter

    coercions = Counter()
    clean = compile_columns(columns, (), coercions)
    rows = [clean(record) for record in records]
    return "".join(encode_lines(rows, [column.kind for column in columns])), [found[0] for found in rows], coercions


def same(*rows, names=NAMES, columns=COLUMNS):
    """Compare both ways, and return whether the group went at once."""
    records = text_records(names, list(rows))
    encoded = compile_texts(columns, Watch())(records)
    try:
        expected = one_by_one(records, columns)
    except RecordRejected:
        assert encoded is None
        return False
    if encoded is not None:
        assert (encoded.lines, encoded.keys, encoded.coercions) == expected
    return encoded is not None


def test_plain_rows_go_at_once():
    assert same(row(), row(id="2", text="b"), row(id="3"))
    encoded = compile_texts(COLUMNS[:3], Watch())(text_records(NAMES, [row(), row(id="2", number="0")]))
    assert encoded.lines == "1\ta title\t-12\n2\ta title\t0\n"
    assert encoded.keys == [1, 2]
    assert encoded.coercions == {"id:text": 2, "number:text": 2}


@pytest.mark.parametrize(
    "changes",
    [
        {"text": "tab\there"}, {"text": "line\nbreak"}, {"text": "\r"}, {"text": "back\\slash"}, {"text": r"\N"},
        {"text": r"\."}, {"text": 'a "quote"'}, {"text": "ünï\u2028\x85😀"}, {"text": ""}, {"text": "\x1f\x0b"},
        {"number": None, "code": None}, {"number": ""}, {"number": " 7 "}, {"number": "+7"}, {"number": "007"},
        {"number": "-0"}, {"number": "32767"}, {"price": ""}, {"price": "1"}, {"price": "-0.5"}, {"price": "0.00"},
        {"price": "-0"}, {"price": "1e2"}, {"price": "012.5"}, {"day": ""}, {"day": " 2024-02-28 "},
        {"day": "2024-02-29T10:00:00Z"}, {"at": "2024-02-29 10:00:00.123456Z"}, {"at": "2024-02-29T10:00:00.1234567Z"},
        {"at": "2024-02-29T24:00:00Z"}, {"at": ""}, {"flag": "no"}, {"flag": "ON"},
        {"uid": "{0A0E1F5A-0000-4000-8000-0123456789AB}"}, {"code": "b"},
    ],
    ids=repr,
)  # fmt: skip
def test_both_ways_agree_on_what_can_be_loaded(changes):
    assert same(row(**changes), row(id="2"))


@pytest.mark.parametrize(
    "changes",
    [
        {"text": "nul\x00"}, {"text": "x" * 21}, {"id": ""}, {"id": None}, {"id": "x"}, {"number": "32768"},
        {"number": "-32769"}, {"number": "1\n2"}, {"number": "1_0"}, {"number": "٣"}, {"price": "1\n2"},
        {"price": "10000.00"}, {"price": "1.005"}, {"price": "1,5"}, {"day": "2024-02-30"}, {"day": "20240229"},
        {"day": "2024-W01-1"}, {"at": "2024-02-30T00:00:00Z"}, {"at": "2024-02-29T10:00:00"},
        {"at": "0001-01-01T00:00:00+05:00"}, {"flag": "2"}, {"flag": ""}, {"uid": "x"}, {"code": "c"}, {"code": ""},
    ],
    ids=repr,
)  # fmt: skip
def test_a_group_with_a_bad_value_goes_row_by_row(changes):
    assert not same(row(**changes), row(id="2"))


def test_constants_of_every_kind_go_at_once():
    constants = (
        Column(name="note", kind="text", path=(), constant="a\tb"),
        Column(name="more", kind="json", path=(), constant='{"a": "\\\\"}'),
        Column(name="none", kind="json", path=(), constant=None, null=True),
    )
    assert same(["1"], ["2"], names=("id",), columns=(*COLUMNS[:1], *constants))


def test_columns_that_are_not_in_the_rows_and_columns_that_nobody_takes():
    columns = (*COLUMNS[:1], Column(name="note", kind="text", path=("note",), default="none"), COLUMNS[-1])
    assert same(["1", "x"], ["2", 'y"'], names=("id", "100%\\\t"), columns=columns)
    needed = (*COLUMNS[:1], Column(name="note", kind="text", path=("note",)))
    assert not same(["1", "x"], names=("id", "other"), columns=needed)


def test_constants_and_keys_of_several_columns():
    columns = (
        Column(name="a", kind="integer", path=("a",), is_key=True),
        Column(name="day", kind="date", path=(), constant=dt.date(2024, 2, 29)),
        Column(name="b", kind="text", path=("b",), is_key=True),
    )
    encoded = compile_texts(columns, Watch())(text_records(("a", "b"), [["1", "x"], ["2", "y"]]))
    assert (encoded.lines, encoded.keys) == ("1\t2024-02-29\tx\n2\t2024-02-29\ty\n", [(1, "x"), (2, "y")])


def test_columns_that_need_the_decoded_record_are_not_compiled():
    assert compile_texts((Column(name="a", kind="text", path=("a", "b")),), Watch()) is None
    assert compile_texts((Column(name="a", kind="text", path=("a",), others=(("b",),)),), Watch()) is None
    assert compile_texts((Column(name="a", kind="json", path=("a",)),), Watch()) is None
    assert compile_texts((Column(name="a", kind="text", path=(), compute=lambda record: "x"),), Watch()) is None


values = st.one_of(
    st.none(), st.text(max_size=6), st.sampled_from(PLAIN), st.sampled_from(["", " 1", "1.0", "-3", "t"])
)


@given(st.lists(st.lists(values, min_size=9, max_size=9), min_size=1, max_size=4))
def test_both_ways_agree_on_any_text(rows):
    same(*rows)


def test_a_bad_row_and_one_that_the_source_refuses_do_not_take_the_others_along():
    rows = [row(id=str(number)) for number in range(100)]
    rows[40] = row(id="40", day="never")
    rows[70] = b"70,only two"
    records = text_records(NAMES, rows)
    refusal = RecordRejected("column_count", detail="2 values, expected 9")
    page = Page(number=3, records=records, size_bytes=1000, following=None, refused={70: refusal})
    prepared = Preparer(COLUMNS)(page)
    assert list(prepared.keys) == [number for number in range(100) if number not in (40, 70)]
    assert prepared.positions == list(prepared.keys)
    assert [(r.reason, r.position, r.key) for r in prepared.rejections] == [
        ("invalid_timestamp", 40, "40"),
        ("column_count", 70, None),
    ]
    assert prepared.rejections[1].raw == b"70,only two"
    assert prepared.rejections[0].raw.startswith(b'{"id":"40","text":"a title"')


def test_an_all_text_row_is_the_json_object_of_its_names():
    records = text_records(("a", "b"), [["1", 'x"\n'], ["2", None], b"junk"])
    assert [bytes(record) for record in records] == [b'{"a":"1","b":"x\\"\\n"}', b'{"a":"2","b":null}', b"junk"]
    assert len(records[1:]) == 2
    assert isinstance(records[:2], TextRecords)
    assert list(text_records(("a", "b"), [])) == list(text_records((), [])) == []
    assert bytes(records[1:][0]) == b'{"a":"2","b":null}'
