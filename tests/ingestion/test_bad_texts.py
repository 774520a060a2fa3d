"""BAD_INPUT.md, "Text and encoding", row by row: from a remote's bytes to table, quarantine and run.

Each test is one row, each parameter one input. Every page of a run comes over HTTP and is a chunk of its own.
"""

import json

import pytest
from django.db import models

from ingestion.cleaning import json as json_rule
from ingestion.cleaning import text, whole_record
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
    "value",
    [
        *["\t", "\n", "\r", "\r\n", "\\", "\\N", "\\.", "ends with \\", "\n\\.\n", "a\tb\\tc", "\\\\N", "", " "],
        *["😀", "👩‍👩‍👧", "\uffff", "\U0010ffff", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c\x1d\x1e"],
        *["\u200f\u202e", "\u00e9", "e\u0301", "\ufeff", "\x01\x7f"],
    ],
    ids=name_of,
)
def test_special_characters_are_loaded_byte_for_byte(hostile, value):
    raw, escaped = ({"id": number, "v": value} for number in (4, 5))
    page = b"[" + json.dumps(raw, ensure_ascii=False).encode() + b"," + json.dumps(escaped).encode() + b',{"id":6}]'
    outcome = hostile.sync(json_list(good(1, 2, 3)), page)
    assert_loaded(outcome, value)
    assert outcome.rows[3:5] == [(4, value, raw), (5, value, escaped)]


@pytest.mark.parametrize("is_ascii", [True, False], ids=["escaped", "raw"])
def test_all_naughty_strings_are_loaded_byte_for_byte(hostile, corpora, is_ascii):
    naughty = json.loads((corpora / "blns.json").read_bytes())
    body = json.dumps([{"id": n, "v": value} for n, value in enumerate(naughty)], ensure_ascii=is_ascii).encode()
    outcome = hostile.sync(body)
    assert outcome.counts == {"read": 515, "inserted": 515}
    assert [row[1] for row in outcome.rows] == [row[2]["v"] for row in outcome.rows] == naughty


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        (b'{"id":5,"v":"a\\u0000"}', "v"),
        (b'{"id":5,"x":"a\\u0000"}', "raw"),
        (b'{"id":5,"a\\u0000":1}', "raw"),
        (b'{"id":5,"x":[{"\\\\\\u0000":[]}]}', "raw"),
        (b'{"id":5,"v":"\x00"}', None),
        (b'{"id":5,"x":"\x00"}', None),
    ],
    ids=name_of,
)
def test_nul_is_quarantined(hostile, sent, field):
    assert_quarantined(hostile.beside_good_ones(sent), sent, "nul_character", field)


REMOVING = {"id": "id", "v": text("v", remove_nul=True), "raw": json_rule(whole_record, remove_nul=True)}


@pytest.mark.parametrize(
    ("sent", "value", "raw"),
    [
        (b'{"id":5,"v":"a\\u0000b"}', "ab", '{"id":5,"v":"ab"}'),
        (b'{"id":5,"v":"\\u0000\\u0000"}', "", '{"id":5,"v":""}'),
        (b'{"id":5,"v":"\\\\\\u0000\\\\u0000"}', "\\\\u0000", r'{"id":5,"v":"\\\\u0000"}'),
        (b'{"id":5,"v":"a","x\\u0000":[{"\\u0000":"\\"\\u0000\\n"}]}', "a", r'{"id":5,"v":"a","x":[{"":"\"\n"}]}'),
    ],
    ids=name_of,
)
def test_nul_is_removed_where_the_feed_says_so(hostile, sent, value, raw):
    coercions = {"raw:remove_nul": 1} | ({"v:remove_nul": 1} if value != "a" else {})
    outcome = hostile.beside_good_ones(sent, columns=REMOVING)
    assert_loaded(outcome, value, coercions)
    assert outcome.rows[4][2] == json.loads(raw)


def test_a_key_with_nul_is_quarantined_even_where_it_is_removed_elsewhere(monkeypatch):
    with table_of(**FIELDS | {"id": models.CharField(max_length=9, primary_key=True)}) as model:
        outcome = Hostile(monkeypatch, model).sync(b'[{"id":"a"},{"id":"a\\u0000"}]', columns=REMOVING)
    assert [(r.reason, r.field, r.key) for r in outcome.rejects] == [("nul_character", "id", "a\\u0000")]
    assert [row[0] for row in outcome.rows] == ["a"]


