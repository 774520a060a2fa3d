"""The job itself: pages → clean → encode → prefetch → chunk → StringIteratorIO → COPY → merge.

Reading this module is reading the job; the stages do not know each other.
"""

import getpass
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import structlog
from django.db import DatabaseError, InterfaceError, connection, transaction

from ingestion import attempts, breakers, chunks, claims, feeds, reading, sightings, sqlstates, stopping, tracing
from ingestion.allowances import Allowance
from ingestion.collecting import collect
from ingestion.drift import Change, Watch
from ingestion.errors import IngestionError, NotReady, PartTaken, RetryLater, RunFailed
from ingestion.feeds import Feed, Plan
from ingestion.gauging import Gauge
from ingestion.leases import Lease
from ingestion.loaders import Difference
from ingestion.models import ACTIVE, Part, Run, State, Trigger
from ingestion.prefetch import END, End, Prefetcher
from ingestion.preparation import MOST_REJECTS, Prepared, Preparer
from ingestion.remembering import tidy
from ingestion.skipping import Recollection
from ingestion.transactions import brief
from ingestion.types import Page
from ingestion.writing import reasons

log = structlog.get_logger(__name__)

# How long one wait for a page lasts before the slice looks whether it is to end.
LOOK_SECONDS: Final = 0.5
# A slice that took long to get to its first page lasts as long again: a compressed file is read from its beginning to
# where it goes on. With the way there it takes at most so many times its own length, or one chunk: with a minute that
# stays below the task's time limit.
STRETCH: Final = 8
# How often a run in the foreground looks for a part to advance, while others advance the last ones.
POLL_SECONDS: Final = 0.2
# How often a wait is written again to a database that does not take it.
WRITE_AGAIN_SECONDS: Final = 0.5
# A small page that is rejected whole proves nothing about the feed.
WHOLE_PAGE_RECORDS: Final = 10
OUT_OF_MEMORY: Final = (
    "a page or a chunk does not fit into the memory that this process may use; "
    "ask for smaller pages, or lower the feed's chunk_bytes"
)


def advance(part_id: int, *, slice_seconds: float) -> State:
    """Claim a part and advance it until it ends or the slice's time is over; return where the part then is.

    Raises:
        PartTaken: somebody else advances the part; nothing was done, or what was done was rolled back.
    """
    return advance_claimed(claims.claim(part_id), slice_seconds=slice_seconds)


def advance_claimed(
    part: Part,
    *,
    slice_seconds: float | None = None,
    patient: bool = True,
    differences: list[Difference] | None = None,
) -> State:
    """Advance a part that this process has claimed.

    Args:
        slice_seconds: give the part back at the first chunk boundary after this long from the slice's first page on,
            or when the worker is to stop; None goes on to the end.
        patient: let the part wait for another attempt after a transient failure; otherwise it fails. Wake workers for
            the parts that the run is divided into.
        differences: filled with the first chunks.DIFF_ROWS rows that are written.

    Raises:
        PartTaken: somebody else took the part over; the open chunk was rolled back.
    """
    structlog.contextvars.bind_contextvars(feed=part.run.feed.name, run=part.run_id, part=part.number)
    try:
        with Lease(part) as lease, tracing.of(part):
            return _advance(part, lease, slice_seconds, differences, wake=patient)
    except PartTaken:
        raise
    except RetryLater as error:
        return _postpone(part, error, patient)
    except IngestionError as error:
        return _fail(part, str(error), error.drift if isinstance(error, RunFailed) else ())
    except (DatabaseError, InterfaceError) as error:
        message = sqlstates.message(error)
        is_transient = sqlstates.is_transient(error)
        return _postpone(part, RetryLater(message), patient) if is_transient else _fail(part, message)
    except MemoryError:
        # Again it would be the same page, and the same end.
        return _fail(part, str(RunFailed("out_of_memory", OUT_OF_MEMORY)))
    except Exception as error:
        log.exception("unexpected failure")
        return _postpone(part, RetryLater(f"{type(error).__name__}: {error}"), patient)
    finally:
        structlog.contextvars.clear_contextvars()


