"""Records to rows: decides about every value before the database sees it. Pure Python, no I/O.

A feed declares rules; together with what the Django model knows they become columns; columns are compiled once
into a function that turns one record into one row or raises RecordRejected.
"""

from ingestion.cleaning.decoding import (
    MAX_DEPTH,
    MAX_RECORD_BYTES,
    decode_json,
    decode_record,
    key_text,
    may_repeat,
    quoted,
)
from ingestion.cleaning.rows import CleanRecord, clean_default, compile_columns
from ingestion.cleaning.rules import UNSET, Column, Rule, field, text, whole_record
from ingestion.cleaning.values import KINDS

__all__ = [
    "KINDS",
    "MAX_DEPTH",
    "MAX_RECORD_BYTES",
    "UNSET",
    "CleanRecord",
    "Column",
    "Rule",
    "clean_default",
    "compile_columns",
    "decode_json",
    "decode_record",
    "field",
    "key_text",
    "may_repeat",
    "quoted",
    "text",
    "whole_record",
]
