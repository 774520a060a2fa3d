"""BAD_INPUT.md, "JSON", row by row: from a remote's bytes to table, quarantine and run.

Each test is one row, each parameter one input. Every page of a run comes over HTTP and is a chunk of its own.
"""

import json
from decimal import Decimal

import pytest
from django.db import models

from ingestion.feeds import RejectLimit
from tests.ingestion.catalog import table_of
from tests.ingestion.hostile import (
    FIELDS,
    Hostile,
    assert_failed,
    assert_loaded,
    assert_quarantined,
    good,
    name_of,
    record,
)
from tests.remote import Reply, json_list

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"NaN", "non_finite_number"),
        (b"Infinity", "non_finite_number"),
        (b"[-Infinity]", "non_finite_number"),
        (b"1e400", "out_of_range"),
        (b"-1e400", "out_of_range"),
        (b"1" * 5000, "out_of_range"),
        (b"[-" + b"9" * 5000 + b"]", "out_of_range"),
        (b"1e99999999999999999999", "out_of_range"),
    ],
    ids=name_of,
)
@pytest.mark.parametrize("where", [b'{"id":5,"v":%s}', b'{"id":5,"x":{"y":%s}}'], ids=["column", "elsewhere"])
def test_numbers_that_are_none_are_quarantined_wherever_they_are(hostile, where, value, reason):
    assert_quarantined(hostile.beside_good_ones(where % value), where % value, reason, None)


@pytest.mark.parametrize(
    "value", [b"9223372036854775808", b"-9223372036854775809", b"1" * 4000, b'"9223372036854775808"']
)
def test_integers_past_bigint_are_quarantined(monkeypatch, value):
    with table_of(**FIELDS | {"v": models.BigIntegerField(null=True)}) as model:
        outcome = Hostile(monkeypatch, model).beside_good_ones(record(value))
    assert_quarantined(outcome, record(value), "out_of_range", "v")


@pytest.mark.parametrize("value", ["0.1", "12345678901234567890.1234567891", "-0.0000000001"])
def test_decimals_are_exact(monkeypatch, value):
    field = models.DecimalField(max_digits=30, decimal_places=10, null=True)
    with table_of(**FIELDS | {"v": field}) as model:
        outcome = Hostile(monkeypatch, model).beside_good_ones(record(value.encode()))
    assert_loaded(outcome, Decimal(value))


def nested(levels):
    """Return a record whose innermost bracket is at `levels`."""
    return b'{"id":5,"x":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


def test_nesting_at_the_limit_is_loaded(hostile):
    assert_loaded(hostile.beside_good_ones(nested(100)), None)


@pytest.mark.parametrize("levels", [101, 900])
def test_nesting_beyond_the_limit_is_quarantined(hostile, levels):
    assert_quarantined(hostile.beside_good_ones(nested(levels)), nested(levels), "too_deep", None)


@pytest.mark.parametrize(
    ("page", "code"),
    [
        (b"[" * 100_000, "not_json"),
        (b"[" * 100_000 + b"]" * 100_000, "not_json"),
        (json_list([nested(100_000)]), "not_json"),
        (b'{"a":' * 100_000, "shape"),
    ],
    ids=name_of,
)
def test_100_000_levels_fail_the_run_and_nothing_else(hostile, page, code):
    assert_failed(hostile.sync(json_list(good(1, 2, 3)), page), code)
    assert hostile.sync(b'[{"id":1}]').counts == {"read": 1, "unchanged": 1}


@pytest.mark.parametrize(
    ("page", "shown"),
    [
        (b'[{"id":4},{"id":5', '{"id":5'),
        (b'[{"id":4},', '[{"id":4},'),
        (b'[{"id":4}][{"id":5}]', "}][{"),
        (b'[{"id":4}] trailing', "trailing"),
        (b"[{'id':4}]", "{'id':4}"),
        (b"<html><title>Log in</title></html>", "<title>Log in</title>"),
        (b"<html><a href='/login?session=hush'>", "<html><a href="),
        (b"", "empty body with status 200"),
        (b" \r\n", "empty body with status 200"),
    ],
    ids=name_of,
)  # fmt: skip
def test_what_is_no_json_document_fails_the_run_and_shows_its_start(hostile, page, shown):
    outcome = hostile.sync(json_list(good(1, 2, 3)), Reply(body=page, headers={"Content-Type": "text/html"}))
    assert_failed(outcome, "not_json")
    assert shown in outcome.summary["error"].replace("\\'", "'")
    assert "hush" not in outcome.summary["error"]


@pytest.mark.parametrize(
    ("page", "found"),
    [
        (b'{"data":{"id":4}}', '{"id":4}'),
        (b'{"data":null}', "null"),
        (b'{"items":[]}', "no 'data'"),
        (b'[{"id":4}]', "[{"),
        (b'"text"', "text"),
    ],
    ids=name_of,
)
def test_records_that_are_not_where_they_should_be_fail_the_run(hostile, page, found):
    first = b'{"data":' + json_list(good(1, 2, 3)) + b"}"
    assert_failed(hostile.sync(first, page, records=("data",)), "shape", "data", found)