def _advance(
    part: Part, lease: Lease, slice_seconds: float | None, differences: list[Difference] | None, *, wake: bool
) -> State:
    feed = feeds.get(part.run.feed.name)
    if part.attempts > feed.attempts:
        raise RunFailed(
            "no_progress", f"{part.attempts - 1} attempts ended without a trace: the process was killed each time"
        )
    plan = feeds.resolve(feed)
    started_at, ends_at = time.monotonic(), 0.0
    # Until its first chunk nobody knows that the host answers. A dry run would lock the host for all others.
    unheard = part.run.host if differences is None else ""
    # What a dry run has read is rolled back with it.
    pages, memory = reading.pages(part, plan, wake=wake, remembers=differences is None)
    watch, is_strict = sightings.watch(part, feed), sightings.is_strict(part, feed)
    prepared = _prepared(tracing.placed(pages), plan, watch, memory, is_strict=is_strict)
    with sightings.explaining(watch), Prefetcher(prepared, Allowance.of(feed)) as ahead:
        while isinstance(page := _next_page(ahead, lease), Prepared):
            ends_at = ends_at or _end(slice_seconds, started_at)
            chunk = collect(page, ahead, plan, memory)
            state = chunks.load(chunk, part, plan, differences, memory)
            ahead.release()
            breakers.note_success(unheard)
            unheard = ""
            if chunk.following is None:
                return _tidied(part, feed, state)
            if time.monotonic() >= ends_at or stopping.is_requested():
                break
        if page is END:
            # The source had nothing at all, not even an empty page.
            state = chunks.load_nothing(part, plan, memory)
            breakers.note_success(unheard)
            return _tidied(part, feed, state)
    attempts.release(part)
    return State.QUEUED


def _end(slice_seconds: float | None, started_at: float) -> float:
    """Return when a slice is to end whose first page has just come."""
    if slice_seconds is None:
        return float("inf")
    now = time.monotonic()
    return min(now + max(slice_seconds, now - started_at), started_at + STRETCH * slice_seconds)


def _tidied(part: Part, feed: Feed, state: State) -> State:
    if state == State.SUCCEEDED:
        # A dry run's transaction is rolled back, and then nothing is cleared away either.
        transaction.on_commit(partial(tidy, feed, part))
    return state


def _prepared(
    pages: Iterator[Page], plan: Plan, watch: Watch, memory: Recollection | None, *, is_strict: bool
) -> Iterator[Prepared]:
    """Clean and encode each page as it arrives; holds one page. Runs in the prefetcher's thread, while COPY waits."""
    most_rejects = max(MOST_REJECTS, plan.feed.reject_limit.records)
    prepare = Preparer(plan.columns, plan.feed.rules, watch, most_rejects=most_rejects)
    gauge = plan.feed.incremental.gauge() if plan.feed.incremental else None
    for page in pages:
        prepared = prepare(page) if gauge is None else _gauged(page, gauge, prepare)
        if is_strict and watch.found:
            raise sightings.failure(watch.found)
        rejected = len(prepared.rejections)
        if rejected == prepared.read and rejected >= WHOLE_PAGE_RECORDS:
            why = reasons(prepared.rejections)
            raise RunFailed("reject_limit", f"all {rejected} records of page {page.number} were rejected: {why}")
        if memory is not None and memory.known:
            memory.await_loading(prepared)
        yield prepared


def _gauged(page: Page, gauge: Gauge, prepare: Preparer) -> Prepared:
    """Prepare a page with the highest watermark of its good records; those without one are counted."""
    page, marks = gauge.judge(page)
    prepared = prepare(page)
    prepared.highest = marks.highest({rejection.position for rejection in prepared.rejections})
    if missing := len(set(marks.missing) - {rejection.position for rejection in prepared.rejections}):
        prepared.coercions[f"{gauge.name}:no_watermark"] += missing
    return prepared


def _next_page(ahead: Prefetcher[Prepared], lease: Lease) -> Prepared | End | None:
    """Wait for the next page outside any transaction; END after the last, None when the slice is to end before it."""
    while (page := ahead.take(timeout_seconds=LOOK_SECONDS)) is None:
        lease.check()
        if stopping.is_requested():
            return None
    return page


def _fail(part: Part, error: str, drift: Sequence[Change] = ()) -> State:
    log.warning("run failed", error=error)
    with brief():
        attempts.end(part, State.FAILED, error=error)
        sightings.record_failed(part, drift)
    return State.FAILED


