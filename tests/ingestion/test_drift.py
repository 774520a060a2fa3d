"""What is learned of records' fields, what counts as drift, and that no record escapes, however it is encoded."""

import copy
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion import drift
from ingestion.cleaning import Column
from ingestion.drift import Change, Shape, Watch, shapes
from ingestion.preparation import Preparer
from ingestion.types import Page


def learned(*records, page=1):
    shape = Shape()
    for record in records:
        shapes.learn(shape, record, page=page)
    return shape


def outline(shape):
    return list(drift.outline(shape))


def changes(known, *records):
    return list(drift.changes(known, learned(*records)))


def test_a_shape_has_the_types_of_each_field_inside_objects_too():
    shape = learned({"id": 1, "user": {"name": "a", "tags": ["b"]}}, {"id": "1", "user": None, "ok": True})
    assert outline(shape) == [
        "id: number, text", "ok: boolean", "user: null, object", "user.name: text", "user.tags: list",
    ]  # fmt: skip


def test_each_type_remembers_its_first_page():
    shape = learned({"id": 1})
    assert shapes.learn(shape, {"id": "1"}, page=3)
    assert not shapes.learn(shape, {"id": 2}, page=4)
    assert shape.fields["id"].types == {"number": 1, "text": 3}


def test_lists_and_what_is_deeper_than_four_names_are_not_looked_into():
    shape = learned({"a": {"b": {"c": {"d": {"e": {}}}}}, "l": [{"x": 1}]})
    assert outline(shape)[-2:] == ["a.b.c.d: object", "l: list"]


def test_an_object_with_data_for_names_is_not_followed():
    names = {f"name {number}": 1 for number in range(shapes.MAX_NAMES)}
    shape = learned({"prices": names})
    assert len(shape.fields["prices"].fields) == shapes.MAX_NAMES
    shapes.learn(shape, {"prices": {"one more": 1}}, page=2)
    assert (shape.fields["prices"].fields, shape.fields["prices"].is_open) == ({}, True)
    assert changes(shape, {"prices": {"another": 1}}) == []


def test_beyond_so_many_fields_in_all_only_those_at_the_top_are_followed():
    wide = {f"o{number}": {f"n{inner}": 1 for inner in range(100)} for number in range(21)}
    shape = learned(wide)
    assert len(shape.fields) == 21
    assert all(field.is_open and not field.fields for field in shape.fields.values())


@pytest.mark.parametrize("name", ['"', "\\", "\x00", "\n"])
def test_names_that_a_struct_cannot_have_are_left_out(name):
    assert outline(learned({name: 1, "id": 1})) == ["id: number"]


KNOWN = learned({"id": 1, "note": None, "user": {"name": "a"}, "size": 1.5})


def test_what_is_known_is_no_drift():
    assert changes(KNOWN, {"id": 2, "note": None, "user": {"name": None}, "size": None}, {}) == []


def test_a_field_that_was_always_null_may_become_anything():
    assert changes(KNOWN, {"note": {"text": "a"}}) == []


def test_new_fields_and_new_types_are_drift():
    found = changes(KNOWN, {"id": "1", "user": {"name": "a", "age": 3}, "colour": "red"})
    assert found == [
        Change(field="id", change="type", before=("number",), now=("text",), page=1),
        Change(field="user.age", change="new", now=("number",), page=1),
        Change(field="colour", change="new", now=("text",), page=1),
    ]
    assert [drift.describe(change) for change in found] == [
        "id is text, was number (page 1)", "user.age is new, number (page 1)", "colour is new, text (page 1)",
    ]  # fmt: skip


def test_of_a_new_object_the_object_alone_is_told():
    assert [c.field for c in changes(KNOWN, {"owner": {"a": 1, "b": {"c": 2}}})] == ["owner"]


def test_what_vanished_is_told_and_forgotten():
    known = copy.deepcopy(KNOWN)
    gone = list(drift.drop_vanished(known, learned({"id": 1, "note": None, "user": {}})))
    assert gone == [
        Change(field="user.name", change="vanished", before=("text",)),
        Change(field="size", change="vanished", before=("number",)),
    ]
    assert drift.describe(gone[1]) == "size vanished, was number"
    assert outline(known) == ["id: number", "note: null", "user: object"]


def test_fields_of_an_object_that_is_always_null_have_not_vanished():
    assert list(drift.drop_vanished(copy.deepcopy(KNOWN), learned({"id": 1, "note": 1, "user": None, "size": 1}))) == []


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=2) | st.lists(st.integers(), max_size=1),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
records = st.dictionaries(st.sampled_from(["a", "b", "id", "é", '"']), values, max_size=4)


@given(st.lists(records, max_size=6), st.integers(0, 6))
def test_shapes_that_were_learned_apart_merge_into_the_same_one_either_way(page, cut):
    one, other = learned(*page[:cut], page=1), learned(*page[cut:], page=2)
    forth, back = copy.deepcopy(one), copy.deepcopy(other)
    drift.merge(forth, other)
    drift.merge(back, one)
    assert forth.types == back.types
    assert outline(forth) == outline(back) == outline(learned(*page))
    assert not drift.merge(forth, other)
    assert drift.from_json(json.loads(json.dumps(drift.to_json(forth)))) == forth


