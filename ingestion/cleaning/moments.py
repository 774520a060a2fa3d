"""Dates, times, timestamps and durations: ISO 8601, or as the feed declared; never words such as `now`.

PostgreSQL would take `now`, `today`, `infinity`, `24:00` and a time in a date column, and change each silently.
"""

import datetime as dt
import re
from collections.abc import Callable
from decimal import ROUND_FLOOR, Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from ingestion.cleaning.declaring import UNITS
from ingestion.cleaning.decoding import json_type
from ingestion.cleaning.rules import Column, MomentForm
from ingestion.cleaning.values import Absent, CleanValue, Note, refuse_structure_as_key
from ingestion.errors import RecordRejected

_DATE: Final = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_TIME: Final = re.compile(r"([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,18}))?)?")
_OFFSET: Final = re.compile(r"([+-])([0-9]{2})(?::?([0-9]{2}))?")
_TIMESTAMP: Final = re.compile(rf"({_DATE.pattern})[Tt ](.*?) ?([Zz]|{_OFFSET.pattern})?")
_EPOCH_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{1,20})?")
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_DAY: Final = dt.timedelta(days=1)
_PERIOD: Final = re.compile(
    r"([+-]?)P(?:([0-9]{1,9})W)?(?:([0-9]{1,9})D)?"
    r"(?:T(?=[0-9])(?:([0-9]{1,9})H)?(?:([0-9]{1,9})M)?(?:([0-9]{1,9}(?:[.,][0-9]{1,18})?)S)?)?"
)
_CLOCK: Final = re.compile(
    r"([+-]?)(?:([0-9]{1,9})(?: days?,?)? )?([0-9]{1,9}):([0-9]{2}):([0-9]{2}(?:\.[0-9]{1,18})?)"
)


class _Unreadable(ValueError):
    """Text is no date or time; the message says why."""


class _Reader:
    """Reads the moments of one column as its form says."""

    def __init__(self, column: Column, note: Note) -> None:
        self._column = column
        self._note = note
        self._form = column.form if isinstance(column.form, MomentForm) else MomentForm()
        self.zone = ZoneInfo(self._form.zone) if self._form.zone else None

    def bind(self, absent: Absent, read: Callable[[Any], Any]) -> CleanValue:
        """Return the cleaner of which `read` is the part that knows the type."""
        column = self._column

        def clean(value: Any) -> Any:
            if type(value) is str:
                stripped = value.strip()
                if not stripped:
                    self._note("blank")
                    return absent()
                if stripped is not value and stripped != value:
                    self._note("strip")
                value = stripped
            try:
                return read(value)
            except (ValueError, OverflowError) as error:
                refuse_structure_as_key(value, column)
                detail = f"found {json_type(value)} {str(value)[:40]!r}: {error}"
                raise RecordRejected("invalid_timestamp", field=column.name, detail=detail) from error

        return clean

    def moment(self, value: Any) -> dt.datetime | dt.date:
        """Read a timestamp, aware or not, or a date alone."""
        if isinstance(value, dt.datetime | dt.date):
            return value
        if self._form.unit and (type(value) in (int, Decimal) or _is_number(value)):
            self._note("epoch")
            return _EPOCH + _span(Decimal(value), self._form.unit)
        if type(value) is not str:
            raise _Unreadable("numbers need a declared unit" if type(value) in (int, Decimal) else "expected text")
        if self._form.formats:
            return self.formatted(value)
        if found := _DATE.fullmatch(value):
            return dt.date(*map(int, found.groups()))
        if found := _TIMESTAMP.fullmatch(value):
            return self._timestamp(*found.group(2, 3, 4, 5, 6))
        raise _Unreadable("expected ISO 8601")

    def formatted(self, value: str) -> dt.datetime:
        """Read text in one of the declared formats."""
        for form in self._form.formats:
            try:
                moment = dt.datetime.strptime(value, form)  # noqa: DTZ007 - the zone is looked at by whoever calls
            except ValueError:
                continue
            self._note("format")
            return moment
        raise _Unreadable(f"expected one of the formats {', '.join(self._form.formats)}")

    def _timestamp(self, year: str, month: str, day: str, clock: str, zone: str | None) -> dt.datetime:
        date = dt.date(int(year), int(month), int(day))
        midnight = re.fullmatch(r"24:00(:00([.,]0+)?)?", clock)
        if midnight:
            self._note("midnight")
            date, clock = date + _DAY, "00:00"
        return dt.datetime.combine(date, self.clock(clock), tzinfo=_zone_of(zone))

    def clock(self, text: str) -> dt.time:
        """Read a time of day; what is finer than a microsecond is cut off."""
        found = _TIME.fullmatch(text)
        if found is None:
            raise _Unreadable("expected hours, minutes and seconds")
        hours, minutes, seconds, fraction = found.groups("0")
        if fraction[6:].strip("0"):
            self._note("nanoseconds")
        return dt.time(int(hours), int(minutes), int(seconds), int(fraction[:6].ljust(6, "0")))

    def aware(self, moment: dt.datetime | dt.date) -> dt.datetime:
        """Give a moment without a zone the declared one; the result is in UTC."""
        if not isinstance(moment, dt.datetime):
            moment = dt.datetime.combine(moment, dt.time())
            if self.zone:
                self._note("date")
        if moment.utcoffset() is None:
            if self.zone is None:
                raise RecordRejected(
                    "naive_timestamp", field=self._column.name, detail="no zone, and the feed declares none"
                )
            self._note("zone")
            moment = moment.replace(tzinfo=self.zone)
        return moment.astimezone(dt.UTC)


