"""Chunks: consecutive pages, loaded and committed together, exactly once."""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

import structlog
from django.db import DatabaseError, InterfaceError, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ingestion import loaders, runs, sqlstates
from ingestion.errors import RecordRejected, RetryLater, RunFailed
from ingestion.feeds import Plan, RejectLimit
from ingestion.loaders import Difference, Loaded
from ingestion.models import Part, Run, State
from ingestion.prefetch import Prefetcher
from ingestion.preparation import Prepared, reject
from ingestion.streams import StringIteratorIO
from ingestion.types import Counts, Cursor, Rejection

log = structlog.get_logger(__name__)

# Tries of one chunk against a database that says "not now", before its part waits for another attempt.
TRIES: Final = 4
WAIT: Final = timedelta(seconds=0.25)
# A dry run shows this many of the rows it would write.
DIFF_ROWS: Final = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line of a chunk and where it came from."""

    text: str
    key: Any
    page: Prepared
    position: int


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Consecutive pages. Everything in it is ready: loading it waits for no network."""

    pages: list[Prepared]

    @property
    def following(self) -> Cursor | None:
        return self.pages[-1].following

    @property
    def keys(self) -> list[Any]:
        return [key for page in self.pages for key in page.keys]

    @property
    def rejections(self) -> list[Rejection]:
        return [rejection for page in self.pages for rejection in page.rejections]

    @property
    def read(self) -> int:
        return sum(page.read for page in self.pages)

    @property
    def skipped(self) -> int:
        return sum(page.skipped for page in self.pages)

    @property
    def coercions(self) -> Counter[str]:
        return sum((page.coercions for page in self.pages), start=Counter())

    def stream(self) -> StringIteratorIO:
        """Return the chunk's lines as a new stream."""
        return StringIteratorIO(text for page in self.pages for text in page.lines)

    def latest_lines(self) -> list[Line]:
        """Return the chunk line by line, of each key the last one."""
        latest: dict[Any, Line] = {}
        for page in self.pages:
            # Not splitlines: values may hold characters that it takes for line ends, but COPY does not.
            texts = "".join(page.lines).split("\n")[:-1]
            for text, key, position in zip(texts, page.keys, page.positions, strict=True):
                latest.pop(key, None)
                latest[key] = Line(text=f"{text}\n", key=key, page=page, position=position)
        return list(latest.values())


def collect(first: Prepared, ahead: Prefetcher[Prepared], plan: Plan) -> Chunk:
    """Take the first page and those that are ready behind it, up to the feed's limits."""
    pages = [first]
    records, size_bytes = len(first.records), first.received_bytes
    while records < plan.feed.chunk_rows and size_bytes < plan.feed.chunk_bytes and pages[-1].following is not None:
        page = ahead.take_ready()
        if page is None:
            break
        pages.append(page)
        records += len(page.records)
        size_bytes += page.received_bytes
    return Chunk(pages=pages)


def load(chunk: Chunk, part: Part, plan: Plan, differences: list[Difference] | None = None) -> None:
    """Load a chunk and commit it with its cursor, counters and rejects, exactly once; end the part with its last chunk.

    Joins a caller's transaction, which then decides; otherwise it owns one, and tries again when the database says
    "not now". A COMMIT whose reply was lost is settled by reading the cursor back.

    Args:
        differences: filled with the first DIFF_ROWS rows that are written.

    Raises:
        RetryLater: the database kept saying "not now".
        RunFailed: too many records were rejected, or COPY did not store what it was given.
        PartTaken: somebody else took the part over; nothing was committed.
        django.db.DatabaseError: the database refused for good, and not because of a record.
    """
    connection = connections[plan.using]
    for turn in range(TRIES):
        try:
            with transaction.atomic(using=plan.using):
                _load(chunk, part, plan, differences)
        except (DatabaseError, InterfaceError) as error:
            if connection.in_atomic_block or not sqlstates.is_transient(error):
                raise
            log.warning("database said not now", error=sqlstates.message(error), turn=turn + 1)
            failure = error
        else:
            return
        time.sleep(WAIT.total_seconds() * 2**turn * random.uniform(0.5, 1))  # noqa: S311 - jitter, not a secret
        if _is_committed(chunk, part, connection):
            return
    raise RetryLater(sqlstates.message(failure)) from failure


def _is_committed(chunk: Chunk, part: Part, connection: BaseDatabaseWrapper) -> bool:
    """Read back whether the chunk was committed after all; keeps the part for another try when it was not."""
    connection.close_if_unusable_or_obsolete()
    try:
        found = Part.objects.filter(pk=part.pk, epoch=part.epoch).values_list("cursor", "state").first()
        if found == (chunk.following, State.SUCCEEDED if chunk.following is None else State.RUNNING):
            log.info("the reply to COMMIT was lost, the commit was not")
            return True
        runs.renew(part)
    except (OperationalError, InterfaceError):
        pass  # still not now: the next turn tells
    return False


