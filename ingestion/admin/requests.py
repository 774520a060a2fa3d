"""A run's requests on its page: totals for each host and status, the slowest ones and the newest."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from ingestion import tracing
from ingestion.admin import formats
from ingestion.http.traces import NO_ANSWER, Trace, Traces
from ingestion.models import Run

# Those that are kept are twice as many; the command shows all of them.
SHOWN: Final = 10


def totals(run: Run) -> str:
    """Return what the run's requests cost, the most time first."""
    rows = [
        (
            total.host,
            _status(total.status),
            formats.number(total.requests),
            formats.number(total.size_bytes),
            _seconds(total.seconds),
            _seconds(total.seconds / total.requests),
            _seconds(total.waited),
        )
        for total in tracing.totals(_of(run))
    ]
    heads = ("Host", "Status", "Requests", "Bytes", "Took", "Each", "Waited before")
    return formats.table(heads, rows, kind="requests") if rows else formats.NOTHING


def slowest(run: Run) -> str:
    """Return the requests that took longest."""
    return _listed(_of(run).slowest[:SHOWN])


def newest(run: Run) -> str:
    """Return the last requests, the newest first."""
    return _listed(_of(run).newest[:SHOWN])


def _of(run: Run) -> Traces:
    return tracing.load(getattr(run, "traced", None))


def _listed(traces: Iterable[Trace]) -> str:
    rows = [
        (
            formats.moment(datetime.fromtimestamp(trace.at, UTC)),
            formats.short(trace.request),
            _status(trace.status),
            formats.number(trace.size_bytes),
            _seconds(trace.seconds),
            _seconds(trace.waited),
            f"{trace.attempt}",
            formats.number(trace.page),
        )
        for trace in traces
    ]
    heads = ("Ended (UTC)", "Request", "Status", "Bytes", "Took", "Waited before", "Attempt", "Page")
    return formats.table(heads, rows, kind="requests") if rows else formats.NOTHING


def _status(status: int) -> str:
    return "no answer" if status == NO_ANSWER else f"{status}"


def _seconds(seconds: float) -> str:
    return f"{seconds:,.3f} s"
