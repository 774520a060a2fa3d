"""Other people's collections of trouble: the Big List of Naughty Strings and JSONTestSuite."""

import json

import msgspec
import pytest
from django.db import connection

from ingestion.cleaning import Column, compile_columns, decode_record
from ingestion.encoding import encode_lines
from ingestion.errors import RecordRejected, RunFailed
from ingestion.http import Response
from ingestion.sources import split_records
from ingestion.streams import StringIteratorIO

COLUMNS = [
    Column(name="id", kind="integer", path=("id",), is_key=True),
    Column(name="text", kind="text", path=("text",)),
    Column(name="part", kind="json", path=("text",)),
    Column(name="whole", kind="json", path=None),
]


@pytest.mark.django_db
@pytest.mark.parametrize("is_ascii", [True, False], ids=["escaped", "raw"])
def test_every_naughty_string_comes_out_byte_by_byte(corpora, is_ascii):
    naughty = json.loads((corpora / "blns.json").read_bytes())
    assert len(naughty) == 515
    body = json.dumps([{"id": n, "text": text} for n, text in enumerate(naughty)], ensure_ascii=is_ascii).encode()
    clean = compile_columns(COLUMNS)
    rows = [clean(record) for record in split_records(page(body), ())]
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE naughty (id int, text text, part jsonb, whole jsonb)")
        lines = encode_lines(rows, [column.kind for column in COLUMNS])
        cursor.copy_expert("COPY naughty FROM STDIN", StringIteratorIO(lines), 1000)
        cursor.execute("SELECT text, part #>> '{}', whole ->> 'text' FROM naughty ORDER BY id")
        stored = cursor.fetchall()
    assert stored == [(text, text, text) for text in naughty]


def page(body):
    return Response(status=200, headers={"content-type": "application/json"}, body=body)


def outcome_of_page(body):
    """Return why there is no page, or what became of each record; any other exception is a failure."""
    try:
        records = split_records(page(body), ())
    except RunFailed as failed:
        return failed.code
    return [outcome_of_record(bytes(record)) for record in records]


def outcome_of_record(body):
    try:
        decode_record(msgspec.Raw(body))
    except RecordRejected as rejected:
        return rejected.reason
    return "loaded"


def suite(corpora, prefix):
    files = {path.name: path.read_bytes() for path in sorted((corpora / "jsontestsuite").glob(f"{prefix}_*.json"))}
    assert len(files) == {"y": 95, "n": 188, "i": 35}[prefix]
    return files


def beside_good_ones(body):
    return outcome_of_page(b'[{"id":1},{"v":' + body + b'},{"id":2}]')


# What the strict parser refuses in one record without the page being lost.
REJECTED = {
    "n_number_NaN.json": "non_finite_number",
    "n_number_infinity.json": "non_finite_number",
    "n_number_minus_infinity.json": "non_finite_number",
    "n_string_unescaped_ctrl_char.json": "nul_character",
    "n_string_unescaped_newline.json": "not_json",
    "n_string_unescaped_tab.json": "not_json",
}


# Bytes that are not UTF-8 where no string is.
NOT_UTF_8 = {
    "n_array_invalid_utf8.json",
    "n_number_invalid-utf-8-in-bigger-int.json",
    "n_number_invalid-utf-8-in-exponent.json",
    "n_number_invalid-utf-8-in-int.json",
    "n_structure_incomplete_UTF8_BOM.json",
    "n_structure_lone-invalid-utf-8.json",
    "n_structure_single_eacute.json",
}


def test_what_is_not_json_fails_the_page_or_is_rejected_alone(corpora):
    found = {name: beside_good_ones(body) for name, body in suite(corpora, "n").items()}
    rejected = {name: outcome for name, outcome in found.items() if isinstance(outcome, list)}
    assert rejected == {name: ["loaded", reason, "loaded"] for name, reason in REJECTED.items()}
    failed = {name: outcome for name, outcome in found.items() if name not in REJECTED}
    assert {name for name, outcome in failed.items() if outcome == "encoding"} == NOT_UTF_8
    assert set(failed.values()) == {"encoding", "not_json"}


def test_what_is_not_json_is_never_a_record(corpora):
    found = {name: outcome_of_record(body) for name, body in suite(corpora, "n").items()}
    assert {name: outcome for name, outcome in found.items() if outcome != "not_json"} == {
        **{name: reason for name, reason in REJECTED.items() if reason != "not_json"},
        "n_object_lone_continuation_byte_in_key_and_trailing_comma.json": "invalid_encoding",
        "n_structure_100000_opening_arrays.json": "too_deep",
        "n_structure_open_array_object.json": "too_deep",
    }