def _load(chunk: Chunk, part: Part, plan: Plan, differences: list[Difference] | None) -> None:
    rejections = chunk.rejections
    with connections[plan.using].cursor() as cursor:
        loaders.prepare_transaction(cursor)
        sample_size = DIFF_ROWS - len(differences) if differences is not None else 0
        try:
            with transaction.atomic(using=plan.using):
                loaded = _upsert(cursor, plan, chunk.stream, chunk.keys, sample_size)
        except DatabaseError as error:
            if not sqlstates.is_about_a_record(error):
                raise
            loaded, refused = _load_what_is_accepted(cursor, plan, chunk)
            rejections = rejections + refused
    counts = Counts(
        pages=len(chunk.pages),
        read=chunk.read,
        inserted=loaded.inserted,
        updated=loaded.updated,
        unchanged=loaded.unchanged,
        duplicates=loaded.duplicates,
        rejected=len(rejections),
        skipped=chunk.skipped,
        coercions=chunk.coercions,
    )
    run = runs.commit(part, cursor=chunk.following, counts=counts, rejections=rejections)
    check_reject_limit(run, plan.feed.reject_limit, rejections)
    if chunk.following is None:
        runs.end(part, State.SUCCEEDED)
    if differences is not None:
        differences.extend(loaded.sample)
    log.debug("chunk loaded", pages=counts.pages, read=counts.read, written=counts.inserted + counts.updated)


def _upsert(
    cursor: Any, plan: Plan, open_stream: Callable[[], StringIteratorIO], keys: Sequence[Any], sample_size: int = 0
) -> Loaded:
    loaded = loaders.upsert(cursor, plan.table, open_stream, keys, sample_size=sample_size)
    if loaded.stored != len(keys):
        raise RunFailed("copy_mismatch", f"COPY stored {loaded.stored} rows of {len(keys)}; nothing was committed")
    loaders.check_constraints(cursor)
    return loaded


def _load_what_is_accepted(cursor: Any, plan: Plan, chunk: Chunk) -> tuple[Loaded, list[Rejection]]:
    """Find the records that the database refuses and load the others, all inside the open transaction."""
    lines = chunk.latest_lines()
    refused: list[Rejection] = []
    loaded = _halve(cursor, plan, lines, refused)
    return replace(loaded, duplicates=len(chunk.keys) - len(lines)), refused


def _halve(cursor: Any, plan: Plan, lines: list[Line], refused: list[Rejection]) -> Loaded:
    """Load the lines; where the database refuses, leave the line out that COPY names, else try halves."""
    if not lines:
        return Loaded(stored=0, inserted=0)
    try:
        with transaction.atomic(using=plan.using):
            texts = [line.text for line in lines]
            return _upsert(cursor, plan, lambda: StringIteratorIO(iter(texts)), [line.key for line in lines])
    except DatabaseError as error:
        if not sqlstates.is_about_a_record(error):
            raise
        number = 1 if len(lines) == 1 else sqlstates.copy_line(error)
        if number is None:
            half = len(lines) // 2
            return _halve(cursor, plan, lines[:half], refused) + _halve(cursor, plan, lines[half:], refused)
        refused.append(_refusal(lines[number - 1], error, plan))
        if len(refused) > plan.feed.reject_limit.records:
            many = f"the database refused more than {len(refused) - 1} records of one chunk"
            raise RunFailed("reject_limit", f"{many}: {reasons(refused)}") from error
    return _halve(cursor, plan, lines[: number - 1] + lines[number:], refused)


def _refusal(line: Line, error: DatabaseError, plan: Plan) -> Rejection:
    rejected = RecordRejected(sqlstates.reason(error), field=sqlstates.field(error), detail=sqlstates.message(error))
    return reject(
        rejected,
        page=line.page.number,
        position=line.position,
        raw=line.page.records[line.position],
        columns=plan.columns,
    )


def check_reject_limit(run: Run, limit: RejectLimit, rejections: list[Rejection]) -> None:
    """Refuse a run with more rejects than the feed allows.

    Raises:
        RunFailed: `reject_limit`, with the commonest reasons.
    """
    if run.rejected > limit.records and run.rejected > limit.share * run.read:
        raise RunFailed(
            "reject_limit",
            f"{run.rejected} of {run.read} records were rejected; in the last chunk: {reasons(rejections)}",
        )


def reasons(rejections: list[Rejection]) -> str:
    """Summarise rejects for a message: the commonest reasons, and where the first one is."""
    common = Counter(f"{r.reason} in {r.field}" if r.field else r.reason for r in rejections).most_common(3)
    first = rejections[0]
    counted = ", ".join(f"{count} × {reason}" for reason, count in common)
    return f"{counted}; the first is record {first.position} of page {first.page}: {first.detail}"