def clean_timestamp(column: Column, absent: Absent, note: Note) -> CleanValue:
    reader = _Reader(column, note)
    return reader.bind(absent, lambda value: reader.aware(reader.moment(value)))


def clean_date(column: Column, absent: Absent, note: Note) -> CleanValue:
    reader = _Reader(column, note)

    def read(value: Any) -> dt.date:
        moment = reader.moment(value)
        if not isinstance(moment, dt.datetime):
            return moment
        if moment.time() != dt.time() or moment.tzinfo:
            note("time_dropped")
        if moment.tzinfo and reader.zone:
            moment = moment.astimezone(reader.zone)
        return moment.date()

    return reader.bind(absent, read)


def clean_time(column: Column, absent: Absent, note: Note) -> CleanValue:
    reader = _Reader(column, note)

    def read(value: Any) -> dt.time:
        if type(value) is dt.time:
            time = value
        elif type(value) is not str:
            raise _Unreadable("expected text")
        elif isinstance(column.form, MomentForm):
            time = reader.formatted(value).timetz()
        else:
            time = reader.clock(value)
        if time.tzinfo:
            raise _Unreadable("a time of day has no zone")
        return time

    return reader.bind(absent, read)


def clean_duration(column: Column, absent: Absent, note: Note) -> CleanValue:
    unit = column.form.unit if isinstance(column.form, MomentForm) else None

    def read(value: Any) -> dt.timedelta:
        if type(value) is dt.timedelta:
            return value
        if unit and (type(value) in (int, Decimal) or _is_number(value)):
            note("unit")
            return _span(Decimal(value), unit)
        if type(value) is not str:
            raise _Unreadable("numbers need a declared unit" if type(value) in (int, Decimal) else "expected text")
        if (found := _PERIOD.fullmatch(value)) and value[-1] not in "PT":
            sign, weeks, days, *clock = found.groups("0")
            return length(sign, int(weeks) * 7 + int(days), *clock)
        if found := _CLOCK.fullmatch(value):
            sign, days, *clock = found.groups("0")
            return length(sign, int(days), *clock)
        raise _Unreadable("expected ISO 8601 without years and months, or [days] hours:minutes:seconds")

    def length(sign: str, days: int, hours: str, minutes: str, seconds: str) -> dt.timedelta:
        if re.search(r"[.,][0-9]{6}[0-9]*[1-9]", seconds):
            note("nanoseconds")
        span = dt.timedelta(days=days, hours=int(hours), minutes=int(minutes))
        span += _span(Decimal(seconds.replace(",", ".")), "s")
        return -span if sign == "-" else span

    return _Reader(column, note).bind(absent, read)


def _span(number: Decimal, unit: str) -> dt.timedelta:
    """Return a number of units as a span; what is finer than a microsecond is cut off, away from the future."""
    if abs(number) >= 10**20:
        raise _Unreadable("out of range")
    microseconds = (number * 1_000_000 / UNITS[unit]).to_integral_value(ROUND_FLOOR)
    return dt.timedelta(microseconds=int(microseconds))


def _is_number(value: Any) -> bool:
    return type(value) is str and _EPOCH_NUMBER.fullmatch(value) is not None


def _zone_of(text: str | None) -> dt.tzinfo | None:
    if text is None:
        return None
    if text in "Zz":
        return dt.UTC
    found = _OFFSET.fullmatch(text)
    assert found
    sign, hours, minutes = found.groups("0")
    if int(minutes) > 59:
        raise _Unreadable("an offset has at most 59 minutes")
    offset = dt.timedelta(hours=int(hours), minutes=int(minutes))
    return dt.timezone(-offset if sign == "-" else offset)
