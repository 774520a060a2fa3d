"""What a run does besides loading chunks: keeps tables of its own, and finishes once, when everything is read.

Note [Delete guards]: rows are deleted only by a run that has read everything by the source's own rule, that has read
something, that knows the key of every record, and not beyond the target's share without confirmation. A run that may
not delete fails with what it has loaded committed: whoever confirms starts another one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import DatabaseError, transaction

from ingestion import loaders, relating, sqlstates
from ingestion.cleaning import compile_columns
from ingestion.errors import RecordRejected, RecordSkipped, RunFailed
from ingestion.feeds import Mirror, Plan, Replace
from ingestion.loaders import FinishingMode, Loaded, Missing, RunTables, Wanted
from ingestion.models import ACTIVE, Part, Run, State
from ingestion.preparation import Prepared
from ingestion.types import Counts, Rejection
from ingestion.writing import check_stored


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How a part ends: what finishing did, and where it leaves the part."""

    state: State = State.SUCCEEDED
    error: str = ""
    finished: Loaded = field(default_factory=Loaded)


def finishing(plan: Plan) -> FinishingMode | None:
    """Return the plan's mode when it has something to do at the end of a run."""
    return plan.mode if isinstance(plan.feed.target, Mirror | Replace) else None  # type: ignore[return-value]  # theirs do


def tables_of(part: Part) -> RunTables:
    """Return the names of the tables of the part's run."""
    return RunTables(feed=part.run.feed_id, run=part.run_id)


def open_tables(cursor: Any, part: Part, plan: Plan) -> None:
    """Make the tables of the run with its first chunk.

    Raises:
        RunFailed: `run_table_lost`: they were there, and are gone.
    """
    mode = finishing(plan)
    tables = tables_of(part)
    if mode is None or mode.is_open(cursor, tables):
        return
    # Of several parts that begin at once, one makes them.
    run = Run.objects.select_for_update(no_key=True).get(pk=part.run_id)
    if mode.is_open(cursor, tables):
        return
    if run.first_commit_at is not None:
        raise RunFailed("run_table_lost", f"what run {run.pk} has read so far is gone with its tables; start another")
    _drop_left_behind(cursor, tables)
    mode.open(cursor, tables)


def _drop_left_behind(cursor: Any, tables: RunTables) -> None:
    """Drop the tables of runs that failed or were cancelled; they have kept them until now, to be resumed."""
    left = {found.run: found for found in loaders.left_behind(cursor, tables.feed)}
    active = Run.objects.filter(pk__in=left, state__in=ACTIVE).values_list("pk", flat=True)
    for run in left.keys() - set(active):
        loaders.drop_tables(cursor, left[run])


def note_rejected(
    cursor: Any, part: Part, plan: Plan, pages: Sequence[Prepared], rejections: Sequence[Rejection]
) -> None:
    """Remember for the end that the source has these records, though they were not loaded."""
    mode = finishing(plan)
    if mode is None or not rejections or not plan.table.key:
        return
    records = {page.number: page.records for page in pages}
    clean = compile_columns([column for column in plan.columns if column.is_key], plan.feed.rules)
    rows: list[tuple[Any, ...]] = []
    for rejection in rejections:
        try:
            rows.append(clean(records[rejection.page][rejection.position]))
        except (RecordRejected, RecordSkipped):
            continue
    keys = relating.known_keys(cursor, plan, rows)
    mode.note_rejected(cursor, tables_of(part), keys, unreadable=len(rejections) - len(keys))


def finish(cursor: Any, part: Part, plan: Plan, counts: Counts, wanted: Wanted) -> Ending:
    """Finish the run, when this part is the last one and all others succeeded. Joins the caller's transaction.

    Args:
        counts: of the chunk that is not yet added to the run.

    Raises:
        RunFailed: `copy_mismatch`: a trigger dropped rows. `delete_guard`: a replacement is not complete.
        django.db.DatabaseError: the database refused, and not because of a row.
    """
    mode = finishing(plan)
    if mode is None:
        return Ending()
    run = Run.objects.select_for_update(no_key=True).get(pk=part.run_id)
    if run.parts.exclude(pk=part.pk).exclude(state=State.SUCCEEDED).exists():
        return Ending()
    tables = tables_of(part)
    if not run.reads_everything:
        # There is no half of a replacement; a mirror that deletes nothing has done its work.
        if isinstance(plan.feed.target, Replace):
            raise RunFailed("delete_guard", "the run has not read the source to its end; nothing was replaced")
        mode.discard(cursor, tables)
        return Ending()
    try:
        with transaction.atomic(using=plan.using):
            missing = mode.missing(cursor, tables, inserted=run.inserted + counts.inserted)
            good = run.read + counts.read - run.rejected - counts.rejected
            refusal = _refusal(plan, missing, good=good, confirmed=run.confirm_deletes)
            if refusal is None:
                finished = mode.finish(cursor, tables, wanted)
                check_stored(finished)
                loaders.check_constraints(cursor)
                return Ending(finished=finished)
    except DatabaseError as error:
        if not sqlstates.is_about_a_record(error):
            raise
        refusal = RunFailed("finish_refused", f"{sqlstates.message(error)}; nothing was deleted or replaced")
    mode.discard(cursor, tables)
    return Ending(state=State.FAILED, error=str(refusal))


def _refusal(plan: Plan, missing: Missing, *, good: int, confirmed: bool) -> RunFailed | None:
    """Say why the rows may not be deleted; None when they may, or when there are none."""
    target = plan.feed.target
    assert isinstance(target, Mirror | Replace)
    if not missing.rows:
        return None
    if not good:
        why = "the source gave no good record, which is no proof that it has none"
    elif missing.vanished:
        why = (
            f"{missing.vanished} rows that this run loaded are not in the table: a trigger or somebody else moved them"
        )
    elif confirmed:
        return None
    elif missing.unreadable:
        why = f"{missing.unreadable} rejected records have no readable key, and could be any of them"
    elif missing.rows > target.allow_delete_share * missing.of:
        share = f"{missing.rows / missing.of:.1%}"
        why = f"that is {share}, and the feed allows {target.allow_delete_share:.1%} without confirmation"
    else:
        return None
    return RunFailed(
        "delete_guard", f"{missing.rows} of {missing.of} rows would be deleted: {why}; nothing was deleted"
    )
