"""What runs remember of their pages, so that the next one skips those that are unchanged. Optional per feed.

Note [Memory]: a run's memory is written with its chunks and counts from the moment it succeeds; then it takes the
place of the one before. A run may skip by the last memory that counts when the feed's definition is the same and the
table is as that run left it: nobody has changed a row since, not even a run that failed, had a limit, or was a replay.
This is looked at once, when the run begins, and holds for all its slices. What others change from then on is seen by
the next run, as it is when they change it right after a chunk was committed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import structlog
from django.db import connections, transaction

from ingestion import loaders
from ingestion.errors import ConfigurationError
from ingestion.feeds import Plan, definition_of
from ingestion.loaders import Imprint, Loaded
from ingestion.models import Memory, Part, RememberedPages, Run, State
from ingestion.preparation import Prepared
from ingestion.sources import SkippingSource, Source
from ingestion.types import Counts, Rejection
from ingestion.unchanged import NO_KEYS, Remembered, Span, joined, overlap, span_of

log = structlog.get_logger(__name__)

# Pages of one part that are remembered, at up to 650 bytes each in memory; those after them are always loaded.
PAGES: Final = 50_000

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(list[Remembered]).decode


@dataclass(kw_only=True)
class Recollection:
    """What the part that begins at `place` may skip, and the span of the rows that it has updated itself.

    See Note [Order of pages].

    `shape` is that of all records of the run that is remembered. `pending` are the spans of the pages that this
    process has read and not yet loaded.
    """

    run: int
    part: int
    definition: str
    place: str
    known: dict[int, Remembered]
    shape: dict[str, Any] | None = None
    changed: Span = NO_KEYS
    has_recalled: bool = False
    pending: dict[int, Span] = field(default_factory=dict)

    def recall(self, number: int, digest: bytes) -> Remembered | None:
        """Return what is remembered of a page that may be skipped. Called from the thread that fetches."""
        found = self.known.get(number)
        if found is None or found.digest != digest or overlap(self.changed, found.span):
            return None
        self.has_recalled = True
        return found

    def foresee(self, number: int) -> Remembered | None:
        """Return what is remembered of a page that may be skipped whatever becomes of the pages before it.

        Called from the thread that fetches, which has noted all of them. They are looked at in this order, as `note`
        adds to `changed` before it takes from `pending`.
        """
        found = self.known.get(number)
        spans = [*self.pending.values(), self.changed]
        return None if found is None or any(overlap(span, found.span) for span in spans) else found

    def await_loading(self, page: Prepared) -> None:
        """Note that a page was read, so that pages behind it are not foreseen that it may have rows of."""
        if page.unchanged is None:
            self.pending[page.number] = span_of(page.keys)
        elif page.reread is not None:
            self.pending[page.number] = page.unchanged.span
        else:
            self.has_recalled = True

    def has_skipped(self, run: Run) -> bool:
        """Whether there are records that the run has not looked at; what was known of them is in `shape`."""
        return self.has_recalled or run.pages_skipped > 0

    def still_holds(self, remembered: Remembered, before: Iterable[Prepared]) -> bool:
        """Whether an unchanged page may still be skipped behind those pages, which are not loaded yet."""
        changed = self.changed
        for other in before:
            if other.unchanged is None:
                changed = joined(changed, span_of(other.keys))
        return not overlap(changed, remembered.span)


def recollect(part: Part, plan: Plan, source: Source | None) -> Recollection | None:
    """Return what the part may skip; None for a feed that remembers nothing.

    With the run's first slice the table is read once, in a transaction of its own.

    Args:
        source: the feed's source reduced to the part's share; None when there is nothing to read.

    Raises:
        django.db.DatabaseError: the database said no.
    """
    definition = ""
    if plan.feed.skip_unchanged_pages:
        try:
            definition = definition_of(plan)
        except ConfigurationError as error:
            log.warning("no page is skipped", error=str(error))
    if not definition:
        _forget(part)
        return None
    memory = _open(part, plan, definition)
    if memory is None:
        return None
    place = source.place() if isinstance(source, SkippingSource) else ""
    own = memory.pages.filter(part=part.number).order_by("-first").first()
    changed: Span = NO_KEYS if own is None else _as_span(own.changed)
    recollection = Recollection(
        run=part.run_id, part=part.number, definition=definition, place=place, known={}, changed=changed
    )
    if memory.basis is not None and not memory.run.full:
        recollection.known = _known(memory.basis, place)
        recollection.shape = memory.basis.run.shape
    return recollection


def _open(part: Part, plan: Plan, definition: str) -> Memory | None:
    """Return the memory of the part's run, made with its first slice; None when it cannot have one any more."""
    # A caller's transaction is that of a dry run, which stays open while pages are fetched.
    joins = connections[plan.using].in_atomic_block
    with transaction.atomic(), connections[plan.using].cursor() as cursor:
        loaders.prepare_transaction(cursor, waits_for_network=joins)
        table = None
        if not Memory.objects.filter(run=part.run_id).exists() and part.run.first_commit_at is None:
            # Before the lock: a big table takes a while, and whoever cancels the run needs its row.
            table = loaders.take_imprint(cursor, plan.table)
        run = Run.objects.select_for_update(no_key=True).get(pk=part.run_id)
        memory = Memory.objects.filter(run=run).select_related("run", "basis__run").first()
        if memory is not None and memory.definition == definition:
            return memory
        if memory is not None or table is None or run.first_commit_at is not None:
            # Some of its chunks were loaded by another definition or without a memory, or the table tells nothing.
            _forget(part)
            return None
        before = msgspec.to_builtins(table)
        others = Memory.objects.filter(run__feed=part.run.feed_id)
        basis = others.filter(definition=definition, after=before).order_by("-run").first()
        others.exclude(pk=basis.pk if basis else None).delete()
        return Memory.objects.create(run=run, definition=definition, before=before, basis=basis)


