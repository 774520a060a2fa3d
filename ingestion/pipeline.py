"""The job itself: pages → prefetch → chunk → clean → encode → StringIteratorIO → COPY → merge, one transaction a chunk.

Reading this module is reading the job; the stages do not know each other.
"""

import getpass
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from django.db import DatabaseError, connections, transaction

from ingestion import feeds, loaders, runs
from ingestion.cleaning import CleanRecord, compile_columns, key_text
from ingestion.encoding import encode_lines
from ingestion.errors import IngestionError, PartTaken, RecordRejected, RetryLater, RunFailed
from ingestion.feeds import Plan, RejectLimit
from ingestion.loaders import Difference
from ingestion.models import Part, Run, State, Trigger
from ingestion.prefetch import END, Prefetcher
from ingestion.streams import StringIteratorIO
from ingestion.types import Counts, Page, Rejection, Row

log = structlog.get_logger(__name__)

# How long one wait for a page lasts before the part's lease is renewed; well below runs.LEASE.
RENEW_SECONDS: Final = 5.0
# A dry run shows this many of the rows it would write.
DIFF_ROWS: Final = 20
# A small page that is rejected whole proves nothing about the feed.
WHOLE_PAGE_RECORDS: Final = 10


def advance(part_id: int, *, slice_seconds: float) -> State:
    """Claim a part and advance it until it ends or the slice's time is over; return where the part then is.

    Raises:
        PartTaken: somebody else advances the part; nothing was done, or what was done was rolled back.
    """
    return advance_claimed(runs.claim(part_id), slice_seconds=slice_seconds)


def advance_claimed(
    part: Part,
    *,
    slice_seconds: float | None = None,
    patient: bool = True,
    limit: int | None = None,
    differences: list[Difference] | None = None,
) -> State:
    """Advance a part that this process has claimed.

    Args:
        slice_seconds: give the part back at the first chunk boundary after this long; None goes on to the end.
        patient: let the part wait for another attempt after a transient failure; otherwise it fails.
        limit: stop after this many records.
        differences: filled with the first DIFF_ROWS rows that are written.

    Raises:
        PartTaken: somebody else took the part over; the open chunk was rolled back.
    """
    structlog.contextvars.bind_contextvars(feed=part.run.feed.name, run=part.run_id, part=part.number)
    try:
        return _advance(part, slice_seconds, limit, differences)
    except PartTaken:
        raise
    except RetryLater as error:
        return _postpone(part, error, patient)
    except IngestionError as error:
        log.warning("run failed", error=str(error))
        runs.end(part, State.FAILED, error=str(error))
        return State.FAILED
    except DatabaseError as error:
        return _after_database_error(part, error, patient)
    except Exception as error:
        log.exception("unexpected failure")
        return _postpone(part, RetryLater(f"{type(error).__name__}: {error}"), patient)
    finally:
        structlog.contextvars.clear_contextvars()


