"""Records to rows: decides about every value before the database sees it. Pure Python, no I/O.

A feed declares rules; together with what the Django model knows they become columns; columns are compiled once
into a function that turns one record into one row or raises RecordRejected.
"""

from ingestion.cleaning.declaring import (
    UNITS,
    binary,
    boolean,
    computed,
    constant,
    date,
    decimal,
    duration,
    field,
    first_of,
    integer,
    json,
    mapped,
    problem_of,
    related,
    text,
    time,
    timestamp,
    uuid,
    whole_record,
)
from ingestion.cleaning.decoding import (
    MAX_DEPTH,
    MAX_RECORD_BYTES,
    decode_json,
    decode_record,
    quoted,
)
from ingestion.cleaning.keys import FindKey, compile_key, key_text
from ingestion.cleaning.kinds import KINDS, absent_of, bind_value
from ingestion.cleaning.repeats import FindRepeats, compile_repeats, strings_in
from ingestion.cleaning.rows import CleanRecord, clean_default, compile_columns, noter, storable
from ingestion.cleaning.rules import UNSET, Column, MomentForm, RecordRule, RelationForm, Rule

__all__ = [
    "KINDS",
    "MAX_DEPTH",
    "MAX_RECORD_BYTES",
    "UNITS",
    "UNSET",
    "CleanRecord",
    "Column",
    "FindKey",
    "FindRepeats",
    "MomentForm",
    "RecordRule",
    "RelationForm",
    "Rule",
    "absent_of",
    "binary",
    "bind_value",
    "boolean",
    "clean_default",
    "compile_columns",
    "compile_key",
    "compile_repeats",
    "computed",
    "constant",
    "date",
    "decimal",
    "decode_json",
    "decode_record",
    "duration",
    "field",
    "first_of",
    "integer",
    "json",
    "key_text",
    "mapped",
    "noter",
    "problem_of",
    "quoted",
    "related",
    "storable",
    "strings_in",
    "text",
    "time",
    "timestamp",
    "uuid",
    "whole_record",
]
