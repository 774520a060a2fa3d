"""Numbers: whole ones, exact decimals, floats."""

import re
from collections.abc import Callable
from decimal import Context, Decimal
from functools import partial
from typing import Any, Final

from ingestion.cleaning.declaring import ROUNDINGS
from ingestion.cleaning.decoding import FRACTION_DIGITS, HIGHEST_EXPONENT, json_type
from ingestion.cleaning.rules import Column, NumberForm
from ingestion.cleaning.values import Absent, CleanValue, Note, refuse_structure_as_key
from ingestion.errors import RecordRejected

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,40}")
_PLAIN: Final = re.compile(r"-?[0-9]{1,1000}(\.[0-9]{1,1000})?")
_NUMBER: Final = re.compile(r"[+-]?([0-9]{1,1000}(\.[0-9]{0,1000})?|\.[0-9]{1,1000})([eE][+-]?[0-9]{1,6})?")
_NOT_FINITE: Final = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
# More digits than any column has: rounding to a column's decimals is exact in between.
_CONTEXT: Final = Context(prec=HIGHEST_EXPONENT + FRACTION_DIGITS)


def clean_integer(column: Column, absent: Absent, note: Note) -> CleanValue:
    name, choices = column.name, column.choices
    low, high = column.limits or (-(2**63), 2**63 - 1)

    def clean(value: Any) -> int | None:
        if type(value) is not int:
            if type(value) is str and not value.strip():
                note("blank")
                blank: int | None = absent()
                return blank
            value = _integer_of(value, column, note)
        number: int = value
        if not low <= number <= high:
            raise RecordRejected("out_of_range", field=name, detail=f"expected {low} to {high}")
        if choices is not None and number not in choices:
            raise RecordRejected("not_a_choice", field=name, detail=f"{number} is not among the choices")
        return number

    return clean


def _integer_of(value: Any, column: Column, note: Note) -> int:
    """Coerce what is integral without doubt: `1.0`, `1e3`, `" 1 "`, `"+1"`."""
    if type(value) is str:
        text = value.strip()
        if isinstance(column.form, NumberForm):
            text = _without_thousands(text, column.form)
        if _INTEGER.fullmatch(text):
            note("text")
            return int(text)
    # Zero with a huge exponent must not be expanded; decoding bounds all others.
    elif type(value) is Decimal and (not value or value == value.to_integral_value()):
        note("integral")
        return int(value) if value else 0
    refuse_structure_as_key(value, column)
    raise RecordRejected("not_an_integer", field=column.name, detail=f"found {json_type(value)} {str(value)[:40]!r}")


def clean_decimal(column: Column, absent: Absent, note: Note) -> CleanValue:
    read, fit = partial(_number_of, column=column, note=note), partial(_fit, column=column, note=note)
    fits = _fitting(column)

    def clean(value: Any) -> Decimal | None:
        if type(value) is not Decimal:
            if type(value) is str and not value.strip():
                note("blank")
                blank: Decimal | None = absent()
                return blank
            value = read(value)
        number: Decimal = value
        return number if fits is not None and fits(str(number)) else fit(number)

    return clean


def _fitting(column: Column) -> Callable[[str], Any] | None:
    """Return the cheap check that passes the text of nearly all numbers which fit."""
    if column.max_digits is None or column.decimal_places is None:
        return _PLAIN.fullmatch
    whole, places = column.max_digits - column.decimal_places, column.decimal_places
    digits = f"[0-9]{{1,{whole}}}" if whole > 0 else "0"
    decimals = rf"(\.[0-9]{{1,{places}}})?" if places else ""
    return re.compile(f"-?{digits}{decimals}").fullmatch


