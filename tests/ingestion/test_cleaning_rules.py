"""The rules that feeds are written with, alone and combined, and what is done with whole records."""

import datetime as dt
import json
from collections import Counter
from decimal import Decimal

import msgspec
import pytest

from ingestion.cleaning import (
    UNSET,
    Column,
    Rule,
    binary,
    boolean,
    compile_columns,
    computed,
    constant,
    date,
    decimal,
    duration,
    field,
    first_of,
    integer,
    mapped,
    problem_of,
    text,
    time,
    timestamp,
    uuid,
)
from ingestion.cleaning import json as json_rule
from ingestion.errors import RecordRejected, RecordSkipped


def column(rule, kind="text", **options):
    """Return the column that a rule makes of a model's field without a length."""
    facts = {"path": rule.path, "others": rule.others, "compute": rule.compute, "mapping": rule.mapping}
    facts |= {"form": rule.form, "default": rule.default, "truncate": rule.truncate, "constant": rule.constant}
    return Column(name="c", kind=rule.kind or kind, **facts | options)


def raw(record):
    return msgspec.Raw(record if isinstance(record, bytes) else json.dumps(record).encode())


def cleaned(rule, record, kind="text", rules=(), **options):
    counted = Counter()
    (only,) = compile_columns([column(rule, kind, **options)], rules, counted)(raw(record))
    return only, sorted(counted)


def reason(rule, record, kind="text", rules=(), **options):
    with pytest.raises(RecordRejected) as raised:
        cleaned(rule, record, kind, rules, **options)
    return raised.value.reason


@pytest.mark.parametrize(
    ("options", "value", "expected", "counted"),
    [
        ({"strip": True}, " \ta b\u00a0\n", "a b", ["c:strip"]),
        ({"strip": True}, "a b", "a b", []),
        ({"collapse": True}, " a \n\t b ", "a b", ["c:collapse"]),
        ({"normalise": "NFC"}, "e\u0301", "é", ["c:normalise"]),
        ({"normalise": "NFC"}, "é", "é", []),
        ({"normalise": "NFD"}, "é", "e\u0301", ["c:normalise"]),
        ({"remove_nul": True}, "a\x00b\x00", "ab", ["c:remove_nul"]),
        ({"truncate": True}, "abcdef", "abcde", ["c:truncate"]),
        # First shorter, then measured.
        ({"strip": True, "truncate": True}, "  abcde  ", "abcde", ["c:strip"]),
        ({"empty_is_null": True, "strip": True}, " ", None, ["c:empty", "c:strip"]),
        ({"empty_is_null": True, "default": "none"}, "", "none", ["c:empty"]),
        ({}, " a ", " a ", []),
    ],
)
def test_text_is_changed_as_declared_and_counted(options, value, expected, counted):
    assert cleaned(text("v", **options), {"v": value}, null=True, max_length=5) == (expected, counted)


def test_a_whole_number_as_text_is_counted():
    assert cleaned(text("v"), {"v": 7}) == ("7", ["c:number"])


def test_the_words_of_a_boolean_can_be_declared():
    rule = boolean("v", true=("Ja", "j"), false=("nein",))
    assert cleaned(rule, {"v": "JA"}) == (True, ["c:text"])
    assert cleaned(rule, {"v": False}) == (False, [])
    assert reason(rule, {"v": "yes"}) == "not_a_boolean"
    assert cleaned(boolean("v"), {"v": 1}) == (True, ["c:number"])


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"a": "x", "b": {"c": "y"}}, "x"),
        ({"a": None, "b": {"c": "y"}}, "y"),
        ({"a": "", "b": {"c": "y"}}, "y"),
        ({"b": {"c": "y"}, "d": "z"}, "y"),
        ({"b": None, "d": "z"}, "z"),
        ({"a": "", "b": None}, ""),
        ({}, None),
    ],
)
def test_the_first_of_several_paths_that_has_a_value(record, expected):
    assert cleaned(first_of("a", "b.c", "d"), record, null=True)[0] == expected


def test_falsy_values_are_values():
    assert cleaned(first_of("a", "b"), {"a": 0, "b": 1}, kind="integer")[0] == 0
    assert cleaned(first_of("a", "b"), {"a": False, "b": True}, kind="boolean")[0] is False


def test_rules_of_types_take_other_rules():
    rule = text(first_of("a", "b"), strip=True, default="none")
    assert rule == Rule(path=("a",), others=(("b",),), kind="text", default="none", form=text("x", strip=True).form)
    assert cleaned(rule, {"b": " x "}) == ("x", ["c:strip"])
    assert cleaned(decimal(computed(lambda record: record["net"] + record["tax"])), b'{"net":0.1,"tax":0.2}')[0] == (
        Decimal("0.3")
    )
    assert timestamp("at", unit="ms").kind == "timestamp"
    kinds = [integer("v"), date("v"), time("v"), duration("v"), uuid("v"), json_rule("v"), binary("v", encoding="hex")]
    assert [rule.kind for rule in kinds] == ["integer", "date", "time", "duration", "uuid", "json", "binary"]
    assert field("a.b").path == ("a", "b")


def test_a_constant_is_the_same_in_every_row():
    assert cleaned(constant("x"), {"v": 1}) == ("x", [])
    assert cleaned(constant(None), {}) == (None, [])
    assert constant(None).constant is not UNSET


STATUS = {"A": "active", "X": None, 1: "one", "true": "yes"}


@pytest.mark.parametrize(
    ("value", "expected"), [("A", "active"), (" A ", "active"), ("X", None), (1, "one"), ("1", "one"), (True, "yes")]
)
def test_values_are_mapped(value, expected):
    assert cleaned(mapped("v", STATUS), {"v": value}, null=True) == (expected, [])


