"""Names that an object has twice: the last counts and is counted, at the key the record is rejected."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.cleaning import Column, strings_in
from tests.ingestion.preparing import COLUMNS, NESTED, clean_record, dumps, rows, same

REPEATED = (
    COLUMNS[0],
    Column(name="title", kind="text", path=("title",), null=True),
    Column(name="city", kind="text", path=("user", "city"), null=True),
    Column(name="tags", kind="json", path=("tags",), null=True),
)


@pytest.mark.parametrize(
    ("record", "row", "coercions"),
    [
        ('{"id":1,"title":"a","title":"b"}', [1, "b", None, None], ["title"]),
        ('{"id":1,"title":"a","title":null}', [1, None, None, None], ["title"]),
        ('{"id":1,"title":"a","title":7}', [1, "7", None, None], ["title", "title:number"]),
        ('{"id":1,"title":"a" , "\\u0074itle" : "b"}', [1, "b", None, None], ["title"]),
        ('{"id":1,"title":"a\\"title\\":\\\\","title":"\\\\\\""}', [1, '\\"', None, None], ["title"]),
        ('{"id":1,"user":{"city":"a"},"user":{}}', [1, None, None, None], ["city"]),
        ('{"id":1,"user":{"city":"a","city":"b"}}', [1, None, "b", None], ["city"]),
        ('{"id":1,"user":{"name":"a","name":"b"}}', [1, None, None, None], []),
        ('{"id":1,"other":1,"other":2,"user":{"city":"b"}}', [1, None, "b", None], []),
        ('{"id":1,"tags":[{"a":1,"a":2}]}', [1, None, None, [{"a": 2}]], ["tags"]),
        ('{"id":1,"tags":[{"title":1},{"title":2}]}', [1, None, None, [{"title": 1}, {"title": 2}]], []),
    ],
)  # fmt: skip
def test_of_a_name_that_is_there_twice_the_last_counts_and_is_counted(record, row, coercions):
    noted = {name if ":" in name else f"{name}:repeated_name": 1 for name in coercions}
    one = same(f"[{record}]".encode(), columns=REPEATED)
    expected = [None if value is None else str(value) for value in row[:3]]
    (found,) = rows(one, ends_in_json=False)
    assert found[:3] == expected
    assert found[3] is None or json.loads(found[3]) == row[3]
    assert one.coercions == noted
    among = same(f"[{record},{dumps(clean_record(2)).decode()},{record}]".encode(), columns=REPEATED)
    assert among.coercions == {name: 2 * count for name, count in noted.items()}
    whole = same(f"[{record}]".encode(), columns=(*REPEATED, Column(name="raw", kind="json", path=None)))
    assert ("raw:repeated_name" in whole.coercions) is ('"title":1},{' not in record)


def test_a_name_that_is_there_twice_is_not_made_up_for_by_one_that_is_missing():
    twice = b'{"id":1,"title":"a","title":"b","rank":1,"flag":true,"colour":"red"}'
    prepared = same(b"[" + twice + b"," + dumps(clean_record(2)) + b"]")
    assert prepared.coercions == {"title:repeated_name": 1, "raw:repeated_name": 1}


@pytest.mark.parametrize("twin", ["id", "\\u0069d"])
def test_a_key_that_is_there_twice_is_rejected_however_it_is_spelled(twin):
    prepared = same(f'[{{"id":1,"title":"a","{twin}":2}},{{"id":3,"title":"a"}}]'.encode())
    assert [(r.reason, r.position, r.key) for r in prepared.rejections] == [("ambiguous_key", 0, None)]
    assert list(prepared.keys) == [3]


def test_a_rejected_record_counts_no_name_that_is_there_twice():
    prepared = same(b'[{"id":1,"title":["a"],"note":"b","note":"c"},{"id":2,"title":"a"}]')
    assert (len(prepared.rejections), prepared.coercions) == (1, {})


names = st.sampled_from(["id", "title", "note", "user", "x", '"', "\\", 'a"b\\'])
leaves = st.one_of(st.integers(0, 9), st.none(), st.sampled_from(["", '"', "\\", '\\"', '":', "é", "a\\\\"]))


def object_text(members):
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in members) + "}"


def members(inner):
    return st.lists(st.tuples(names, inner), max_size=4)


trees = st.recursive(
    leaves.map(json.dumps),
    lambda inner: (
        members(inner).map(object_text) | st.lists(inner, max_size=2).map(lambda texts: f"[{','.join(texts)}]")
    ),
    max_leaves=4,
)


@given(st.lists(members(trees), max_size=4), st.booleans())
def test_both_ways_agree_on_records_with_names_twice_anywhere(page, whole):
    page = [[("id", number), *record] for number, record in enumerate(page)]
    columns = (*NESTED[1:], REPEATED[1], replace(NESTED[0], path=("id",)))
    columns += (Column(name="raw", kind="json", path=None),) if whole else ()
    prepared = same(f"[{','.join(map(object_text, page))}]".encode(), columns=columns)
    if not any(len({name for name, _ in record}) < len(record) or "{" in str(record) for record in page):
        assert not any("repeated_name" in name for name in prepared.coercions)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"[]", 0),
        (b'""', 1),
        (b'{"a":"b"}', 2),
        (rb'["\"", "\\", "\\\"", "\\\\"]', 4),
        (rb'{"\"a\":" : "\"b\\"}', 2),
        (rb'["\u0022", "\\u0022"]', 2),
    ],
)
def test_strings_are_counted_whatever_is_escaped_in_them(text, expected):
    assert strings_in(text) == expected


values = st.recursive(
    st.text(alphabet='ab"\\:,', max_size=5) | st.integers() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='a"\\', max_size=3), inner, max_size=3)
    ),
)


def strings_of(value):
    if isinstance(value, dict):
        return len(value) + sum(map(strings_of, value.values()))
    return sum(map(strings_of, value)) if isinstance(value, list) else isinstance(value, str)


@given(values, st.booleans())
def test_a_text_has_as_many_strings_as_its_value(value, ascii_only):
    assert strings_in(json.dumps(value, ensure_ascii=ascii_only).encode()) == strings_of(value)
