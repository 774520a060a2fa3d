"""One record's bytes: decoded as they are, or rejected for what is wrong with them.

Records are written as the bytes that a remote sends. Python's own JSON would not write most of them.
"""

import json
from decimal import Decimal

import msgspec
import pytest

from ingestion.cleaning import MAX_RECORD_BYTES, decode_record
from ingestion.errors import RecordRejected


def raw(record):
    return msgspec.Raw(record if isinstance(record, bytes) else json.dumps(record).encode())


def short(value):
    return ascii(value)[:40]


def record_reason(record):
    with pytest.raises(RecordRejected) as raised:
        decode_record(raw(record))
    assert raised.value.field is None
    return raised.value.reason


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b"null", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"7", "not_an_object"),
        (b"7.5", "not_an_object"),
        (b"true", "not_an_object"),
        (b"[]", "not_an_object"),
        (b'[{"id":1}]', "not_an_object"),
        (b'{"a":NaN}', "non_finite_number"),
        (b'{"a":[1,{"b":Infinity}]}', "non_finite_number"),
        (b'{"a":-Infinity}', "non_finite_number"),
        (b'{"a":1e400}', "out_of_range"),
        (b'{"a":-1e400}', "out_of_range"),
        (b'{"a":1e309}', "out_of_range"),
        (b'{"a":' + b"9" * 400 + b".0}", "out_of_range"),
        (b'{"a":' + b"1" * 5000 + b"}", "out_of_range"),
        (b'{"a":[-' + b"1" * 5000 + b"]}", "out_of_range"),
        (b'{"a":1e-20000}', "out_of_range"),
        (b'{"a":0e99999999999}', "out_of_range"),
        (b'{"a":1e-99999999999999999999}', "out_of_range"),
        (b'{"a":0.' + b"1" * 16_400 + b"}", "out_of_range"),
        (b'{"a":"\\ud800"}', "lone_surrogate"),
        (b'{"a":"\\udc00"}', "lone_surrogate"),
        (b'{"a":"\\udc00\\ud800"}', "lone_surrogate"),
        (b'{"a":"\\ud83d text that goes on"}', "lone_surrogate"),
        (b'{"\\ud800":1}', "lone_surrogate"),
        (b'{"a":"\\\\\\ud800"}', "lone_surrogate"),
        (b'{"a":"\\ud83d\\ude00","b":"\\ud83d"}', "lone_surrogate"),
        (b'{"a":"\xff"}', "invalid_encoding"),
        (b'{"\xff":1}', "invalid_encoding"),
        (b'{"a":"\xc0\x80"}', "invalid_encoding"),  # overlong NUL
        (b'{"a":"\xe0\x80\xaf"}', "invalid_encoding"),  # overlong slash
        (b'{"a":"\xed\xa0\xbd\xed\xb8\x80"}', "invalid_encoding"),  # CESU-8
        (b'{"a":"\xf4\x90\x80\x80"}', "invalid_encoding"),  # past U+10FFFF
        (b'{"a":"\xe2\x82"}', "invalid_encoding"),
        (b'{"a":"\x00"}', "nul_character"),
        (b'{"a":"\n"}', "not_json"),
        (b"{'a':1}", "not_json"),
        (b'{"a":1,}', "not_json"),
        (b'{"a":01}', "not_json"),
        (b'{"a":"\\x41"}', "not_json"),
        (b'{"a":"\\ud83d\\ude00",}', "not_json"),  # a pair is no lone surrogate
        (b'{"a":1', "not_json"),
        (b'{"a":1}{"a":2}', "not_json"),
        (b"", "not_json"),
        (b"[" * 100_000, "too_deep"),
        (b'{"a":' * 100_000, "too_deep"),
    ],
    ids=short,
)
def test_a_record_that_cannot_be_one_is_rejected_with_its_reason(record, expected):
    assert record_reason(record) == expected


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b"{}", {}),
        (b' {"a" : 1} ', {"a": 1}),
        (b'{"a":1e308}', {"a": Decimal("1e308")}),
        (b'{"a":1E-300}', {"a": Decimal("1e-300")}),
        (b'{"a":1e-400}', {"a": Decimal("1e-400")}),
        (b'{"a":0.1}', {"a": Decimal("0.1")}),
        (b'{"a":-0.0}', {"a": 0}),
        (b'{"a":' + b"1" * 4300 + b"}", {"a": int("1" * 4300)}),
        (b'{"a":"\\ud83d\\ude00"}', {"a": "😀"}),
        (b'{"a":"\\\\ud800"}', {"a": "\\ud800"}),
        (b'{"a":"\\\\u0000"}', {"a": "\\u0000"}),
        (b'{"a":"\\u0000"}', {"a": "\x00"}),  # the columns that take it decide
        (b'{"a":"\xef\xbf\xbf\xf4\x8f\xbf\xbf"}', {"a": "\uffff\U0010ffff"}),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b'{"":{"":1}}', {"": {"": 1}}),
    ],
    ids=short,
)
def test_a_record_is_decoded_as_it_is(record, expected):
    assert decode_record(raw(record)) == expected


def nested(levels, opening=b'{"a":', closing=b"}"):
    """Return an object whose innermost bracket is at `levels`."""
    return b'{"a":' + opening * (levels - 2) + b"[]" + closing * (levels - 2) + b"}"


@pytest.mark.parametrize(("opening", "closing"), [(b'{"a":', b"}"), (b"[", b"]")])
def test_the_limit_of_nesting_is_100_levels(opening, closing):
    assert decode_record(raw(nested(100, opening, closing)))
    assert record_reason(nested(101, opening, closing)) == "too_deep"
    assert record_reason(nested(5000, opening, closing)) == "too_deep"


def test_many_brackets_are_not_depth():
    wide = b'{"a":[' + b",".join([b"[{}]"] * 5000) + b"]}"
    assert len(decode_record(raw(wide))["a"]) == 5000


def test_the_limit_of_size_is_16_mebibytes():
    assert MAX_RECORD_BYTES == 16_777_216
    fitting = b'{"a":"' + b"x" * (16_777_216 - 8) + b'"}'
    assert len(fitting) == 16_777_216
    assert len(decode_record(raw(fitting))["a"]) == 16_777_208
    assert record_reason(fitting + b" ") == "field_too_large"
