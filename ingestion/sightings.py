"""What a run has seen of its source's records, remembered and compared: drift, in the transactions of its chunks.

Note [Drift]: a feed knows the shape of its source's records from its first complete run on. What a run sees besides is
drift: it is noted on the run, and known from that chunk on, so that it is told once. What is known and was not seen by
a complete run has vanished, and is forgotten. Where the feed says `fail`, nothing of it becomes known: the page is not
loaded, and so every run fails until somebody accepts what it finds.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import structlog

from ingestion import drift
from ingestion.drift import Change, Shape, Watch
from ingestion.errors import RunFailed
from ingestion.feeds import Feed
from ingestion.models import FeedState, Part, Run, State
from ingestion.transactions import brief

log = structlog.get_logger(__name__)

# An error names so many fields; all of them are on the run.
SHOWN: Final = 5


def watch(part: Part, feed: Feed) -> Watch:
    """Return what looks at the records of this slice of a part."""
    return Watch(drift.from_json(part.run.feed.shape)) if feed.drift != "ignore" else Watch()


def is_strict(part: Part, feed: Feed) -> bool:
    """Whether drift fails the part's run."""
    return feed.drift == "fail" and not part.run.accept_drift


def failure(found: Sequence[Change]) -> RunFailed:
    """Return the error of a run that drift fails."""
    named = "; ".join(map(drift.describe, found[:SHOWN]))
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    error = RunFailed("drift", f"the source has changed: {named}{more}")
    error.drift = found
    return error


@contextmanager
def explaining(watch: Watch) -> Iterator[None]:
    """Tell with the error of a run what had changed in the source: it may well be why."""
    try:
        yield
    except RunFailed as error:
        error.drift = error.drift or watch.found
        raise


def note(part: Part, feed: Feed, shape: dict[str, Any] | None) -> None:
    """Add what a chunk has seen to its run, and to what the feed knows; joins the chunk's transaction.

    Args:
        shape: as pages have it; None for nothing new.
    """
    if shape is None or feed.drift == "ignore":
        return
    run, state = _locked(part)
    seen, known, chunk = map(drift.from_json, (run.shape, state.shape, shape))
    if drift.merge(seen, chunk):
        run.shape = drift.to_json(seen)
        run.save(update_fields=["shape"])
    if known.fields:
        record(run, drift.changes(known, chunk))
        if drift.merge(known, chunk):
            _remember(state, known)


def conclude(part: Part, feed: Feed) -> None:
    """Find what has vanished, once the run has read its source to the end; joins the last chunk's transaction.

    Nothing has where no record was seen.

    Raises:
        RunFailed: `drift`: something has, and the feed does not allow it.
    """
    run, state = _locked(part)
    if not run.shape or run.parts.exclude(pk=part.pk).exclude(state=State.SUCCEEDED).exists():
        return
    seen, known = drift.from_json(run.shape), drift.from_json(state.shape)
    gone = tuple(drift.drop_vanished(known, seen))
    if gone and is_strict(part, feed):
        raise failure(gone)
    record(run, gone)
    if gone or not known.fields:
        drift.merge(known, seen)
        _remember(state, known)


def record(run: Run, found: Iterable[Change]) -> None:
    """Add drift to what is noted on a run that the caller has locked."""
    new = [change for change in found if drift.to_json(change) not in run.drift]
    if not new:
        return
    log.warning("the source has changed", drift=[drift.describe(change) for change in new])
    run.drift = [*run.drift, *map(drift.to_json, new)]
    run.save(update_fields=["drift"])


def record_failed(part: Part, found: Iterable[Change]) -> None:
    """Note on a run that failed what its uncommitted pages had; none of it becomes known."""
    with brief():
        record(Run.objects.select_for_update().get(pk=part.run_id), found)


def _locked(part: Part) -> tuple[Run, FeedState]:
    # Weaker than FOR UPDATE: new runs of the feed refer to its row, and need not wait.
    run = Run.objects.select_for_update(no_key=True).get(pk=part.run_id)
    return run, FeedState.objects.select_for_update(no_key=True).get(pk=run.feed_id)


def _remember(state: FeedState, known: Shape) -> None:
    state.shape = drift.to_json(known)
    state.save(update_fields=["shape"])
