"""Chunks: consecutive pages, loaded and committed together, exactly once."""

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

import structlog
from django.db import DatabaseError, InterfaceError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ingestion import (
    attempts,
    endings,
    ledger,
    loaders,
    remembering,
    sightings,
    skipping,
    sqlstates,
    tracing,
    watermarks,
)
from ingestion.collecting import Chunk
from ingestion.errors import RetryLater, RunFailed
from ingestion.feeds import Plan
from ingestion.loaders import Difference, Loaded, Wanted
from ingestion.models import ENDED, Part, Run, State
from ingestion.preparation import Prepared
from ingestion.signals import chunk_committed
from ingestion.skipping import Recollection
from ingestion.transactions import brief
from ingestion.types import Counts, Rejection
from ingestion.writing import Writer, check_reject_limit

log = structlog.get_logger(__name__)

# Tries of one chunk against a database that says "not now", before its part waits for another attempt.
TRIES: Final = 4
WAIT: Final = timedelta(seconds=0.25)
# A dry run shows this many of the rows it would write.
DIFF_ROWS: Final = 20


def load(
    chunk: Chunk,
    part: Part,
    plan: Plan,
    differences: list[Difference] | None = None,
    memory: Recollection | None = None,
) -> State:
    """Load a chunk and commit it with its cursor, counters and rejects, exactly once; end the part with its last chunk.

    Joins a caller's transaction, which then decides; otherwise it owns one, and tries again when the database says
    "not now". A COMMIT whose reply was lost is settled by reading the cursor back. Returns where the part then is.

    Args:
        differences: filled with the first DIFF_ROWS rows that are written.
        memory: remembers the chunk's pages.

    Raises:
        RetryLater: the database kept saying "not now".
        RunFailed: too many records were rejected, or COPY did not store what it was given.
        PartTaken: somebody else took the part over; nothing was committed.
        django.db.DatabaseError: the database refused for good, and not because of a record.
    """
    using = plan.using
    committed: _Committed | None = None
    failure: DatabaseError | InterfaceError | None = None
    joins = connections[using].in_atomic_block
    for turn in range(TRIES):
        try:
            # Never again before it is known that the last try left nothing.
            if failure is None or not _is_committed(chunk, part, connections[using]):
                with transaction.atomic(using=using), connections[using].cursor() as cursor:
                    # A caller's transaction may be a dry run's, which stays open while pages are fetched.
                    name = attempts.session_name(part)
                    loaders.prepare_transaction(cursor, waits_for_network=joins, is_durable=joins, name=name)
                    committed = _load(chunk, part, plan, differences, memory)
            break
        except (DatabaseError, InterfaceError) as error:
            if connections[using].in_atomic_block or not sqlstates.is_transient(error):
                raise
            log.warning("database said not now", error=sqlstates.message(error), turn=turn + 1)
            failure = error
            if sqlstates.sqlstate(error) == sqlstates.READ_ONLY:
                connections[using].close()
            time.sleep(WAIT.total_seconds() * 2**turn * random.uniform(0.5, 1))  # noqa: S311 - jitter, not a secret
    else:
        raise RetryLater(sqlstates.message(failure)) from failure  # type: ignore[arg-type]  # every turn had one
    assert committed is not None
    part.cursor = chunk.following
    return _announce(committed, part, plan)


def load_nothing(part: Part, plan: Plan, memory: Recollection | None = None) -> State:
    """End a part whose source had nothing at all, not even an empty page.

    Raises as `load` does.
    """
    nothing = Prepared(number=0, records=(), received_bytes=0, following=None)
    return load(Chunk(pages=[nothing]), part, plan, memory=memory)


def _is_committed(chunk: Chunk, part: Part, connection: BaseDatabaseWrapper) -> bool:
    """Read back whether the chunk was committed after all; keeps the part for another try when it was not.

    Raises:
        PartTaken: somebody else took the part over.
        django.db.OperationalError: still not now.
    """
    connection.close_if_unusable_or_obsolete()
    with brief():
        # The lock waits for a server that has received COMMIT and is not done with it.
        locked = Part.objects.select_for_update(no_key=True).order_by().filter(pk=part.pk, epoch=part.epoch)
        found = locked.values_list("cursor", "state").first()
        if found is not None and found[0] == chunk.following and (found[1] in ENDED) == (chunk.following is None):
            log.info("the reply to COMMIT was lost, the commit was not")
            return True
        # The connection may have broken unheard by the server, which would keep what the chunk has locked.
        attempts.end_sessions([part])
        attempts.renew(part)
    return False


@dataclass(frozen=True, kw_only=True, slots=True)
class _Committed:
    """What a chunk has done, once its transaction is committed."""

    state: State
    counts: Counts
    inserted: tuple[Any, ...] = ()
    updated: tuple[Any, ...] = ()
    deleted: tuple[Any, ...] = ()


