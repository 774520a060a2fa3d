"""Traces of a run's requests, kept with its chunks: at most once a second, and when a slice ends."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import msgspec
import structlog
from django.db import DatabaseError, InterfaceError, transaction

from ingestion.errors import PartTaken
from ingestion.http import traces
from ingestion.http.traces import Collector, Trace, Traces
from ingestion.models import Part, RunTraces
from ingestion.transactions import brief
from ingestion.types import Page

log = structlog.get_logger(__name__)

# A row of some kilobytes is written anew each time.
SECONDS: Final = 1.0


@contextmanager
def of(part: Part) -> Iterator[None]:
    """Collect the traces of a slice, and keep those that no chunk has kept, unless the database is the trouble."""
    collector = Collector()
    with traces.collecting(collector):
        try:
            yield
        except (PartTaken, DatabaseError, InterfaceError):
            raise
        except Exception:
            _keep_last(part, collector)
            raise
        _keep_last(part, collector)


def placed(pages: Iterator[Page]) -> Iterator[Page]:
    """Yield the pages of the slice, and note which requests were for which, in whatever thread they are asked for."""
    return _placed(pages, traces.current() or Collector())


def _placed(pages: Iterator[Page], collector: Collector) -> Iterator[Page]:
    traces.collect_here(collector)
    for page in pages:
        collector.place(page.number)
        yield page


def _keep_last(part: Part, collector: Collector) -> None:
    collector.place(None)
    try:
        with brief():
            _keep(part.run_id, collector)
    except (DatabaseError, InterfaceError) as error:
        log.debug("traces were not kept", error=type(error).__name__)


def keep(run_id: int, *, is_last: bool) -> None:
    """Keep the traces of this thread's slice, in the caller's transaction, if it is time for that."""
    collector = traces.current()
    if collector is not None and (is_last or time.monotonic() - collector.taken_at >= SECONDS):
        _keep(run_id, collector)


def _keep(run_id: int, collector: Collector) -> None:
    taken = collector.take()
    if not taken:
        return
    kept = RunTraces.objects.select_for_update().filter(run=run_id).first()
    if kept is None:
        # Of two parts that begin at once one finds the other's.
        RunTraces.objects.bulk_create([RunTraces(run_id=run_id)], ignore_conflicts=True)
        kept = RunTraces.objects.select_for_update().get(run=run_id)
    kept.traces = msgspec.to_builtins(load(kept) + taken)
    kept.save(update_fields=["traces"])
    transaction.on_commit(partial(collector.confirm, taken))


def load(kept: RunTraces | None) -> Traces:
    """Return the traces of a run."""
    return msgspec.convert(kept.traces, Traces) if kept is not None else Traces()


@dataclass(frozen=True, kw_only=True)
class HostTotal:
    """What a run's requests to one host cost that were answered with one status."""

    host: str
    status: int
    requests: int
    size_bytes: int
    seconds: float
    waited: float


def totals(of: Traces) -> list[HostTotal]:
    """Return the totals, those that took longest first."""
    rows = [
        HostTotal(
            host=name.rpartition(" ")[0],
            status=int(name.rpartition(" ")[2]),
            requests=total.requests,
            size_bytes=total.size_bytes,
            seconds=round(total.seconds, 3),
            waited=round(total.waited, 3),
        )
        for name, total in of.totals.items()
    ]
    return sorted(rows, key=lambda row: -row.seconds)


def summary(of: Traces) -> dict[str, Any]:
    """Return the traces as JSON with names."""
    return {
        "totals": [asdict(total) for total in totals(of)],
        "slowest": [_named(trace) for trace in of.slowest],
        "newest": [_named(trace) for trace in of.newest],
    }


def _named(trace: Trace) -> dict[str, Any]:
    named = msgspec.structs.asdict(trace)
    at = datetime.fromtimestamp(trace.at, UTC).isoformat(timespec="milliseconds")
    return named | {"at": at, "seconds": round(trace.seconds, 3), "waited": round(trace.waited, 3)}
