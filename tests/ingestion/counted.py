"""What becomes of one value by a rule, and what is counted of it."""

import datetime as dt
import json
from collections import Counter

import msgspec
import pytest

from ingestion.cleaning import Column, compile_columns
from ingestion.errors import RecordRejected


def column(kind, rule=None, **options):
    form = rule.form if rule else None
    return Column(name="c", kind=kind, path=("v",), form=form, **options)


def cleaned(kind, value, rule=None, **options):
    """Clean the record {"v": value}, bytes being JSON text; return the value and the rules that were counted."""
    counted = Counter()
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    (only,) = compile_columns([column(kind, rule, **options)], coercions=counted)(msgspec.Raw(b'{"v":' + text + b"}"))
    return only, sorted(counted)


def reason(kind, value, rule=None, **options):
    with pytest.raises(RecordRejected) as raised:
        cleaned(kind, value, rule, **options)
    assert raised.value.field == "c"
    return raised.value.reason


def utc(*parts):
    return dt.datetime(*parts, tzinfo=dt.UTC)