COLUMNS = (
    Column(name="id", kind="integer", path=("id",), is_key=True, limits=(-(2**63), 2**63 - 1)),
    Column(name="title", kind="text", path=("title",), max_length=20),
    Column(name="note", kind="text", path=("note",), null=True),
    Column(name="rank", kind="integer", path=("rank",), limits=(0, 32767), default=7),
)
WHOLE = (*COLUMNS, Column(name="raw", kind="json", path=None))
NESTED = (COLUMNS[0], Column(name="city", kind="text", path=("user", "address", "city"), null=True))
# A feed is closed when its columns take all there is; slow when a rule looks at whole records.
WAYS = {"columns": (COLUMNS, ()), "whole": (WHOLE, ()), "nested": (NESTED, ()), "slow": (COLUMNS, (dict,))}


def page_of(number, page):
    texts = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in page]
    return Page(number=number, records=[msgspec.Raw(t) for t in texts], size_bytes=sum(map(len, texts)), following=None)


def watched(pages, way="columns", known=None):
    columns, rules = WAYS[way]
    watch = Watch(known)
    prepare = Preparer(columns, rules, watch)
    return watch, [prepare(page_of(number, page)).shape for number, page in enumerate(pages, start=1)]


def good(number, **more):
    return {"id": number, "title": f"title {number}", "user": {"address": {"city": "Ghent"}}} | more


closed = st.fixed_dictionaries(
    {"id": st.integers(0, 9), "title": st.sampled_from(["a", "b"])},
    optional={"note": st.sampled_from(["c", None]), "rank": st.integers(0, 9)},
)


@pytest.mark.parametrize("way", WAYS)
@given(st.lists(st.lists(closed, max_size=3) | st.lists(records | closed, max_size=3), max_size=4))
def test_whatever_way_records_are_encoded_all_of_them_are_seen(way, pages):
    _, shapes_told = watched(pages, way)
    expected = learned(*[record for page in pages for record in page])
    told = [shape for shape in shapes_told if shape is not None]
    seen = drift.from_json(told[-1]) if told else Shape()
    assert without_null(seen) == without_null(expected)
    assert seen.fields.keys() == expected.fields.keys()


def without_null(shape):
    """Nulls of a field that has values may go unseen: they fit every field, and are no drift."""
    return {line.replace("null, ", "").replace(", null", "") for line in outline(shape)}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("change", "described"),
    [
        ({"colour": "red"}, "colour is new, text (page 12)"),
        ({"user": {"address": {"city": "Ghent", "zip": 9000}}}, "user.address.zip is new, number (page 12)"),
        ({"user": [1]}, "user is list, was object (page 12)"),
    ],
    ids=["new", "new inside", "type"],
)
def test_one_record_of_one_page_is_enough(way, change, described):
    pages = [[good(number) for number in range(100)] for _ in range(13)]
    pages[11][77] |= change
    watch, told = watched(pages, way, learned(good(1)))
    assert [drift.describe(found) for found in watch.found] == [described]
    assert [number for number, shape in enumerate(told, start=1) if shape] == [1, 12]


@pytest.mark.parametrize("way", ["columns", "slow"])
def test_a_column_that_comes_as_another_type_is_drift_coerced_or_not(way):
    watch, _ = watched([[good(1)], [good("2"), good(3, title=["x"])]], way, learned(good(1)))
    assert [drift.describe(found) for found in watch.found] == [
        "id is text, was number (page 2)", "title is list, was text (page 2)",
    ]  # fmt: skip


def test_a_column_that_was_text_and_becomes_what_it_should_be_is_drift():
    watch, _ = watched([[{"id": 1, "title": "a"}]], known=learned({"id": "1", "title": "a"}))
    assert [drift.describe(found) for found in watch.found] == ["id is number, was text (page 1)"]


def test_a_bad_record_does_not_hide_what_the_others_have():
    page = [good(number) for number in range(40)]
    page[20] = b'{"id": 20, "title": "\\ud800"}'
    page[21] |= {"colour": "red"}
    for way in WAYS:
        watch, _ = watched([page], way, learned(good(1)))
        assert [found.field for found in watch.found] == ["colour"], way


def test_the_first_run_only_learns():
    watch, told = watched([[good(1)], [good(2, colour="red")]], known=Shape())
    assert watch.found == ()
    assert outline(drift.from_json(told[1]))[0] == "colour: text"


def test_what_nobody_asked_to_watch_is_not_told():
    assert Preparer(COLUMNS)(page_of(1, [good(1)])).shape is None


class CountingWatch(Watch):
    """A watch that knows how often it had to look."""

    looks = 0

    def look(self, records):
        self.looks += 1
        super().look(records)


def test_pages_of_records_that_the_columns_take_whole_are_not_looked_at_again():
    watch = CountingWatch()
    prepare = Preparer(WHOLE, (), watch)
    for number in range(1, 4):
        prepare(page_of(number, [{"id": n, "title": "a", "note": None} for n in range(9)]))
    assert watch.looks == 1
    prepare(page_of(4, [{"id": 1, "title": "a", "note": "b"}]))
    assert watch.looks == 2
    prepare(page_of(5, [{"id": 1, "title": "a", "rank": 5}]))
    assert watch.looks == 3
    prepare(page_of(6, [{"id": 1, "title": "a", "note": "c", "rank": 6}]))
    assert watch.looks == 3
