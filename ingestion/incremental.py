"""Incremental feeds: what a run asks for so that it gets what has changed since the last one. Pure, no I/O.

Note [Watermarks]: the watermark of a feed is the highest value of a field of its records that a complete run has
loaded, and never more than the moment at which that run began: what is dated in the future, and what was changed while
the run read other pages, comes again. The next run asks from the watermark on, less an overlap for what the remote
shows late. Rows that come again are equal, and the target leaves them alone.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from ingestion import cleaning
from ingestion.cleaning import UNITS, MomentForm, Rule
from ingestion.errors import ConfigurationError
from ingestion.gauging import Gauge, Mark
from ingestion.parts import Parts, Periods
from ingestion.sources import FilteredSource, Source

# Transactions that commit late, and clocks that differ.
OVERLAP: Final = timedelta(minutes=5)
MISSING: Final = ("load", "reject", "fail")
_WORDS: Final = {datetime: "datetime", timedelta: "timedelta", int: "whole number"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Before it there are moments that cannot be written in every zone. Remotes write 0001-01-01 for "never changed".
_EARLIEST: Final = datetime(1, 1, 2, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Incremental:
    """What a feed asks for is what has changed since its last complete run.

    Args:
        field: where each record says when it was changed, or its increasing number: a path of a timestamp, or a rule
            `timestamp(…)` or `integer(…)`.
        since: what the watermark is sent as: a query parameter, a GraphQL variable, a SOAP argument, a member of a
            POST's body. None where `parts` are windows of time, which begin at it.
        initial: what a run without a watermark asks from; None asks for everything.
        overlap: how much before the watermark a run begins: a length of time, or a number of numbers. None is five
            minutes, and nothing of numbers.
        written: how the watermark is sent: a format of strftime, or the unit of a number; None as the field is.
        missing: what becomes of records without a readable watermark: `"load"`, `"reject"`, or `"fail"` the run.
        retention: how long the remote knows of changes; a run whose watermark is older starts over.
    """

    field: str | Rule
    since: str | None = None
    initial: datetime | int | None = None
    overlap: timedelta | int | None = None
    written: str | None = None
    missing: Literal["load", "reject", "fail"] = "load"
    retention: timedelta | None = None

    @property
    def rule(self) -> Rule:
        return cleaning.field(self.field) if isinstance(self.field, str) else self.field

    @property
    def name(self) -> str:
        """Return the field's path; watermarks of different fields cannot be compared."""
        return ".".join(self.rule.path or ())[:255]

    @property
    def is_of_time(self) -> bool:
        """Whether watermarks are moments; otherwise they are numbers."""
        return self.rule.kind != "integer"

    @property
    def form(self) -> MomentForm:
        return self.rule.form if isinstance(self.rule.form, MomentForm) else MomentForm()

    def gauge(self) -> Gauge:
        """Return what reads the watermarks of records."""
        return Gauge(self.rule, self.missing)

    def start(self, watermark: Mark | None) -> Mark | None:
        """Return where a run begins that goes on from a watermark; None for everything."""
        if watermark is None:
            return self.initial
        if isinstance(watermark, datetime) and watermark - _EARLIEST < self._overlap:  # type: ignore[operator]
            return None
        first: Any = watermark - self._overlap  # type: ignore[operator]  # a system check has looked
        # The overlap leads to nothing before the start, unless somebody has set the watermark there.
        if self.initial is not None and first < self.initial <= watermark:  # type: ignore[operator]
            return self.initial
        start: Mark = first
        return start

    def is_too_old(self, watermark: Mark | None, now: datetime) -> bool:
        """Whether the remote may have forgotten some of what has changed since."""
        if self.retention is None or not isinstance(watermark, datetime):
            return False
        start = self.start(watermark)
        return start is None or start < now - self.retention  # type: ignore[operator]  # a moment, too

    def asked(self, source: Source, start: Mark | None) -> Source:
        """Return the source asked from a start on."""
        if start is None or self.since is None:
            return source
        filtered: FilteredSource = source  # type: ignore[assignment]  # a system check has looked
        return filtered.with_values({self.since: self.sent(start)})

    def sent(self, mark: Mark) -> str | int:
        """Return a watermark as the remote is sent it; what it has no room for is cut off, and nothing missed."""
        if not isinstance(mark, datetime):
            return mark
        form = self.form
        written = self.written or form.unit or (form.formats[0] if form.formats else None)
        if written in UNITS:
            return (mark - _EPOCH) // timedelta(microseconds=1) * UNITS[written] // 1_000_000
        local = mark.astimezone(ZoneInfo(form.zone) if form.zone else UTC)
        if written is not None:
            return local.strftime(written)
        # A remote that writes no zone understands none.
        return (local.replace(tzinfo=None) if form.zone else local).isoformat()

    def to_json(self, mark: Mark) -> str | int:
        """Return a watermark as it is stored and shown."""
        return mark.astimezone(UTC).isoformat() if isinstance(mark, datetime) else mark

    def from_json(self, stored: str | int | None) -> Mark | None:
        """Return a stored watermark.

        Raises:
            ConfigurationError: it is one of another kind than the feed has now.
        """
        if stored is None:
            return None
        if isinstance(stored, str) != self.is_of_time:
            raise ConfigurationError(f"the stored watermark {stored!r} is not of the kind that the feed has now")
        return datetime.fromisoformat(stored) if isinstance(stored, str) else stored

    def parse(self, text: str) -> Mark:
        """Read a watermark that a person has written; a moment without a zone is in UTC.

        Raises:
            ConfigurationError: it is none.
        """
        try:
            if not self.is_of_time:
                return int(text)
            moment = datetime.fromisoformat(text.strip())
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            wanted = "no moment like 2026-11-23T12:00" if self.is_of_time else "no whole number"
            raise ConfigurationError(f"{text[:40]!r} is {wanted}") from None

    def problem(self, source: Source, parts: Parts | None) -> str | None:
        """Say what is wrong with the declaration, for a system check; None when nothing is."""
        rule = self.rule
        if (
            not rule.path
            or rule.kind not in (None, "timestamp", "integer")
            or rule.mapping is not None
            or rule.truncate
        ):
            return "field takes a path, or timestamp(…) or integer(…) of one"
        if problem := cleaning.problem_of(rule):
            return problem
        return self._problem_of_request(source, parts) or self._problem_of_values()

    def _problem_of_request(self, source: Source, parts: Parts | None) -> str | None:
        if isinstance(parts, Periods):
            if self.since is not None or not self.is_of_time or self.initial is not None:
                return (
                    "windows of time begin at the watermark: it is a time, has no since=…, and start=… of the windows"
                )
        elif self.since is None:
            return "since=… has to name what the watermark is sent as"
        if not isinstance(source, FilteredSource):
            return f"{type(source).__name__} cannot be asked for what has changed"
        return None

    def _problem_of_values(self) -> str | None:
        kind, length = (datetime, timedelta) if self.is_of_time else (int, int)
        overlap: Any = self.overlap
        nothing: Any = length(0)
        if self.initial is not None and not isinstance(self.initial, kind):
            return f"initial is a {_WORDS[kind]}, like the field"
        if isinstance(self.initial, datetime) and self.initial.tzinfo is None:
            return "initial has no time zone"
        if overlap is not None and not (isinstance(overlap, length) and overlap >= nothing):
            return f"overlap is a {_WORDS[length]} from 0 on, like the field"
        return self._problem_of_choices()

    def _problem_of_choices(self) -> str | None:
        if not self.is_of_time and (self.written or self.retention):
            return "written and retention are for times"
        if self.written is not None and self.written not in UNITS and "%" not in self.written:
            return f"written is a format of strftime, or one of {', '.join(UNITS)}"
        if self.missing not in MISSING:
            return f"missing is one of {', '.join(MISSING)}"
        return None

    @property
    def _overlap(self) -> timedelta | int:
        if self.overlap is not None:
            return self.overlap
        return OVERLAP if self.is_of_time else 0