def _load(
    chunk: Chunk, part: Part, plan: Plan, differences: list[Difference] | None, memory: Recollection | None
) -> _Committed:
    wanted = Wanted(
        sample_size=DIFF_ROWS - len(differences) if differences is not None else 0,
        keys=chunk_committed.has_listeners(plan.feed.target.model),
    )
    with connections[plan.using].cursor() as cursor:
        endings.open_tables(cursor, part, plan)
        writer = Writer(cursor=cursor, plan=plan, tables=endings.tables_of(part), wanted=wanted)
        # Pages that are skipped have nothing to write, and a merge of nothing is not free.
        loaded, refused = writer.write(chunk) if chunk.loading else (Loaded(), [])
        rejections = chunk.rejections + refused
        endings.note_rejected(cursor, part, plan, chunk.pages, rejections)
        counts = _counts(chunk, loaded, rejections, writer.coercions)
        ending = endings.Ending(state=State.RUNNING)
        if chunk.following is None:
            loaders.make_durable(cursor)
            ending = endings.finish(cursor, part, plan, counts, wanted)
            loaded += ending.finished
            counts = _counts(chunk, loaded, rejections, writer.coercions)
        if memory is not None:
            skipping.note(cursor, memory, chunk.pages, loaded, rejections)
            if ending.state == State.SUCCEEDED:
                skipping.keep(cursor, part, plan, memory, counts)
    keys = chunk.keys if plan.table.key else ()
    highest = watermarks.highest(part, plan.feed, chunk.pages, refused)
    run = ledger.commit(part, cursor=chunk.following, counts=counts, rejections=rejections, keys=keys, highest=highest)
    tracing.keep(part.run_id, is_last=chunk.following is None)
    if files := chunk.files:
        remembering.remember(part, files)
    check_reject_limit(run, plan.feed.reject_limit, rejections)
    if part.share:
        _check_pages(run, plan)
    sightings.note(part, plan.feed, chunk.shape)
    if chunk.following is None:
        if run.reads_everything and ending.state == State.SUCCEEDED:
            _conclude(run, part, plan, memory)
        attempts.end(part, ending.state, error=ending.error)
    if differences is not None:
        differences.extend(loaded.sample)
    log.debug("chunk loaded", pages=counts.pages, read=counts.read, written=counts.inserted + counts.updated)
    return _Committed(
        state=ending.state,
        counts=counts,
        inserted=loaded.inserted_keys,
        updated=loaded.updated_keys,
        deleted=loaded.deleted_keys,
    )


def _conclude(run: Run, part: Part, plan: Plan, memory: Recollection | None) -> None:
    """Note what is known only when a run has read its source to the end; joins the last chunk's transaction.

    Raises:
        RunFailed: `drift`, `watermark`.
    """
    watermarks.conclude(run, part, plan.feed)
    # What a run did not ask for has not vanished.
    if run.starts_over:
        if memory is not None and memory.has_skipped(run):
            sightings.note(part, plan.feed, memory.shape)
        sightings.conclude(part, plan.feed)


def _check_pages(run: Run, plan: Plan) -> None:
    """Hold the source's limit of pages, which it counts in each part, over the whole run.

    Raises:
        RunFailed: `too_many_pages`.
    """
    most = getattr(plan.feed.source, "max_pages", None)
    if most is not None and run.pages > most:
        raise RunFailed("too_many_pages", f"{run.pages} pages in all parts, of at most {most}")


def _counts(chunk: Chunk, loaded: Loaded, rejections: Sequence[Rejection], coercions: Counter[str]) -> Counts:
    return Counts(
        pages=sum(page.number > 0 for page in chunk.pages),
        pages_skipped=sum(page.unchanged is not None for page in chunk.pages),
        read=chunk.read,
        inserted=loaded.inserted,
        updated=loaded.updated,
        unchanged=loaded.unchanged + sum(page.read for page in chunk.pages if page.unchanged is not None),
        deleted=loaded.deleted,
        duplicates=loaded.duplicates,
        rejected=len(rejections),
        skipped=chunk.skipped,
        coercions=chunk.coercions + coercions,
        warnings=chunk.warnings,
    )


def _announce(committed: _Committed, part: Part, plan: Plan) -> State:
    """Tell the application what was committed, now or when the caller's transaction is; return the part's state."""
    model = plan.feed.target.model
    if chunk_committed.has_listeners(model):
        send = partial(
            chunk_committed.send_robust,
            sender=model,
            feed=plan.feed.name,
            run=part.run_id,
            inserted=committed.inserted,
            updated=committed.updated,
            deleted=committed.deleted,
            counts=committed.counts,
        )
        # Receivers' exceptions are logged by Django; the chunk is committed whatever they do.
        transaction.on_commit(send, using=plan.using)
    if committed.state == State.FAILED:
        log.warning("run failed", error=Run.objects.get(pk=part.run_id).error)
    return committed.state
