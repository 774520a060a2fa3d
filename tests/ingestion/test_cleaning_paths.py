"""Cleaning: what is missing, defaults, keys and the paths that lead to values."""

import pytest

from ingestion.cleaning import (
    KINDS,
    UNSET,
    Rule,
    clean_default,
    compile_columns,
    field,
    text,
    whole_record,
)
from ingestion.errors import ConfigurationError
from tests.ingestion.cleaned import cleaned, column, raw, rejection


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("record", [b"{}", b'{"v":null}', b'{"V":1}'])
def test_missing_and_null_are_one(kind, record):
    assert compile_columns([column(kind, null=True)])(raw(record)) == (None,)
    assert compile_columns([column(kind, null=True, default="d")])(raw(record)) == ("d",)
    assert rejection(compile_columns([column(kind)]), raw(record)).reason == "missing_value"


def test_a_default_of_none_is_null():
    assert cleaned("text", None, null=True, default=None) is None


@pytest.mark.parametrize("record", [b"{}", b'{"v":null}', b'{"v":""}', b'{"v":{}}', b'{"v":{"id":1}}', b'{"v":[1]}'])
@pytest.mark.parametrize("kind", ["text", "integer"])
def test_a_key_that_is_missing_null_empty_or_an_object_is_rejected(kind, record):
    # A default or NULL would make one row of many records, or a new row with every run.
    clean = compile_columns([column(kind, is_key=True, null=True, default="0")])
    rejected = rejection(clean, raw(record))
    assert (rejected.reason, rejected.field) == ("missing_key", "c")


def test_a_key_is_the_same_as_number_and_as_text():
    assert cleaned("integer", b"1", is_key=True) == cleaned("integer", b'"1"', is_key=True) == 1
    assert cleaned("text", b"1", is_key=True) == cleaned("text", b'"1"', is_key=True) == "1"


@pytest.mark.parametrize(
    "record", [b'{"v":1,"v":2}', b'{"v":1,"v":1}', b'{"v":1,"a":{"v":3},"v":2}', b'{"v":null,"v":2}']
)
def test_a_key_that_is_there_twice_is_rejected(record):
    rejected = rejection(compile_columns([column("integer", is_key=True)]), raw(record))
    assert (rejected.reason, rejected.field) == ("ambiguous_key", "c")


@pytest.mark.parametrize("record", [b'{"v":1,"a":{"v":2}}', b'{"a":[{"v":2},"v","v"],"v":1}', b'{"a":1,"a":2,"v":1}'])
def test_other_names_may_be_there_twice(record):
    assert compile_columns([column("integer", is_key=True)])(raw(record)) == (1,)


def test_a_nested_key_is_checked_at_every_level():
    clean = compile_columns([column("integer", "a.v", is_key=True)])
    assert clean(raw(b'{"a":{"v":1},"v":2,"b":{"a":3}}')) == (1,)
    assert rejection(clean, raw(b'{"a":{"v":1,"v":2}}')).reason == "ambiguous_key"
    assert rejection(clean, raw(b'{"a":{"v":1},"a":{"v":2}}')).reason == "ambiguous_key"
    assert rejection(clean, raw(b'{"a":1,"b":{"a":2}}')).reason == "missing_key"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b'{"a":{"b":{"c":7}}}', 7),
        (b'{"a":{"b":{}}}', None),
        (b'{"a":{"b":null}}', None),
        (b'{"a":{"b":[{"c":7}]}}', None),
        (b'{"a":{"b":"c"}}', None),
        (b'{"a.b.c":7}', None),
        (b'{"a":null}', None),
        (b"{}", None),
        (b'{"a":{"b":{"c":7.0}}}', 7),
    ],
)
def test_paths_lead_through_objects(record, expected):
    assert compile_columns([column("integer", "a.b.c", null=True)])(raw(record)) == (expected,)


def test_columns_come_in_their_order():
    columns = [column("json", path=None), column("integer", "id", is_key=True), column("text", "t", default="")]
    assert compile_columns(columns)(raw(b'{"t":null,"id":"7"}')) == ('{"t":null,"id":"7"}', 7, "")


@pytest.mark.parametrize(
    ("kind", "default", "expected"),
    [
        ("text", "", ""),
        ("text", 7, "7"),
        ("integer", "7", 7),
        ("integer", 0, 0),
        ("boolean", False, False),
        ("boolean", "no", False),
        ("json", {}, "{}"),
        ("json", [], "[]"),
        ("json", "text", '"text"'),
    ],
)
def test_defaults_are_cleaned_like_values(kind, default, expected):
    assert clean_default(column(kind), default) == expected


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        ("text", None),
        ("text", "toolong"),
        ("text", []),
        ("text", "\x00"),
        ("integer", "x"),
        ("integer", ""),
        ("integer", 2**63),
        ("boolean", 2),
        ("json", None),
        ("json", object()),
        ("json", "\x00"),
    ],
)
def test_a_default_that_the_column_cannot_hold_is_a_mistake_of_the_feed(kind, default):
    with pytest.raises(ConfigurationError, match="'c' cannot have the default"):
        clean_default(column(kind, max_length=5), default)


def test_a_default_need_not_be_a_choice():
    assert clean_default(column("text", choices=frozenset({"a"})), "") == ""


def test_null_is_a_default_where_the_column_allows_it():
    assert clean_default(column("json", null=True), None) is None


def test_the_rules_of_feeds():
    assert field("a.b") == Rule(path=("a", "b"), kind=None, default=UNSET, truncate=False)
    assert text("t", default="", truncate=True) == Rule(path=("t",), kind="text", default="", truncate=True)
    assert whole_record == Rule(path=None, kind="json")


def test_a_rejection_says_where_and_why():
    rejected = rejection(cleaned, "integer", "x")
    assert str(rejected) == "not_an_integer in c: found text 'x'"
