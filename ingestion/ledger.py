"""What a chunk commits beside its rows: cursor, counters and rejects, fenced by the part's epoch."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from django.db.models import F
from django.db.models.functions import Coalesce, Now

from ingestion import runs
from ingestion.cleaning import key_text
from ingestion.errors import PartTaken
from ingestion.models import Part, Reject, Resolution, Run
from ingestion.types import Counts, Cursor, Rejection

# A run that goes on for days may find the same thing in each of its slices.
MOST_WARNINGS: Final = 20
# The keys of so many open rejects are looked through here, of more in the database.
FEW_REJECTS: Final = 10_000


def commit(  # noqa: PLR0913 - what a chunk commits, by keyword
    part: Part,
    *,
    cursor: Cursor | None,
    counts: Counts,
    rejections: Sequence[Rejection],
    keys: Sequence[Any] = (),
    highest: str | int | None = None,
) -> Run:
    """Write a chunk's cursor, counters and rejects, in the caller's transaction; return the run as it then is.

    Open rejects of the chunk's `keys`, which now have a good version, are resolved as superseded. `highest` is the
    highest watermark that the part has loaded, of an incremental feed.

    Raises:
        PartTaken: somebody else took the part over; the caller's transaction must not commit.
    """
    marks = {} if highest is None else {"highest": highest}
    if not runs.owned(part).update(
        cursor=cursor, writer_epoch=part.epoch, leased_until=Now() + runs.LEASE, attempts=0, **marks
    ):
        raise PartTaken(f"{part} was taken over or cancelled")
    _supersede(part, keys, rejections)
    Reject.objects.bulk_create(_reject(part, rejection) for rejection in rejections)
    Run.objects.filter(pk=part.run_id).update(
        first_commit_at=Coalesce("first_commit_at", Now()),
        pages=F("pages") + counts.pages,
        pages_skipped=F("pages_skipped") + counts.pages_skipped,
        read=F("read") + counts.read,
        inserted=F("inserted") + counts.inserted,
        updated=F("updated") + counts.updated,
        unchanged=F("unchanged") + counts.unchanged,
        deleted=F("deleted") + counts.deleted,
        duplicates=F("duplicates") + counts.duplicates,
        rejected=F("rejected") + counts.rejected,
        skipped=F("skipped") + counts.skipped,
    )
    run = Run.objects.get(pk=part.run_id)
    if counts.coercions:
        # The UPDATE above holds the run's row: nobody else adds to these meanwhile.
        run.coercions = dict(sorted((counts.coercions + Counter(run.coercions)).items()))
        run.save(update_fields=["coercions"])
    if counts.warnings:
        new = [warning for warning in dict.fromkeys(counts.warnings) if warning not in run.warnings]
        run.warnings = [*run.warnings, *new][:MOST_WARNINGS]
        run.save(update_fields=["warnings"])
    return run


def _supersede(part: Part, keys: Sequence[Any], rejections: Sequence[Rejection]) -> None:
    open_rejects = Reject.objects.filter(feed=part.run.feed_id, resolved_at=None).exclude(key="")
    if not keys:
        return
    # Django takes longer to write a chunk's keys into a statement than all else about the chunk takes.
    open_keys = set(open_rejects.order_by().values_list("key", flat=True)[: FEW_REJECTS + 1])
    if not open_keys:
        return
    loaded = set(map(key_text, keys)) - {rejection.key for rejection in rejections}
    if len(open_keys) <= FEW_REJECTS:
        loaded &= open_keys
    if loaded:
        open_rejects.filter(key__in=loaded).update(resolved_at=Now(), resolution=Resolution.SUPERSEDED)


def _reject(part: Part, rejection: Rejection) -> Reject:
    return Reject(
        feed=part.run.feed,
        run=part.run,
        reason=rejection.reason,
        field=rejection.field or "",
        detail=_storable(rejection.detail),
        page=rejection.page,
        position=rejection.position,
        key=_storable(rejection.key or "")[:255],
        raw=rejection.raw,
        size_bytes=rejection.size_bytes,
        digest=rejection.digest,
    )


def _storable(text: str) -> str:
    """Make text of a bad record safe to store and show; the exact bytes are in `raw`."""
    return text.replace("\x00", "\\u0000").encode("utf-8", "backslashreplace").decode()
