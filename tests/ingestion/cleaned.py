"""What becomes of one value in a column of a kind, and why none does."""

import json

import msgspec
import pytest

from ingestion.cleaning import Column, compile_columns
from ingestion.errors import RecordRejected


def raw(record):
    return msgspec.Raw(record if isinstance(record, bytes) else json.dumps(record).encode())


def column(kind, path="v", **options):
    return Column(name="c", kind=kind, path=tuple(path.split(".")) if path else None, **options)


def cleaned(kind, value, **options):
    """Clean the record {"v": value}, where bytes are JSON text."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    (only,) = compile_columns([column(kind, **options)])(raw(b'{"v":' + text + b"}"))
    return only


def rejection(call, *args, **options):
    with pytest.raises(RecordRejected) as raised:
        call(*args, **options)
    return raised.value


def reason(kind, value, **options):
    rejected = rejection(cleaned, kind, value, **options)
    assert rejected.field == "c"
    return rejected.reason
