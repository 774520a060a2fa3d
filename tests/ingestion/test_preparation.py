"""The fast way and the slow way give the same rows, keys and rejects, whatever a page holds."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.cleaning import UNSET, Column, binary, text, timestamp
from ingestion.errors import RecordRejected
from ingestion.http import Response
from ingestion.preparation import GROUP, Preparer
from ingestion.sources import split_records
from ingestion.types import Page
from tests.ingestion.preparing import COLUMNS, NESTED, clean_record, dumps, rows, same
from tests.remote import json_list


def shout(value):
    if not value.isupper():
        raise RecordRejected("invalid_value", field="v", detail="too quiet")


texts = st.one_of(
    st.text(max_size=25),
    st.sampled_from(
        ["", "\t", "\n", "\r", "\\", r"\N", r"\.", "\x00", "\x1d", "\x1f", "é", "🦔", "nul \x00", "x" * 21]
    ),
)
anything = st.one_of(
    texts, st.none(), st.booleans(), st.integers(-(2**65), 2**65), st.floats(), st.lists(st.integers())
)
records = st.fixed_dictionaries(
    {},
    optional={
        "id": st.one_of(st.integers(1, 9), st.integers(1, 9).map(str), anything),
        "title": st.one_of(texts, texts, anything),
        "note": st.one_of(texts, anything),
        "rank": st.one_of(st.integers(-1, 32768), anything),
        "flag": st.one_of(st.booleans(), anything),
        "colour": st.one_of(st.sampled_from(["red", "blue", "green"]), anything),
        "extra": st.recursive(anything, lambda inner: st.dictionaries(texts, inner, max_size=2), max_leaves=3),
    },
)


@given(st.lists(records, max_size=8), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_both_ways_agree_on_generated_dirty_pages(page, indent, ascii_only):
    if not ascii_only and any("\ud800" <= c <= "\udfff" for c in repr(page)):
        ascii_only = True
    same(dumps(page, indent=indent, ensure_ascii=ascii_only))


good = st.fixed_dictionaries(
    {"id": st.integers(-(2**63), 2**63 - 1), "title": st.text(max_size=20), "note": st.text() | st.none()},
    optional={
        "rank": st.integers(0, 32767),
        "flag": st.booleans() | st.none(),
        "colour": st.sampled_from(["red", "blue"]),
    },
)


@given(st.lists(good, max_size=5), records, st.lists(good, max_size=5))
def test_both_ways_agree_on_one_dirty_record_among_good_ones(before, dirty, after):
    same(dumps([*before, dirty, *after]))


def test_a_clean_page_becomes_one_text():
    prepared = same(dumps([clean_record(number) for number in range(1000)]))
    assert (len(prepared.lines), prepared.keys[-1], prepared.rejections) == (1, 999, [])


def test_a_whole_record_is_written_in_the_order_in_which_jsonb_keeps_it():
    columns = (
        Column(name="thumbnail", kind="text", path=("thumbnailUrl",), max_length=20),
        Column(name="id", kind="integer", path=("id",), is_key=True),
        Column(name="url", kind="text", path=("url",), max_length=20),
        Column(name="album", kind="integer", path=("albumId",)),
        Column(name="b", kind="text", path=("b2",), max_length=20),
        Column(name="raw", kind="json", path=None),
    )
    page = [{"url": "u", "albumId": 3, "id": 1, "b2": "c", "thumbnailUrl": "t"}]
    [line] = same(dumps(page), columns=columns).lines
    assert line.split("\t")[-1] == '{"b2":"c","id":1,"url":"u","albumId":3,"thumbnailUrl":"t"}\n'


def test_backslashes_and_escapes_do_not_send_a_page_the_slow_way():
    page = [clean_record(number, title='a "b" \\ é', note="\\N") for number in range(10)]
    prepared = same(dumps(page))
    assert len(prepared.lines) == 1
    assert rows(prepared)[3][1:3] == ['a "b" \\ é', "\\N"]


def test_one_bad_record_sends_only_its_group_the_slow_way():
    page = [clean_record(number) for number in range(1000)]
    page[500]["title"] = "x" * 21
    prepared = same(dumps(page))
    assert [(r.reason, r.position) for r in prepared.rejections] == [("too_long", 500)]
    # Six halvings give a group each; what is left is at most GROUP records, one of them bad.
    assert len(prepared.lines) <= 6 + GROUP - 1
    assert prepared.positions == [number for number in range(1000) if number != 500]


@pytest.mark.parametrize(
    "record",
    [
        b'{"id": 1, "title": "a", "x": "\\ud800"}',
        b'{"id": 1, "title": "\\ud83e\\udd94"}',
        b'{"id": 1, "title": "a", "x": "\\u0000"}',
        b'{"id": 1, "title": "a", "x": "\\\\u0000"}',
        b'{"id": 1, "title": "a", "\\u0000": 1}',
        b'{"id": 1, "title": "a", "x": 1e400}',
        b'{"id": 1, "title": "a", "x": ' + b"9" * 5000 + b"}",
        b'{"id": 1, "title": "a", "x": "\xff"}',
        b'{"id": 1, "title": "\xc3"}',
        b'{"id": 1, "title": "a", "title": "b"}',
        b'{"id": 1, "title": "a", "x": ' + b"[" * 99 + b"]" * 99 + b"}",
        b'{"id": 1, "title": "a", "x": ' + b"[" * 100 + b"]" * 100 + b"}",
        b'{"id": 1.0, "title": "a"}',
        b'{"id": "1", "title": 5}',
        b'{"id": true, "title": "a"}',
        b'{"id": 9223372036854775807, "title": "a"}',
        b'{"id": 9223372036854775808, "title": "a"}',
        b'{"id": 1, "title": "a", "note": null, "rank": null, "colour": null, "flag": "yes"}',
        b'{"id": 1, "title": "a\\u001d"}',
        b"null",
        b'"text"',
        b"[]",
        b"{}",
    ],
)
def test_both_ways_agree_on_records_at_the_edges(record):
    same(b"[" + record + b"]")
    same(b"[" + b",".join([dumps(clean_record(7)), record, dumps(clean_record(8))]) + b"]")


def test_an_empty_page_has_no_lines():
    prepared = same(b"[]")
    assert (rows(prepared), prepared.keys, prepared.rejections) == ([], [], [])


def test_composite_keys_and_columns_without_a_whole_record():
    columns = (
        Column(name="a", kind="integer", path=("a",), is_key=True),
        Column(name="b", kind="text", path=("b",), is_key=True, default=UNSET),
        Column(name="c", kind="json", path=("c",), null=True),
    )
    page = b'[{"a": 1, "b": "x", "c": {"d": [1]}}, {"a": "2", "b": "y"}, {"a": 3, "b": ""}]'
    prepared = same(page, columns=columns)
    assert prepared.keys == [(1, "x"), (2, "y")]
    assert [rejection.reason for rejection in prepared.rejections] == ["missing_key"]


def item(kind, **options):
    return Column(name="member", kind=kind, path=(), **options)


# One column of every kind, as a model would give them; each has a few good and a few bad values of its own.
SOME_UUID = "0123abcd-0000-4000-8000-00000000000f"
KIND_COLUMNS = {
    "decimal": (Column(name="v", kind="decimal", path=("v",), max_digits=5, decimal_places=2, null=True),
        [0.1, 12.5, 7, "12.50", "999.99", 999.999, 1000, "1e2", " 1 ", "1,5", 1e-7, "NaN", "", 10**30, -0.0, "-0"]),
    "free decimal": (Column(name="v", kind="decimal", path=("v",)),
        [0.1, 1e300, 1e-300, 12345678901234567890, "0.1", "1e9", 10**400]),
    "float": (Column(name="v", kind="float", path=("v",), default=1.5),
        [0.1, 1, -0.0, 1e300, 1e-300, 5e-324, "1.5", 10**400, 10**22, 123456789.123456789]),
    "date": (Column(name="v", kind="date", path=("v",), null=True),
        ["2024-02-29", "2023-02-29", "2024-02-29T10:00:00Z", "now", "0001-01-01", "9999-12-31", " 2024-02-29", ""]),
    "time": (Column(name="v", kind="time", path=("v",), null=True),
        ["10:00:00", "10:00", "10:00:00.123456", "10:00:00.1234567", "24:00:00", "10:00:00Z", "", "now"]),
    "timestamp": (Column(name="v", kind="timestamp", path=("v",), null=True),
        ["2024-02-29T10:00:00Z", "2024-02-29 10:00:00+02:00", "2024-02-29t10:00:00.5z", "2024-02-29T10:00:00",
         "2024-02-29T10:00:00.123456789Z", "2024-12-31T24:00:00Z", "2023-02-29T10:00:00Z", "2024-02-29", "now",
         "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59Z", "2024-02-29T10:00:00+23:59",
         "2024-02-29T10:00:60Z", "2024-02-29T10:00:00-0130", 1700000000]),
    "local timestamp": (Column(name="v", kind="timestamp", path=("v",), form=timestamp("v", zone="Asia/Tokyo").form),
        ["2024-02-29T10:00:00Z", "2024-02-29T10:00:00", "2024-02-29"]),
    "epoch": (Column(name="v", kind="timestamp", path=("v",), form=timestamp("v", unit="ms").form),
        [0, 1700000000000, 1700000000000.5, "1700000000000", "2024-02-29T10:00:00Z", 10**20, True]),
    "duration": (Column(name="v", kind="duration", path=("v",)), ["P1D", "01:02:03", "x", 5]),
    "uuid": (Column(name="v", kind="uuid", path=("v",), null=True),
        [SOME_UUID, SOME_UUID.upper(), SOME_UUID.replace("-", ""), "x", "", 7]),
    "address": (Column(name="v", kind="address", path=("v",)), ["10.0.0.1", "2001:DB8::1", "::1", "x"]),
    "binary": (Column(name="v", kind="binary", path=("v",), form=binary("v", encoding="base64").form),
        ["", "AP/+", "AP_-", "AA==", 1]),
    "array": (Column(name="v", kind="array", path=("v",), item=item("text", null=True)),
        [[], ["a"], ["a", None, "\\", '"', ","], ["\t"], [1], [["a"]], "a"]),
    "nested array": (Column(name="v", kind="array", path=("v",), item=item("array", item=item("integer"))),
        [[[1, 2], [3, 4]], [[1], []], [], [1]]),
    "range": (Column(name="v", kind="range", path=("v",), item=item("integer")),
        [[1, 5], "[1,5]", {"lower": 1}, [5, 1]]),
    "json": (Column(name="v", kind="json", path=("v",), null=True),
        [{"a": [1.10, "é", None]}, [], "text", 0, "\x00", "\\u0000", {"\x00": 1}, "\t", 1e-20, "\x1d"]),
    "json with a default": (Column(name="v", kind="json", path=("v",), default="{}"), [None, {}, [None]]),
    "boolean": (Column(name="v", kind="boolean", path=("v",), default=True), [True, False, "yes", 1, 2]),
    "formed text": (Column(name="v", kind="text", path=("v",), max_length=4,
        form=text("v", strip=True, empty_is_null=True).form, null=True), ["a", " a ", " ", "", "abcde", "\x00", 7]),
    "mapped": (Column(name="v", kind="text", path=("v",), mapping={"A": "active", "1": None}, null=True),
        ["A", " A ", 1, "B", True, 1.5]),
    "constant": (Column(name="v", kind="text", path=(), constant="a\\b"), ["x"]),
    "constant null": (Column(name="v", kind="text", path=(), constant=None), ["x"]),
    "checked": (Column(name="v", kind="text", path=("v",), check=shout), ["LOUD", "quiet", ""]),
    "choices": (Column(name="v", kind="decimal", path=("v",), choices=frozenset({Decimal("1.5")})), [1.5, "1.50", 2]),
    "first": (Column(name="v", kind="text", path=("v",), others=(("w",),)), ["a", "", None]),
    "computed": (Column(name="v", kind="integer", path=(), compute=lambda record: record["v"] + 1), [1, "1"]),
}  # fmt: skip


def kind_columns(column, *, whole=True):
    identity = Column(name="id", kind="integer", path=("id",), is_key=True)
    return (identity, column, *([Column(name="raw", kind="json", path=None)] if whole else []))


@pytest.mark.parametrize("name", KIND_COLUMNS)
@pytest.mark.parametrize("whole", [True, False], ids=["whole record", "columns alone"])
def test_both_ways_agree_on_each_value_of_each_kind(name, whole):
    column, values = KIND_COLUMNS[name]
    for value in [*values, None, True, [], {}, {"v": 1}, "x", 0]:
        same(dumps([{"id": 1, "v": value}]), kind_columns(column, whole=whole))
    same(dumps([{"id": 1}]), kind_columns(column, whole=whole))
    same(dumps([{"id": number, "v": value} for number, value in enumerate(values)]), kind_columns(column, whole=whole))


@given(st.data())
def test_both_ways_agree_on_generated_pages_of_all_kinds(data):
    chosen = data.draw(st.lists(st.sampled_from(sorted(KIND_COLUMNS)), min_size=1, max_size=4, unique=True))
    columns = [Column(name="id", kind="integer", path=("id",), is_key=True)]
    members = {"id": st.integers(0, 9)}
    for name in chosen:
        column, values = KIND_COLUMNS[name]
        path = (f"in {data.draw(st.integers(1, 2))}", name) if data.draw(st.booleans()) else (name,)
        columns.append(replace(column, name=name, path=path if column.path else (), others=()))
        inside = st.sampled_from(values) | anything
        members[path[0]] = st.fixed_dictionaries({}, optional={name: inside}) | anything if len(path) > 1 else inside
    page = data.draw(st.lists(st.fixed_dictionaries({}, optional=members), max_size=5))
    same(dumps(page), tuple(columns))


@pytest.mark.parametrize("name", [name for name in KIND_COLUMNS if name not in ("first", "computed")])
def test_clean_values_of_each_kind_go_the_fast_way(name):
    column, values = KIND_COLUMNS[name]
    page = dumps([{"id": number, "v": values[0]} for number in range(50)])
    prepared = same(page, kind_columns(column))
    assert (len(prepared.lines), len(prepared.keys), prepared.rejections) == (1, 50, [])


@pytest.mark.parametrize(
    "record",
    [
        b'{"meta":{"id":1},"user":{"name":"a","address":{"city":"b","zip":"c"}}}',
        b'{"meta":{"id":1},"user":{"name":"a","address":null}}',
        b'{"meta":{"id":1},"user":null}',
        b'{"meta":{"id":1}}',
        b'{"meta":{"id":1},"user":[]}',
        b'{"meta":{"id":1},"user":{"address":"x","name":"a"}}',
        b'{"meta":null}',
        b'{"user":{}}',
        b'{"meta":{"id":1,"id":2}}',
        b'{"meta":{"id":1},"meta":{"id":2}}',
    ],
)
def test_both_ways_agree_on_nested_paths(record):
    same(b"[" + record + b"]", columns=NESTED)
    flat = (replace(NESTED[0], path=("id",)), *NESTED[1:])
    same(b"[" + record.replace(b'"meta"', b'"id":7,"meta"') + b"]", columns=flat)


def test_nested_objects_that_are_missing_or_null_go_the_fast_way():
    columns = (replace(NESTED[0], path=("id",)), *NESTED[1:])
    full = {"id": 1, "user": {"name": "a", "address": {"city": "b"}}}
    page = [full, {"id": 2, "user": None}, {"id": 3}, {"id": 4, "user": {"address": None}}]
    prepared = same(dumps(page), columns=columns)
    assert prepared.lines == ["1\tb\t\ta\n2\t\\N\t\t\\N\n3\t\\N\t\t\\N\n4\t\\N\t\t\\N\n"]


@pytest.mark.parametrize("record", [b'{"id":1,"title":"a","id":2}', b'{"id":1,"title":"a","x":{"id":3,"id":4}}'])
def test_both_ways_agree_on_a_key_that_is_there_twice(record):
    same(b"[" + record + b"]")
    same(b"[" + b",".join([dumps(clean_record(7)), record]) + b"]")


def test_many_brackets_do_not_send_a_page_the_slow_way():
    page = [clean_record(number, x=[{"[": "]"}] * 20) for number in range(50)]
    page[3]["x"] = [{"]": "["}] * 80
    assert len(same(dumps(page)).lines) == 1


def test_coercions_and_skipped_records_are_counted_page_by_page():
    columns = (Column(name="id", kind="integer", path=("id",), is_key=True),)
    preparer = Preparer(columns, [lambda record: record if record.get("keep", True) else None])
    body = b'[{"id":"1"},{"id":2.0},{"id":3,"keep":false},{"id":4},{"id":"x"}]'
    for number in (1, 2):
        records = split_records(Response(status=200, headers={}, body=body), ())
        prepared = preparer(Page(number=number, records=records, size_bytes=len(body), following=None))
        assert prepared.coercions == {"id:text": 1, "id:integral": 1}
        assert (prepared.read, prepared.skipped, list(prepared.keys)) == (4, 1, [1, 2, 4])
        assert [rejection.position for rejection in prepared.rejections] == [4]


def test_escaped_quotes_do_not_send_a_page_the_slow_way():
    page = [clean_record(number, title='"a":\\', note='{"b": "\\\\"}', x={"c\\": ['"']}) for number in range(20)]
    assert len(same(dumps(page)).lines) == 1


def test_a_key_inside_an_object_goes_the_fast_way():
    page = [{"meta": {"id": number}, "user": {"name": "a", "address": {"city": "b"}}} for number in range(20)]
    assert len(same(dumps(page), columns=NESTED).lines) == 1


def test_what_the_source_refuses_is_rejected_although_it_could_be_loaded():
    body = json_list([clean_record(number) for number in range(40)])
    records = split_records(Response(status=200, headers={}, body=body), ())
    refused = {7: RecordRejected("graphql_error", detail="unknown")}
    prepared = Preparer(COLUMNS)(Page(number=1, records=records, size_bytes=len(body), following=None, refused=refused))
    assert [(each.reason, each.position) for each in prepared.rejections] == [("graphql_error", 7)]
    assert list(prepared.positions) == [number for number in range(40) if number != 7]