def test_what_is_not_json_is_never_a_page_of_loaded_records(corpora):
    for name, body in suite(corpora, "n").items():
        found = outcome_of_page(body)
        assert found in ("not_json", "shape", "encoding") or found == [REJECTED[name]], name


def test_what_is_json_is_a_value_of_a_record(corpora):
    for name, body in suite(corpora, "y").items():
        assert beside_good_ones(body) == ["loaded"] * 3, name


def test_what_is_json_is_a_page_where_it_is_a_list(corpora):
    for name, body in suite(corpora, "y").items():
        value = json.loads(body)
        expected = [kind_of(inner) for inner in value] if isinstance(value, list) else "shape"
        assert outcome_of_page(body) == expected, name
        assert outcome_of_record(body) == kind_of(value), name


def kind_of(value):
    return "loaded" if isinstance(value, dict) else "not_an_object"


OPTIONAL = {
    "loaded": "number_double_huge_neg_exp number_too_big_neg_int number_too_big_pos_int number_very_big_negative_int",
    "out_of_range": "number_huge_exp number_neg_int_huge_exp number_pos_double_huge_exp number_real_neg_overflow "
    "number_real_pos_overflow number_real_underflow",
    "too_deep": "structure_500_nested_arrays",
    "lone_surrogate": "object_key_lone_2nd_surrogate string_1st_surrogate_but_2nd_missing "
    "string_1st_valid_surrogate_2nd_invalid string_incomplete_surrogate_and_escape_valid "
    "string_incomplete_surrogate_pair string_incomplete_surrogates_escape_valid string_invalid_lonely_surrogate "
    "string_invalid_surrogate string_inverted_surrogates_U+1D11E string_lone_second_surrogate",
    "invalid_encoding": "string_UTF-8_invalid_sequence string_UTF8_surrogate_U+D800 string_invalid_utf-8 "
    "string_iso_latin_1 string_lone_utf8_continuation_byte string_not_in_unicode_range "
    "string_overlong_sequence_2_bytes string_overlong_sequence_6_bytes string_overlong_sequence_6_bytes_null "
    "string_truncated-utf-8",
    "not_json": "string_utf16BE_no_BOM string_utf16LE_no_BOM structure_UTF-8_BOM_empty_object",
    "encoding": "string_UTF-16LE_with_BOM",
}


def test_what_parsers_may_refuse_is_loaded_or_rejected_by_rule(corpora):
    expected = {f"i_{name}.json": outcome for outcome, names in OPTIONAL.items() for name in names.split()}
    found = {name: beside_good_ones(body) for name, body in suite(corpora, "i").items()}
    # Half a page in another encoding is no page.
    assert found == {
        name: outcome if outcome in ("not_json", "encoding") else ["loaded", outcome, "loaded"]
        for name, outcome in expected.items()
    }


def test_whole_pages_in_other_encodings_are_never_guessed(corpora):
    bodies = suite(corpora, "i")
    for name in ("string_UTF-16LE_with_BOM", "string_utf16BE_no_BOM", "string_utf16LE_no_BOM"):
        assert outcome_of_page(bodies[f"i_{name}.json"]) == "encoding"
    # One that does not begin like that: the byte order mark is taken off, and there is an object, no list.
    assert outcome_of_page(bodies["i_structure_UTF-8_BOM_empty_object.json"]) == "shape"


@pytest.mark.django_db
def test_every_record_that_is_accepted_is_stored(corpora):
    clean = compile_columns([COLUMNS[-1]])
    accepted, refused = [], []
    for name, body in {**suite(corpora, "y"), **suite(corpora, "i")}.items():
        try:
            accepted.append(clean(msgspec.Raw(b'{"v":' + body + b"}")))
        except RecordRejected as rejected:
            refused.append((name, rejected.reason))
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE accepted (whole jsonb)")
        cursor.copy_expert("COPY accepted FROM STDIN", StringIteratorIO(encode_lines(accepted, ["json"])))
        assert cursor.rowcount == len(accepted) == 95 - 2 + 4
    assert [(name, reason) for name, reason in refused if name.startswith("y_")] == [
        ("y_object_escaped_null_in_key.json", "nul_character"),
        ("y_string_null_escape.json", "nul_character"),
    ]
