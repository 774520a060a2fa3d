"""What a part reads: the pages of its share of the source, after the run was divided into parts."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

import structlog
from django.utils import timezone

from ingestion import division, hosts, remembering, skipping, turns, waking, watermarks
from ingestion.allowances import Allowance
from ingestion.errors import RunFailed
from ingestion.feeds import Feed, Plan
from ingestion.gauging import Mark
from ingestion.models import Part, Trigger
from ingestion.parts import Periods
from ingestion.skipping import Recollection
from ingestion.sources import ConcurrentSource, SkippingSource, Source
from ingestion.types import Cursor, Page, Share

log = structlog.get_logger(__name__)


def pages(part: Part, plan: Plan, *, wake: bool, remembers: bool) -> tuple[Iterator[Page], Recollection | None]:
    """Return the pages of the part's share that are not yet committed, the run being divided first.

    Beside them what an earlier run remembers of them, for feeds that skip unchanged pages.

    Args:
        wake: ask workers to advance the other parts.
        remembers: whether what is read is worth remembering; with a limit it is no complete picture, and never is.

    Raises:
        RetryLater, RunFailed: as dividing asks the remote.
        PartTaken: somebody else took the part over.
    """
    source, run = _source(part, plan.feed, wake=wake), part.run
    if run.limit is None:
        # A backfill reads other windows than the feed's runs, maybe beside one of them.
        remembers = remembers and run.trigger != Trigger.BACKFILL
        memory = skipping.recollect(part, plan, source) if remembers else None
        return _all_pages(source, part.cursor, memory, plan.feed), memory
    left = run.limit - run.read - run.skipped
    if left > 0 and source is not None:
        return _first_records(source.pages(part.cursor), left), None
    if source is not None:
        turns.end_unread(part)
    return iter(()), None


def _all_pages(source: Source | None, cursor: Cursor | None, memory: Recollection | None, feed: Feed) -> Iterator[Page]:
    if source is None:
        return iter(())
    skips = memory is not None and isinstance(source, SkippingSource)
    if isinstance(source, ConcurrentSource) and source.concurrency > 1:
        return source.pages_at_once(
            cursor,
            memory.recall if memory is not None and skips else None,
            at_once=hosts.at_once(feed.source),
            max_bytes=Allowance.of(feed).held_bytes,
        )
    if memory is None or not isinstance(source, SkippingSource):
        return source.pages(cursor)
    return source.changed_pages(cursor, memory.recall, memory.foresee)


def _source(part: Part, feed: Feed, *, wake: bool) -> Source | None:
    """Return the feed's source reduced to the part's share; None when there is nothing to read."""
    start = watermarks.begin(part, feed)
    if part.share is None and not _divide(part, feed, start, wake=wake):
        return None
    source = _asked(feed.source, feed, start)
    if part.share:
        if feed.parts is None:
            raise RunFailed("share", "it is a part, and the feed has none now; start another run")
        source = feed.parts.bind(source, part.share)
    return remembering.informed(source, feed, part, frees_worker=wake)


def _asked(source: Source, feed: Feed, start: Mark | None) -> Source:
    return source if feed.incremental is None else feed.incremental.asked(source, start)


def _divide(part: Part, feed: Feed, start: Mark | None, *, wake: bool) -> bool:
    """Divide the part's run as the feed says; False when that leaves nothing to read."""
    # A run that began before its feed lost its parts has to be divided all the same.
    shares = _shares(part, feed, start) if feed.parts else [{}]
    division.check(len(shares))
    if not shares:
        return False
    # One by one, when there is a number of records after which to stop.
    due = turns.divide(part, shares, at_once=1 if part.run.limit else feed.parts_at_once)
    log.info("divided", parts=len(shares))
    if wake:
        waking.wake(due)
    return True


def _shares(part: Part, feed: Feed, start: Mark | None) -> Sequence[Share]:
    parts = feed.parts
    assert parts is not None, "whoever calls this has looked"
    if isinstance(parts, Periods) and isinstance(start, datetime):
        parts = parts.beginning(start)
    source = remembering.informed(_asked(feed.source, feed, start), feed, part)
    return parts.plan(source, now=timezone.now())


def _first_records(pages: Iterator[Page], limit: int) -> Iterator[Page]:
    """Yield pages up to `limit` records, the last one cut and marked as the end."""
    left = limit
    for page in pages:
        left -= len(page.records)
        if left > 0:
            yield page
            continue
        kept = page.records[: len(page.records) + left]
        yield replace(page, records=kept, following=None, file=None)
        return
