"""The rules that feeds are written with: small values that say where a column's value is and how it is read.

Each rule for a type takes a dotted path, or another rule that says where the value comes from:
`text(first_of("title", "name"), strip=True)`.
"""

import decimal as decimals
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final
from zoneinfo import ZoneInfo

from ingestion.cleaning.rules import (
    UNSET,
    BinaryForm,
    BooleanForm,
    JsonForm,
    MomentForm,
    NumberForm,
    RelationForm,
    Rule,
    TextForm,
)

UNITS: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
NORMAL_FORMS: Final = ("NFC", "NFD", "NFKC", "NFKD")
ROUNDINGS: Final = {
    "half_even": decimals.ROUND_HALF_EVEN,
    "half_up": decimals.ROUND_HALF_UP,
    "down": decimals.ROUND_DOWN,
}
ENCODINGS: Final = ("base64", "base64url", "hex")
MISSING: Final = ("reject", "null", "create")


def field(path: str) -> Rule:
    """Take the value at a dotted path, cleaned by the model's column type."""
    return Rule(path=tuple(path.split(".")))


def first_of(*paths: str) -> Rule:
    """Take the first of several paths that has a value: one that is not missing, null or empty text."""
    first, *others = (tuple(path.split(".")) for path in paths)
    return Rule(path=first, others=tuple(others))


def constant(value: Any) -> Rule:
    """Give every row the same value."""
    return Rule(path=(), constant=value)


def computed(function: Callable[[dict[str, Any]], Any]) -> Rule:
    """Take what a function makes of the decoded record; None counts as missing.

    Numbers with a point or an exponent are Decimal. The function may raise RecordRejected; any other exception rejects
    the record with `rule_failed`.
    """
    return Rule(path=(), compute=function)


def mapped(path: str | Rule, values: Mapping[Any, Any], *, default: Any = UNSET) -> Rule:
    """Store what the source's value stands for: `mapped("status", {"A": "active", "X": None})`.

    Numbers and booleans are looked up as text too, so that 1 and "1" are one. A value that is not among them rejects
    the record with `not_a_choice`.
    """
    return _typed(path, None, default, mapping={lookup_text(source): stored for source, stored in values.items()})


def text(  # noqa: PLR0913 - one switch for each thing that may be done to text, all by keyword
    path: str | Rule,
    *,
    default: Any = UNSET,
    truncate: bool = False,
    strip: bool = False,
    collapse: bool = False,
    normalise: str | None = None,
    empty_is_null: bool = False,
    remove_nul: bool = False,
) -> Rule:
    """Take text at a dotted path.

    Args:
        default: what a missing or null value becomes.
        truncate: cut text longer than the column instead of rejecting the record.
        strip: remove white space around it.
        collapse: make one space of each run of white space, and strip.
        normalise: a Unicode normal form, `"NFC"` for one.
        empty_is_null: treat empty text, after all of the above, as missing.
        remove_nul: remove U+0000, which PostgreSQL cannot store, instead of rejecting the record.
    """
    form = TextForm(
        remove_nul=remove_nul, normalise=normalise, strip=strip, collapse=collapse, empty_is_null=empty_is_null
    )
    return replace(_typed(path, "text", default, form=None if form == TextForm() else form), truncate=truncate)


def integer(path: str | Rule, *, default: Any = UNSET, thousands: str = "") -> Rule:
    """Take a whole number; `thousands` separates groups of three digits in text."""
    # What a point separates here is no decimals: a comma would.
    form = NumberForm(thousands=thousands, comma=thousands == ".") if thousands else None
    return _typed(path, "integer", default, form=form)


def decimal(
    path: str | Rule, *, default: Any = UNSET, comma: bool = False, thousands: str = "", rounding: str | None = None
) -> Rule:
    """Take a number, exactly, for a decimal or a float column.

    Args:
        default: what a missing or null value becomes.
        comma: text has a comma before its decimals, `1.234,5` with `thousands="."`.
        thousands: what separates groups of three digits in text.
        rounding: `"half_even"`, `"half_up"` or `"down"` for more decimals than the column has, instead of refusing.
    """
    form = NumberForm(comma=comma, thousands=thousands, rounding=rounding)
    return _typed(path, "decimal", default, form=None if form == NumberForm() else form)


def boolean(path: str | Rule, *, default: Any = UNSET, true: tuple[str, ...] = (), false: tuple[str, ...] = ()) -> Rule:
    """Take a truth value; `true` and `false` replace the words that count as such, in any case."""
    form = BooleanForm(true=tuple(map(str.lower, true)), false=tuple(map(str.lower, false))) if true or false else None
    return _typed(path, "boolean", default, form=form)


def date(
    path: str | Rule, *, default: Any = UNSET, formats: tuple[str, ...] = (), unit: str | None = None,
    zone: str | None = None,
) -> Rule:  # fmt: skip
    """Take a date; the time of a timestamp is dropped, in `zone` where that is given. For the rest see `timestamp`."""
    return _moment(path, "date", default, MomentForm(formats=formats, unit=unit, zone=zone))


def time(path: str | Rule, *, default: Any = UNSET, formats: tuple[str, ...] = ()) -> Rule:
    """Take a time of day without a zone. For the formats see `timestamp`."""
    return _moment(path, "time", default, MomentForm(formats=formats))


def timestamp(
    path: str | Rule, *, default: Any = UNSET, formats: tuple[str, ...] = (), unit: str | None = None,
    zone: str | None = None,
) -> Rule:  # fmt: skip
    """Take a moment in time.

    Args:
        default: what a missing or null value becomes.
        formats: how text is written, in the words of `strptime`; nothing else is read then. Without any: ISO 8601.
        unit: what numbers count since 1970-01-01 UTC: `"s"`, `"ms"`, `"us"` or `"ns"`. Without it numbers are rejected.
        zone: name of the zone of what names none, `"Europe/Berlin"`. Without it such text is rejected. Of an hour that
            is there twice the first counts.
    """
    return _moment(path, "timestamp", default, MomentForm(formats=formats, unit=unit, zone=zone))