def _advance(part: Part, slice_seconds: float | None, limit: int | None, differences: list[Difference] | None) -> State:
    feed = feeds.get(part.run.feed.name)
    if part.attempts > feed.attempts:
        raise RunFailed(
            "no_progress", f"{part.attempts - 1} attempts ended without a trace: the process was killed each time"
        )
    plan = feeds.resolve(feed)
    clean = compile_columns(plan.columns)
    ends_at = time.monotonic() + slice_seconds if slice_seconds is not None else float("inf")
    source = feed.source.pages(part.cursor)
    pages = source if limit is None else _first_records(source, limit)
    with Prefetcher(pages, max_bytes=feed.chunk_bytes // 2) as ahead:
        while page := _next_page(ahead, part):
            chunk = Chunk(plan=plan, clean=clean, first=page, ahead=ahead)
            _load(chunk, part, differences)
            if chunk.last.following is None:
                return State.SUCCEEDED
            if time.monotonic() >= ends_at:
                runs.release(part)
                return State.QUEUED
    # The source had nothing at all, not even an empty page.
    runs.end(part, State.SUCCEEDED)
    return State.SUCCEEDED


def _next_page(ahead: Prefetcher, part: Part) -> Page | None:
    """Wait for the next page outside any transaction, keeping the lease; None after the last."""
    while (page := ahead.take(timeout_seconds=RENEW_SECONDS)) is None:
        runs.renew(part)
    return None if page is END else page  # type: ignore[return-value]  # END is the only other value


def _first_records(pages: Iterator[Page], limit: int) -> Iterator[Page]:
    """Yield pages up to `limit` records, the last one cut and marked as the end."""
    left = limit
    for page in pages:
        left -= len(page.records)
        if left > 0:
            yield page
            continue
        kept = page.records[: len(page.records) + left]
        yield Page(number=page.number, records=kept, size_bytes=page.size_bytes, following=None)
        return


@dataclass(kw_only=True)
class Chunk:
    """Consecutive pages committed together: the first one, and those that are ready while it is being loaded.

    Never waits for the network: it is read inside a transaction.
    """

    plan: Plan
    clean: CleanRecord
    first: Page
    ahead: Prefetcher
    counts: Counts = field(default_factory=Counts)
    rejections: list[Rejection] = field(default_factory=list)
    rows_yielded: int = 0
    size_bytes: int = 0

    def __post_init__(self) -> None:
        self.last = self.first

    def lines(self) -> Iterator[str]:
        """Yield one COPY line per good record; collects the others in `rejections`."""
        return encode_lines(self._rows(), self.plan.kinds)

    def _rows(self) -> Iterator[Row]:
        clean = self.clean
        for page in self._pages():
            rejected_before = len(self.rejections)
            for position, raw in enumerate(page.records):
                try:
                    row = clean(raw)
                except RecordRejected as rejection:
                    self.rejections.append(self._rejection(rejection, page, position))
                else:
                    self.rows_yielded += 1
                    yield row
            self._check_page(page, len(self.rejections) - rejected_before)

    def _pages(self) -> Iterator[Page]:
        page: Page | None = self.first
        while page is not None:
            self.last = page
            self.counts.pages += 1
            self.counts.read += len(page.records)
            self.size_bytes += page.size_bytes
            yield page
            page = None if self._is_full() or self.last.following is None else self.ahead.take_ready()

    def _is_full(self) -> bool:
        feed = self.plan.feed
        return self.counts.read >= feed.chunk_rows or self.size_bytes >= feed.chunk_bytes

    def _rejection(self, rejected: RecordRejected, page: Page, position: int) -> Rejection:
        raw = page.records[position]
        return Rejection(
            reason=rejected.reason,
            field=rejected.field,
            detail=rejected.detail,
            page=page.number,
            position=position,
            key=key_text(raw, self.plan.columns),
            raw=bytes(raw),
        )

    def _check_page(self, page: Page, rejected: int) -> None:
        if rejected == len(page.records) and rejected >= WHOLE_PAGE_RECORDS:
            raise RunFailed(
                "reject_limit",
                f"all {rejected} records of page {page.number} were rejected: {_reasons(self.rejections)}",
            )


def _load(chunk: Chunk, part: Part, differences: list[Difference] | None) -> None:
    """Load one chunk and commit it with its cursor, counters and rejects; end the part with its last chunk."""
    plan = chunk.plan
    sample_size = DIFF_ROWS - len(differences) if differences is not None else 0
    with transaction.atomic(using=plan.using), connections[plan.using].cursor() as cursor:
        loaders.set_timeouts(cursor)
        loaded = loaders.upsert(cursor, plan.table, StringIteratorIO(chunk.lines()), sample_size=sample_size)
        if loaded.stored != chunk.rows_yielded:
            raise RunFailed(
                "copy_mismatch", f"COPY stored {loaded.stored} rows of {chunk.rows_yielded}; nothing was committed"
            )
        counts = chunk.counts
        counts.inserted, counts.updated = loaded.inserted, loaded.updated
        counts.unchanged, counts.duplicates = loaded.unchanged, loaded.duplicates
        counts.rejected = len(chunk.rejections)
        run = runs.commit(part, cursor=chunk.last.following, counts=counts, rejections=chunk.rejections)
        _check_reject_limit(run, plan.feed.reject_limit, chunk.rejections)
        if chunk.last.following is None:
            runs.end(part, State.SUCCEEDED)
        if differences is not None:
            differences.extend(loaded.sample)
    log.debug("chunk committed", pages=counts.pages, read=counts.read, written=counts.inserted + counts.updated)


def _check_reject_limit(run: Run, limit: RejectLimit, rejections: list[Rejection]) -> None:
    if run.rejected > limit.records and run.rejected > limit.share * run.read:
        raise RunFailed(
            "reject_limit",
            f"{run.rejected} of {run.read} records were rejected; in the last chunk: {_reasons(rejections)}",
        )


def _reasons(rejections: list[Rejection]) -> str:
    """Summarise rejects for a message: the commonest reasons, and where the first one is."""
    common = Counter(f"{r.reason} in {r.field}" if r.field else r.reason for r in rejections).most_common(3)
    first = rejections[0]
    counted = ", ".join(f"{count} × {reason}" for reason, count in common)
    return f"{counted}; the first is record {first.position} of page {first.page}: {first.detail}"


def _postpone(part: Part, error: RetryLater, patient: bool) -> State:
    log.warning("attempt failed", error=str(error))
    if not patient:
        runs.end(part, State.FAILED, error=str(error))
        return State.FAILED
    return runs.retry_later(part, reason=str(error), wait=error.wait, limit=feeds.get(part.run.feed.name).attempts)


def _after_database_error(part: Part, error: DatabaseError, patient: bool) -> State:
    """Fail on what a retry would meet again (bad data, constraints, missing columns); wait out the rest."""
    cause = error.__cause__
    sqlstate = getattr(cause, "pgcode", None) or ""
    message = f"database error {sqlstate or type(error).__name__}: {_database_message(error)}"
    # The classes of https://www.postgresql.org/docs/current/errcodes-appendix.html: data, integrity, syntax or access.
    if sqlstate[:2] in ("22", "23", "42"):
        log.warning("run failed", error=message)
        runs.end(part, State.FAILED, error=message)
        return State.FAILED
    return _postpone(part, RetryLater(message), patient)


def _database_message(error: DatabaseError) -> str:
    diagnostics = getattr(error.__cause__, "diag", None)
    if diagnostics is None or diagnostics.message_primary is None:
        return str(error).strip()[:300]
    context = f" ({diagnostics.context.splitlines()[0][:200]})" if diagnostics.context else ""
    return f"{diagnostics.message_primary}{context}"


@dataclass(frozen=True, kw_only=True)
class Report:
    """How a run in the foreground ended: its summary, and for a dry run what it would have changed."""

    summary: dict[str, Any]
    differences: tuple[Difference, ...] = ()


def run_here(name: str, *, limit: int | None = None, dry_run: bool = False) -> Report:
    """Sync a feed in this process from start to end; an active run that nobody advances is finished instead.

    A transient failure ends the run as failed: whoever started it is there to start it again. A dry run keeps one
    transaction open to the end and rolls everything back, the run itself included.

    Raises:
        AlreadyRunning: somebody else advances the feed's active run.
        ConfigurationError: there is no such feed.
    """
    if not dry_run:
        part = runs.request_and_claim(name, trigger=Trigger.COMMAND, by=getpass.getuser())
        try:
            advance_claimed(part, patient=False, limit=limit)
        except KeyboardInterrupt:
            runs.end(part, State.CANCELLED, error="interrupted")
        return Report(summary=_summary(part))
    with transaction.atomic():
        part = runs.request_and_claim(name, trigger=Trigger.COMMAND, by=getpass.getuser())
        differences: list[Difference] = []
        advance_claimed(part, patient=False, limit=limit, differences=differences)
        report = Report(summary=_summary(part) | {"run": None, "dry_run": True}, differences=tuple(differences))
        transaction.set_rollback(True)
    return report


def _summary(part: Part) -> dict[str, Any]:
    return Run.objects.select_related("feed").get(pk=part.run_id).summary()
