"""What a chunk commits beside its rows: cursor, counters and rejects, fenced by the part's epoch."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from django.db import router
from django.db.models.functions import Now
from psycopg2.extras import Json

from ingestion import attempts
from ingestion.cleaning import key_text
from ingestion.errors import PartTaken, RetryLater
from ingestion.models import Part, Reject, Resolution, Run
from ingestion.types import Counts, Cursor, Rejection

# A run that goes on for days may find the same thing in each of its slices.
MOST_WARNINGS: Final = 20
# The keys of so many open rejects are looked through here, of more in the database.
FEW_REJECTS: Final = 10_000


# Counters of a run that a chunk adds to.
_COUNTERS: Final = (
    "pages",
    "pages_skipped",
    "read",
    "inserted",
    "updated",
    "unchanged",
    "deleted",
    "duplicates",
    "rejected",
    "skipped",
)

# Note [One statement]: each statement costs a chunk about a millisecond, in which the database has nothing to load.
# Most of that is the wait for the interpreter, which the thread that cleans pages holds meanwhile. So this is one.
_ADVANCE: Final = """
WITH part AS (
    UPDATE ingestion_part
    SET cursor = %(cursor)s, writer_epoch = %(epoch)s, leased_until = statement_timestamp() + %(lease)s, attempts = 0,
        highest = coalesce(%(highest)s, highest)
    WHERE id = %(part)s AND epoch = %(epoch)s AND state = 'running' AND cursor IS NOT DISTINCT FROM %(after)s
    RETURNING run_id
)
UPDATE ingestion_run
SET first_commit_at = coalesce(first_commit_at, statement_timestamp()), {counters}
FROM part
WHERE ingestion_run.id = part.run_id
RETURNING ingestion_run.*, EXISTS (
    SELECT FROM ingestion_reject WHERE feed_id = ingestion_run.feed_id AND resolved_at IS NULL AND key <> ''
) AS has_open_rejects
""".format(counters=", ".join(f"{name} = {name} + %({name})s" for name in _COUNTERS))  # noqa: S608 - of names above


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
    highest watermark that the part has loaded, of an incremental feed. The caller moves `part.cursor`, which is where
    the chunk begins, when the transaction is committed.

    Raises:
        PartTaken: somebody else took the part over; the caller's transaction must not commit.
        RetryLater: the part is not where the chunk begins: the database has lost commits that it had confirmed.
    """
    values = {
        "part": part.pk,
        "epoch": part.epoch,
        "lease": attempts.LEASE,
        "after": _json(part.cursor),
        "cursor": _json(cursor),
        "highest": _json(highest),
        **{name: getattr(counts, name) for name in _COUNTERS},
    }
    advanced = list(Run.objects.raw(_ADVANCE, values, using=router.db_for_write(Run)))
    if not advanced:
        if attempts.owned(part).exists():
            raise RetryLater("the database has lost its latest commits, as after a crash; they are done again")
        raise PartTaken(f"{part} was taken over or cancelled")
    run: Run = advanced[0]
    if run.has_open_rejects:  # type: ignore[attr-defined]
        _supersede(part, keys, rejections)
    Reject.objects.bulk_create(_reject(part, rejection) for rejection in rejections)
    if counts.coercions:
        # The UPDATE above holds the run's row: nobody else adds to these meanwhile.
        run.coercions = dict(sorted((counts.coercions + Counter(run.coercions)).items()))
        run.save(update_fields=["coercions"])
    if counts.warnings:
        new = [warning for warning in dict.fromkeys(counts.warnings) if warning not in run.warnings]
        run.warnings = [*run.warnings, *new][:MOST_WARNINGS]
        run.save(update_fields=["warnings"])
    return run


def _json(value: Cursor | str | int | None) -> Json | None:
    return None if value is None else Json(value)


def _supersede(part: Part, keys: Sequence[Any], rejections: Sequence[Rejection]) -> None:
    open_rejects = Reject.objects.filter(feed=part.run.feed_id, resolved_at=None).exclude(key="")
    if not keys:
        return
    # Django takes longer to write a chunk's keys into a statement than all else about the chunk takes.
    open_keys = set(open_rejects.order_by().values_list("key", flat=True)[: FEW_REJECTS + 1])
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
        part=part.number if part.share else None,
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