def duration(path: str | Rule, *, default: Any = UNSET, unit: str | None = None) -> Rule:
    """Take a length of time; `unit` is that of numbers, as of `timestamp`."""
    return _moment(path, "duration", default, MomentForm(unit=unit))


def uuid(path: str | Rule, *, default: Any = UNSET) -> Rule:
    """Take a UUID in any usual form."""
    return _typed(path, "uuid", default)


def json(path: str | Rule, *, default: Any = UNSET, remove_nul: bool = False) -> Rule:
    """Take any value for a JSON column, or with `json(whole_record)` the record.

    `remove_nul` removes U+0000, which jsonb cannot hold, from its names and texts instead of rejecting the record.
    """
    return _typed(path, "json", default, form=JsonForm(remove_nul=True) if remove_nul else None)


def binary(path: str | Rule, *, encoding: str, default: Any = UNSET) -> Rule:
    """Take bytes that are written as text: `encoding` is `"base64"`, `"base64url"` or `"hex"`."""
    return _typed(path, "binary", default, form=BinaryForm(encoding=encoding))


def related(
    path: str | Rule | tuple[str | Rule, ...],
    *,
    by: str | tuple[str, ...],
    missing: str = "reject",
    defaults: Mapping[str, Any] | None = None,
) -> Rule:
    """Find the related row by other fields of its model than the one a relation refers to.

    Args:
        path: where their values are: a path or a rule, or one for each field. They are cleaned by those fields' types.
        by: the field or fields of the related model; a unique constraint has to cover exactly these.
        missing: what becomes of a record whose related row is not there: `"reject"` puts it into the quarantine with
            `missing_relation`, `"null"` loads it without, `"create"` makes the related row.
        defaults: the other fields of a row that is made: values, or functions that give one.
    """
    parts = path if isinstance(path, tuple) else (path,)
    form = RelationForm(
        by=(by,) if isinstance(by, str) else tuple(by),
        parts=tuple(field(part) if isinstance(part, str) else part for part in parts),
        missing=missing,
        defaults=defaults or {},
    )
    return Rule(path=(), relation=form)


whole_record: Final = Rule(path=None, kind="json")


def lookup_text(value: Any) -> str:
    """Return what a source value is looked up by in the values of `mapped`."""
    return ("true" if value else "false") if type(value) is bool else str(value)


def problem_of(rule: Rule) -> str | None:
    """Return what is wrong with a rule's options, or None."""
    form = rule.form
    if rule.relation is not None:
        return _problem_of_relation(rule, rule.relation)
    if isinstance(form, TextForm) and form.normalise and form.normalise not in NORMAL_FORMS:
        return f"normalise is one of {', '.join(NORMAL_FORMS)}, not {form.normalise!r}"
    if isinstance(form, NumberForm):
        return _problem_of_number(form)
    if isinstance(form, MomentForm):
        return _problem_of_moment(form)
    if isinstance(form, BinaryForm) and form.encoding not in ENCODINGS:
        return f"encoding is one of {', '.join(ENCODINGS)}, not {form.encoding!r}"
    return None


def _problem_of_number(form: NumberForm) -> str | None:
    if form.rounding is not None and form.rounding not in ROUNDINGS:
        return f"rounding is one of {', '.join(ROUNDINGS)}, not {form.rounding!r}"
    is_separator = len(form.thousands) == 1 and unicodedata.category(form.thousands)[0] in "PZ"
    if form.thousands and (not is_separator or form.thousands in "+-"):
        return f"thousands is one separating character, not {form.thousands!r}"
    if form.thousands == ("," if form.comma else "."):
        return f"{form.thousands!r} cannot separate both thousands and decimals"
    return None


def _problem_of_moment(form: MomentForm) -> str | None:
    if form.unit is not None and form.unit not in UNITS:
        return f"unit is one of {', '.join(UNITS)}, not {form.unit!r}"
    try:
        ZoneInfo(form.zone or "UTC")
    except (KeyError, ValueError, OSError):
        return f"no time zone is named {form.zone!r}"
    formats: Any = form.formats  # one format alone is text, whatever its annotation says
    if not isinstance(formats, tuple) or any("%" not in one for one in formats):
        return f"formats is a tuple of formats of strptime, not {formats!r}"
    return None


def _problem_of_relation(rule: Rule, form: RelationForm) -> str | None:
    if rule != Rule(path=(), relation=form) or any(part.relation for part in form.parts):
        return "related goes around other rules, related(text(…), by=…)"
    if form.missing not in MISSING:
        return f"missing is one of {', '.join(MISSING)}, not {form.missing!r}"
    if not form.by or len(form.parts) != len(form.by) or len(set(form.by)) != len(form.by):
        return f"there is one path for each field of by, not {len(form.parts)} for {len(form.by)}"
    if form.defaults and form.missing != "create":
        return "defaults are for missing='create'"
    if any(part.truncate for part in form.parts):
        return "text that was cut would find another row"
    return next(filter(None, map(problem_of, form.parts)), None)


def _moment(path: str | Rule, kind: str, default: Any, form: MomentForm) -> Rule:
    return _typed(path, kind, default, form=None if form == MomentForm() else form)


def _typed(path: str | Rule, kind: str | None, default: Any, **options: Any) -> Rule:
    rule = field(path) if isinstance(path, str) else path
    kept = {name: value for name, value in options.items() if value is not None}
    return replace(rule, kind=kind or rule.kind, default=rule.default if default is UNSET else default, **kept)