@pytest.mark.parametrize(
    "sent",
    [
        b'{"id":5,"v":"\\ud800"}',
        b'{"id":5,"v":"\\udc00\\ud800"}',
        b'{"id":5,"x":{"\\ud83d":1}}',
        b'{"id":5,"v":"\\ud83d\\u0000\\ude00"}',
    ],
    ids=name_of,
)
def test_lone_surrogates_are_quarantined(hostile, sent):
    assert_quarantined(hostile.beside_good_ones(sent), sent, "lone_surrogate", None)


@pytest.mark.parametrize(
    "sent",
    [
        b'{"id":5,"v":"caf\xe9"}',
        b'{"id":5,"v":"\xc0\x80"}',
        b'{"id":5,"v":"\xe0\x80\xaf"}',
        b'{"id":5,"v":"\xed\xa0\xbd\xed\xb8\x80"}',
        b'{"id":5,"v":"\xf4\x90\x80\x80"}',
        b'{"id":5,"v":"\xe2\x82"}',
        b'{"id":5,"x\xff":1}',
        b'{"id":5,"x":["\xff",NaN]}',
    ],
    ids=name_of,
)
def test_invalid_utf_8_inside_a_record_is_quarantined(hostile, sent):
    assert_quarantined(hostile.beside_good_ones(sent), sent, "invalid_encoding", None)


@pytest.mark.parametrize(
    ("page", "fragments"),
    [
        (b'[{"id":4},\xe9{"id":5}]', ("byte 10 ", "is not UTF-8", "declared")),
        (b'\xa0[{"id":4}]', ("byte 0 ", "is not UTF-8", "declared")),
        ('[{"id":4}]'.encode("utf-16"), ("UTF-16", "declares no charset")),
        ('[{"id":4}]'.encode("utf-32-be"), ("UTF-16 or UTF-32", "declares no charset")),
    ],
    ids=name_of,
)
def test_invalid_utf_8_around_the_records_fails_the_run_with_a_hint(hostile, page, fragments):
    assert_failed(hostile.sync(json_list(good(1, 2, 3)), page), "encoding", *fragments)


def test_invalid_utf_8_in_a_name_around_the_records_fails_the_run(hostile):
    def wrapped(*numbers):
        return b'{"data":' + json_list(good(*numbers))

    outcome = hostile.sync(wrapped(1, 2, 3) + b"}", wrapped(4) + b',"\xe9":1}', records=("data",))
    assert_failed(outcome, "encoding", "a name around the records is not UTF-8")


@pytest.mark.parametrize(
    ("charset", "codec"),
    [
        *[("iso-8859-1", "latin-1"), ("windows-1252", "cp1252"), ("utf-16", "utf-16"), ("UTF-16LE", "utf-16-le")],
        *[("utf-8", "utf-8-sig"), ("utf-16", "utf-16-be-sig"), (None, "utf-8-sig"), (None, "utf-8")],
    ],
)
def test_a_page_is_read_in_the_declared_charset(hostile, charset, codec):
    body = '[{"id":4},{"id":5,"v":"écran"},{"id":6}]'
    encoded = b"\xfe\xff" + body.encode("utf-16-be") if codec == "utf-16-be-sig" else body.encode(codec)
    declared = {"Content-Type": f"application/json; charset={charset}"} if charset else {}
    outcome = hostile.sync(json_list(good(1, 2, 3)), Reply(body=encoded, headers=declared))
    assert_loaded(outcome, "écran")


@pytest.mark.parametrize(
    ("charset", "body"),
    [
        ("utf-16", b'[{"id":4}] '),
        ("klingon", b"[]"),
        ("shift_jis", b'[{"v":"\xff\xfe"}]'),
        ("utf-8", b"\xff\xfe[\0]\0"),
    ],
)
def test_a_page_that_is_not_in_the_declared_charset_fails_the_run(hostile, charset, body):
    declared = Reply(body=body, headers={"Content-Type": f"application/json; charset={charset}"})
    assert_failed(hostile.sync(json_list(good(1, 2, 3)), declared), "encoding")


def test_a_second_byte_order_mark_fails_the_run(hostile):
    assert_failed(hostile.sync(json_list(good(1, 2, 3)), b"\xef\xbb\xbf\xef\xbb\xbf[]"), "not_json")


def test_a_field_of_50_megabytes_is_quarantined_before_it_is_sent(hostile):
    sent = record(b'"' + b"x" * 50_000_000 + b'"')
    # The record is too large to be looked into, so its key is not known.
    assert_quarantined(hostile.beside_good_ones(sent), sent, "field_too_large", None, key="")


def test_a_field_at_the_limit_is_loaded(hostile):
    value = "x" * (16 * 1024 * 1024 - len(record('""')) + 2)
    assert_loaded(hostile.beside_good_ones(record(value)), value)