@pytest.mark.parametrize("value", ["B", "a", "", 2, 1.0, False, [], {}])
def test_a_value_without_a_mapping_is_rejected(value):
    assert reason(mapped("v", STATUS), {"v": value}) == "not_a_choice"


def test_a_mapped_value_is_cleaned_too():
    assert reason(mapped("v", STATUS), {"v": "A"}, max_length=3) == "too_long"
    assert reason(mapped("v", STATUS), {"v": "X"}) == "missing_value"
    assert cleaned(mapped("v", STATUS, default="none"), {"v": None}) == ("none", [])


def test_a_computed_value_is_cleaned_like_any_other():
    rule = computed(lambda record: f"{record['first']} {record['last']}")
    assert cleaned(rule, {"first": "A", "last": "B"}) == ("A B", [])
    assert reason(rule, {"first": "A", "last": "B"}, max_length=2) == "too_long"
    assert reason(computed(lambda record: None), {}) == "missing_value"
    at = dt.datetime(2024, 1, 2, 3, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    assert cleaned(computed(lambda record: at), {}, kind="timestamp")[0] == at
    assert cleaned(computed(lambda record: {"n": record["n"]}), b'{"n":0.10}', kind="json")[0] == '{"n":0.10}'
    assert reason(computed(lambda record: {"a": {1, 2j}}), {}, kind="json") == "wrong_type"


def test_a_function_that_fails_rejects_the_record():
    rule = computed(lambda record: record["missing"])
    with pytest.raises(RecordRejected) as raised:
        cleaned(rule, {})
    assert (raised.value.reason, raised.value.field) == ("rule_failed", "c")
    assert "KeyError: 'missing'" in raised.value.detail


def refuse(record):
    raise RecordRejected("too_young", detail="made up")


def test_a_rule_may_change_a_record():
    double = [lambda record: record | {"v": record["v"] * 2}, lambda record: record | {"v": record["v"] + 1}]
    assert cleaned(field("v"), {"v": 3}, kind="integer", rules=double)[0] == 7
    # JSON is what the rule left, digit by digit.
    add = [lambda record: record | {"v": {"n": record["v"], "x": 1}}]
    assert cleaned(field("v"), b'{"v":0.10}', kind="json", rules=add)[0] == '{"n":0.10,"x":1}'


def test_the_whole_record_stays_as_received():
    clean = compile_columns([Column(name="c", kind="json", path=None)], [lambda record: {"changed": True}])
    assert clean(raw(b'{"v" : 1.0}')) == ('{"v" : 1.0}',)


def test_a_rule_may_leave_a_record_out():
    with pytest.raises(RecordSkipped):
        cleaned(field("v"), {"v": 1}, kind="integer", rules=[lambda record: None])


@pytest.mark.parametrize(
    ("rule", "expected", "detail"),
    [
        (refuse, "too_young", "made up"),
        (lambda record: record["x"], "rule_failed", "KeyError: 'x'"),
        (lambda record: [record], "rule_failed", "returned list, not a record"),
    ],
)
def test_a_rule_may_reject_a_record(rule, expected, detail):
    with pytest.raises(RecordRejected) as raised:
        cleaned(field("v"), {"v": 1}, kind="integer", rules=[rule])
    assert raised.value.reason == expected
    assert detail in raised.value.detail


def test_a_rejected_record_counts_no_coercions():
    counted = Counter()
    columns = [Column(name=name, kind="integer", path=(name,)) for name in ("a", "b")]
    clean = compile_columns(columns, coercions=counted)
    with pytest.raises(RecordRejected):
        clean(raw({"a": "1", "b": "x"}))
    clean(raw({"a": "1", "b": 2.0}))
    clean(raw({"a": 1, "b": 2}))
    assert counted == {"a:text": 1, "b:integral": 1}


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (text("v", normalise="NFX"), "normalise is one of NFC, NFD, NFKC, NFKD, not 'NFX'"),
        (decimal("v", rounding="up"), "rounding is one of half_even, half_up, down, not 'up'"),
        (decimal("v", thousands="."), "'.' cannot separate both thousands and decimals"),
        (decimal("v", comma=True, thousands=","), "',' cannot separate both thousands and decimals"),
        (integer("v", thousands="0"), "thousands is one separating character, not '0'"),
        (timestamp("v", unit="minutes"), "unit is one of s, ms, us, ns, not 'minutes'"),
        (timestamp("v", zone="Mars/Base"), "no time zone is named 'Mars/Base'"),
        (timestamp("v", formats="%Y"), "formats is a tuple of formats of strptime, not '%Y'"),
        (date("v", formats=("YYYY",)), "formats is a tuple of formats of strptime, not ('YYYY',)"),
        (binary("v", encoding="rot13"), "encoding is one of base64, base64url, hex, not 'rot13'"),
    ],
)
def test_options_that_cannot_be_used(rule, problem):
    assert problem_of(rule) == problem


@pytest.mark.parametrize(
    "rule",
    [
        field("v"), text("v", normalise="NFKC"), decimal("v", comma=True, thousands="."), integer("v", thousands="'"),
        integer("v", thousands="."), integer("v", thousands=","), json_rule("v", remove_nul=True),
        decimal("v", thousands="\u202f", rounding="down"), timestamp("v", zone="Europe/Berlin", unit="ns"),
        date("v", formats=("%d.%m.%Y",)), binary("v", encoding="base64url"), constant(1),
    ],
)  # fmt: skip
def test_options_that_can_be_used(rule):
    assert problem_of(rule) is None