def _postpone(part: Part, error: RetryLater, patient: bool) -> State:
    if isinstance(error, NotReady):
        log.info("waits for the remote", reason=str(error))
    else:
        log.warning("attempt failed", error=str(error))
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()
    if not patient:
        if not connection.in_atomic_block:
            attempts.blame_host(part, reason=str(error), blames=error.blames)
        return _fail(part, str(error))
    limit = feeds.get(part.run.feed.name).attempts
    given_up_at = time.monotonic() + attempts.LEASE.total_seconds()
    while True:
        try:
            return attempts.retry_later(part, reason=str(error), wait=error.wait, limit=limit, blames=error.blames)
        except (DatabaseError, InterfaceError) as refused:
            # Mostly the database that was the reason for the wait. Unwritten, the part would stay owned for a lease.
            if connection.in_atomic_block or not sqlstates.is_transient(refused) or time.monotonic() > given_up_at:
                raise
            connection.close()
            time.sleep(WRITE_AGAIN_SECONDS)


@dataclass(frozen=True, kw_only=True)
class Report:
    """How a run in the foreground ended: its summary, and for a dry run what it would have changed."""

    summary: dict[str, Any]
    differences: tuple[Difference, ...] = ()


def run_here(  # noqa: PLR0913 - the options of the command, by keyword
    name: str,
    *,
    limit: int | None = None,
    dry_run: bool = False,
    confirm_deletes: bool = False,
    accept_drift: bool = False,
    full: bool = False,
) -> Report:
    """Sync a feed in this process from start to end; an active run that nobody advances is finished instead.

    A transient failure ends the run as failed: whoever started it is there to start it again. When somebody cancels
    it, its report says so. A dry run keeps one transaction open to the end and rolls everything back, the run itself
    included.

    Args:
        confirm_deletes: let the run delete more than the feed allows.
        accept_drift: let the run go on where the feed lets drift fail it; what it sees is known from then on.
        full: load every page, unchanged or not, and from the start.

    Raises:
        AlreadyRunning: somebody else advances the feed's active run.
        PartTaken: somebody else took it over.
        ConfigurationError: there is no such feed.
    """
    if not dry_run:
        with brief():
            part = claims.request_and_claim(name, trigger=Trigger.COMMAND, by=getpass.getuser(), limit=limit)
            _allow(part.run, confirm_deletes=confirm_deletes, accept_drift=accept_drift, full=full)
        _advance_all(part)
        return Report(summary=_summary(part))
    with transaction.atomic():
        part = claims.rehearse(name, by=getpass.getuser(), limit=limit)
        _allow(part.run, confirm_deletes=confirm_deletes, accept_drift=accept_drift, full=full)
        differences: list[Difference] = []
        _advance_all(part, differences)
        report = Report(summary=_summary(part) | {"run": None, "dry_run": True}, differences=tuple(differences))
        transaction.set_rollback(True)
    return report


def _allow(run: Run, **permissions: bool) -> None:
    """Store with the run what somebody allows it, so that whoever takes it over knows; nothing is taken back."""
    given = [name for name, is_given in permissions.items() if is_given]
    for name in given:
        setattr(run, name, True)
    if given:
        run.save(update_fields=given)


def _advance_all(part: Part | None, differences: list[Difference] | None = None) -> None:
    """Advance one part of a run after the other, those that others advance excepted, until the run ends."""
    while part is not None:
        try:
            advance_claimed(part, patient=False, differences=differences)
        except KeyboardInterrupt:
            attempts.interrupt(part)
            return
        except PartTaken:
            if not Run.objects.filter(pk=part.run_id, state=State.CANCELLED).exists():
                raise
            return
        part = _next_part(part.run_id)


def _next_part(run_id: int) -> Part | None:
    """Claim the next part of a run, waiting for those that others advance; None when the run has ended."""
    while (part := claims.claim_next(run_id)) is None:
        if not Run.objects.filter(pk=run_id, state__in=ACTIVE).exists():
            return None
        time.sleep(POLL_SECONDS)
    return part


def _summary(part: Part) -> dict[str, Any]:
    return Run.objects.select_related("feed").get(pk=part.run_id).summary()