def _forget(part: Part) -> None:
    """Let no memory of the feed count. That of the run itself stays, as other parts may be writing to it."""
    memories = Memory.objects.filter(run__feed=part.run.feed_id)
    memories.exclude(run=part.run_id).delete()
    memories.update(definition="")


def _as_span(stored: list[Any] | None) -> Span:
    return None if stored is None else tuple(stored)


def _known(basis: Memory, place: str) -> dict[int, Remembered]:
    # Should two parts ask for their first page alike, the digests tell their pages apart; equal bytes are equal rows.
    stretches = RememberedPages.objects.filter(memory=basis, place=place).values_list("pages", flat=True)
    return {page.number: page for stretch in stretches for page in _decode(bytes(stretch))}


def note(
    cursor: Any,
    memory: Recollection,
    pages: Sequence[Prepared],
    loaded: Loaded,
    rejections: Sequence[Rejection],
) -> None:
    """Remember the pages of a chunk, in the caller's transaction.

    A page with a reject is not remembered, so that it is read again; nor are pages that were loaded together and have
    a key twice.
    """
    rejected = {rejection.page for rejection in rejections}
    remembered = []
    for page in pages:
        if page.unchanged is not None:
            remembered.append(page.unchanged)
        elif page.digest and page.number not in rejected and not loaded.duplicates:
            remembered.append(_remembered(page))
        if loaded.updated and page.unchanged is None:
            memory.changed = joined(memory.changed, span_of(page.keys))
        memory.pending.pop(page.number, None)
    if loaded.inserted or loaded.updated:
        loaders.report_writes(cursor)
    RememberedPages.objects.create(
        memory_id=memory.run,
        part=memory.part,
        place=memory.place,
        first=pages[0].number,
        pages=_encode([page for page in remembered if page.number <= PAGES]),
        changed=None if memory.changed is None else list(memory.changed),
    )


def _remembered(page: Prepared) -> Remembered:
    low, high = span_of(page.keys) or (None, None)
    return Remembered(
        number=page.number,
        digest=page.digest,
        note=page.note,
        records=len(page.records),
        skipped=page.skipped,
        coercions=dict(page.coercions),
        low=low,
        high=high,
    )


def keep(cursor: Any, part: Part, plan: Plan, memory: Recollection, counts: Counts) -> None:
    """Let the run's memory count, when this part is the last one and all others succeeded. Joins the transaction.

    Args:
        counts: of the chunk that is not yet added to the run.
    """
    run = Run.objects.select_for_update(no_key=True).get(pk=part.run_id)
    found = Memory.objects.filter(run=run, definition=memory.definition).first()
    if found is None or run.parts.exclude(pk=part.pk).exclude(state=State.SUCCEEDED).exists():
        return
    after: Imprint | None = msgspec.convert(found.before, Imprint)
    written = sum(getattr(run, name) + getattr(counts, name) for name in ("inserted", "updated", "deleted"))
    if written and after is not None:
        now = loaders.take_imprint(cursor, plan.table)
        after = now and msgspec.structs.replace(now, written=after.written + written)
    found.after = None if after is None else msgspec.to_builtins(after)
    found.save(update_fields=["after"])
    Memory.objects.filter(run__feed=run.feed_id).exclude(pk=found.pk).delete()