def _fit(number: Decimal, *, column: Column, note: Note) -> Decimal:
    """Make a finite number fit into the column's digits, by the declared rounding alone."""
    if not number.is_finite():
        raise RecordRejected("non_finite_number", field=column.name, detail=f"found {number}")
    places = FRACTION_DIGITS if column.decimal_places is None else column.decimal_places
    whole = HIGHEST_EXPONENT + 1 if column.max_digits is None else column.max_digits - places
    if not number:
        return Decimal(0)
    if number.adjusted() >= whole:
        raise RecordRejected(
            "out_of_range", field=column.name, detail=f"expected at most {whole} digits before the point"
        )
    form = column.form if isinstance(column.form, NumberForm) else NumberForm()
    how = ROUNDINGS.get(form.rounding or "", "ROUND_DOWN")
    rounded = number
    if -int(number.as_tuple().exponent) > places:
        rounded = number.quantize(Decimal((0, (1,), -places)), rounding=how, context=_CONTEXT)
    if rounded != number:
        if form.rounding is None:
            raise RecordRejected("too_precise", field=column.name, detail=f"expected at most {places} decimals")
        note("round")
        if rounded and rounded.adjusted() >= whole:
            raise RecordRejected("out_of_range", field=column.name, detail="rounded, it has too many digits")
    return rounded


def clean_float(column: Column, absent: Absent, note: Note) -> CleanValue:
    def clean(value: Any) -> float | None:
        if type(value) is str:
            if not value.strip():
                note("blank")
                blank: float | None = absent()
                return blank
            note("text")
        number = _number_of(value, column=column, note=lambda rule: None)
        try:
            nearest = float(number)
        except OverflowError:
            nearest = float("inf")
        if abs(nearest) == float("inf") or (number and not nearest):
            raise RecordRejected("out_of_range", field=column.name, detail="beyond what a float can hold")
        return nearest

    return clean


def _number_of(value: Any, *, column: Column, note: Note) -> Decimal:
    """Read a number from what JSON, or a function of the feed, may give."""
    if type(value) is int:
        return Decimal(value)
    if type(value) is float:
        value = Decimal(repr(value))
    if type(value) is Decimal:
        if not value.is_finite():
            raise RecordRejected("non_finite_number", field=column.name, detail=f"found {value}")
        return value
    if type(value) is str:
        return _number_in(value, column, note)
    refuse_structure_as_key(value, column)
    raise RecordRejected("not_a_number", field=column.name, detail=f"found {json_type(value)}")


def _number_in(value: str, column: Column, note: Note) -> Decimal:
    """Read a number from text: as JSON would write it, or as the feed declared."""
    if column.form is None and _PLAIN.fullmatch(value):
        return Decimal(value)
    text = value.strip()
    if isinstance(column.form, NumberForm):
        text = _without_thousands(text, column.form)
        if column.form.comma:
            # A point would have been taken for a comma elsewhere.
            text = text.replace(".", "?").replace(",", ".")
    if _NOT_FINITE.fullmatch(text):
        raise RecordRejected("non_finite_number", field=column.name, detail=f"found text {text[:40]!r}")
    if not _NUMBER.fullmatch(text):
        raise RecordRejected("not_a_number", field=column.name, detail=f"found text {value[:40]!r}")
    number = Decimal(text)
    if number and (number.adjusted() > HIGHEST_EXPONENT or int(number.as_tuple().exponent) < -FRACTION_DIGITS):
        raise RecordRejected("out_of_range", field=column.name, detail=f"found text {text[:40]!r}")
    if text != value or not _PLAIN.fullmatch(text):
        note("text")
    return number


def _without_thousands(text: str, form: NumberForm) -> str:
    """Remove the separators of thousands where each stands where it belongs; else the text as it is."""
    if not form.thousands or form.thousands not in text:
        return text
    separator, point = re.escape(form.thousands), "," if form.comma else r"\."
    if re.fullmatch(rf"[+-]?[0-9]{{1,3}}({separator}[0-9]{{3}})+({point}[0-9]*)?", text):
        return text.replace(form.thousands, "")
    return text