@pytest.mark.parametrize("sent", [b"null", b'"text"', b"7", b"true", b"[]", b'[{"id":5}]'], ids=name_of)
def test_a_record_that_is_no_object_is_quarantined(hostile, sent):
    assert_quarantined(hostile.beside_good_ones(sent), sent, "not_an_object", None, key="")


@pytest.mark.parametrize(
    ("sent", "key"),
    [
        (b'{"v":"x"}', ""),
        (b'{"id":null}', ""),
        (b'{"id":""}', ""),
        (b'{"id":" "}', " "),
        (b'{"id":{}}', "{}"),
        (b'{"id":{"$oid":5}}', "{'$oid': '5'}"),
        (b'{"id":[5]}', "['5']"),
    ],
    ids=name_of,
)  # fmt: skip
def test_a_record_without_a_key_is_quarantined(hostile, sent, key):
    assert_quarantined(hostile.beside_good_ones(sent), sent, "missing_key", "id", key=key)


@pytest.mark.parametrize("sent", [b'{"id":5,"v":"a","id":6}', b'{"id":5,"id":5}', b'{"id":null,"id":5}'], ids=name_of)
def test_a_key_that_is_there_twice_is_quarantined(hostile, sent):
    assert_quarantined(hostile.beside_good_ones(sent), sent, "ambiguous_key", "id", key="")


@pytest.mark.parametrize("second", [b'"1"', b'" 1 "', b"1.0", b'"+1"', b"1e0"], ids=name_of)
def test_a_key_as_number_and_as_text_is_one_row(hostile, second):
    outcome = hostile.sync(b'[{"id":1,"v":"first"},{"id":2},{"id":3}]', b'[{"id":' + second + b',"v":"second"}]')
    assert outcome.counts == {"read": 4, "inserted": 3, "updated": 1}
    assert [row[:2] for row in outcome.rows] == [(1, "second"), (2, None), (3, None)]
    assert list(outcome.summary["coercions"].values()) == [1]


def test_a_type_that_changes_midway_is_quarantined(hostile):
    pages = [json_list([{"id": page * 3 + n, "v": "text"} for n in range(3)]) for page in range(3)]
    outcome = hostile.sync(
        *pages, json_list([{"id": 10, "v": {"now": "an object"}}, {"id": 11, "v": "text"}, {"id": 12}])
    )
    assert outcome.counts == {"read": 12, "inserted": 11, "rejected": 1}
    assert [(r.reason, r.field, r.page, r.position) for r in outcome.rejects] == [("wrong_type", "v", 4, 0)]


def test_a_type_that_changes_midway_above_the_limit_fails_the_run(hostile):
    before = json_list([{"id": n, "v": "text"} for n in range(1, 4)])
    after = json_list([{"id": n, "v": ["x"] if n < 110 else "text"} for n in range(4, 1000)])
    outcome = hostile.sync(before, after)
    fragments = ("106 of 999 records were rejected", "106 × wrong_type in v", "record 0 of page 2")
    assert_failed(outcome, "reject_limit", *fragments)


def test_a_page_whose_type_has_changed_fails_the_run(hostile):
    after = json_list([{"id": n, "v": 1.5} for n in range(4, 14)])
    outcome = hostile.sync(json_list(good(1, 2, 3)), after)
    assert_failed(outcome, "reject_limit", "all 10 records of page 2 were rejected: 10 × wrong_type in v")


def test_the_files_of_jsontestsuite_are_loaded_or_quarantined(hostile, corpora):
    """As values of one record each; those that break their page are in test_corpora."""
    files = {path.name: path.read_bytes() for path in sorted((corpora / "jsontestsuite").glob("[yi]_*.json"))}
    broken = ("UTF-16", "utf16", "BOM")
    bodies = [body for name, body in files.items() if not any(word in name for word in broken)]
    sent = [b'{"id":%d,"v":"x","x":%s}' % (number, body) for number, body in enumerate(bodies)]
    outcome = hostile.sync(json_list(sent), reject_limit=RejectLimit(records=1000, share=1.0))
    assert len(bodies) == 126
    assert outcome.counts == {"read": 126, "inserted": 97, "rejected": 29}
    assert {reject.reason for reject in outcome.rejects} == {
        "out_of_range", "lone_surrogate", "invalid_encoding", "too_deep", "nul_character",
    }  # fmt: skip
    for reject in outcome.rejects:
        assert bytes(reject.raw) == sent[reject.position][: 64 * 1024]
    for number, _, stored in outcome.rows:
        assert json.loads(json.dumps(stored), parse_int=float) == json.loads(sent[number], parse_int=float)
