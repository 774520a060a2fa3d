"""The watermarks of incremental feeds: where a run begins, how far it comes, and who moves one by hand.

See Note [Watermarks]. A run keeps the watermark it began with, and each of its parts the highest one it has loaded,
committed with the rows. The last part moves the feed's watermark in the transaction of its last chunk, unless somebody
has moved it since the run began: then their word counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from ingestion import feeds
from ingestion.errors import ConfigurationError, RunFailed
from ingestion.feeds import Feed
from ingestion.gauging import Mark
from ingestion.incremental import Incremental
from ingestion.models import FeedState, Part, Run, State, Trigger, WatermarkMove
from ingestion.preparation import Prepared
from ingestion.transactions import brief
from ingestion.types import Rejection

log = structlog.get_logger(__name__)

# So many good records without one watermark mean that the feed looks in the wrong place.
_ENOUGH: Final = 10


def begin(part: Part, feed: Feed) -> Mark | None:
    """Return where the part's run begins, decided with its first slice and kept; None for everything.

    Raises:
        RunFailed: `watermark`: what is stored is of another kind than the feed has now. `share`: the run has asked for
            what has changed, and the feed no longer can.
    """
    declared, run = feed.incremental, part.run
    if run.trigger == Trigger.BACKFILL:
        return None
    if declared is None:
        if run.watermark.get("from") is not None and part.cursor is not None:
            # The next page of everything is another one than the next page of what has changed.
            raise RunFailed("share", "it is what has changed, and the feed is not incremental now; start another run")
        return None
    if not run.watermark:
        part.run.watermark = _begin(run.pk, declared)
    # Whoever began before the feed was incremental reads everything.
    return _read(declared, run.watermark.get("from"))


def _begin(run_id: int, declared: Incremental) -> dict[str, Any]:
    with brief():
        run = Run.objects.select_for_update(no_key=True).get(pk=run_id)
        if not run.watermark and run.first_commit_at is None:
            state = FeedState.objects.get(pk=run.feed_id)
            run.watermark = {"before": state.watermark, **_start(declared, state, is_full=run.full)}
            run.save(update_fields=["watermark"])
    begun: dict[str, Any] = run.watermark
    return begun


def _start(declared: Incremental, state: FeedState, *, is_full: bool) -> dict[str, Any]:
    is_same = state.watermark is None or state.watermark_field == declared.name
    if not is_same:
        log.warning("the watermark is of another field", was=state.watermark_field, now=declared.name)
    watermark = _read(declared, state.watermark) if is_same and not is_full else None
    if declared.is_too_old(watermark, timezone.now()):
        log.warning("the remote does not remember what has changed since the watermark", watermark=state.watermark)
        watermark = None
    start = declared.start(watermark)
    return {"from": None if start is None else declared.to_json(start), "starts_over": watermark is None}


def _read(declared: Incremental, stored: str | int | None) -> Mark | None:
    try:
        return declared.from_json(stored)
    except ConfigurationError as error:
        raise RunFailed("watermark", f"{error}; start with --full, or move it") from error


def highest(part: Part, feed: Feed, pages: Sequence[Prepared], refused: Sequence[Rejection]) -> str | int | None:
    """Return the highest watermark that the part has loaded with these pages, as it is stored.

    Args:
        refused: what the database has refused of them.
    """
    declared = feed.incremental
    if declared is None:
        return None
    marks = [_of_page(declared, page, refused) if refused else page.highest for page in pages]
    marks.append(_read(declared, part.highest))
    found: Any = max((mark for mark in marks if mark is not None), default=None)
    part.highest = None if found is None else declared.to_json(found)
    return part.highest


def _of_page(declared: Incremental, page: Prepared, refused: Sequence[Rejection]) -> Mark | None:
    without = {rejection.position for rejection in [*page.rejections, *refused] if rejection.page == page.number}
    return declared.gauge().read(page.records).highest(without)


def conclude(run: Run, part: Part, feed: Feed) -> None:
    """Move the feed's watermark to what the run has loaded, once all other parts have succeeded.

    Joins the transaction of the last chunk, after its counts.

    Raises:
        RunFailed: `watermark`: no record had one.
    """
    declared = feed.incremental
    if declared is None or not run.watermark or run.parts.exclude(pk=part.pk).exclude(state=State.SUCCEEDED).exists():
        return
    found = [_read(declared, stored) for stored in run.parts.exclude(highest=None).values_list("highest", flat=True)]
    good = run.read - run.rejected
    if not found:
        if good >= _ENOUGH:
            raise RunFailed("watermark", f"none of {good} records has one at {declared.gauge().name!r}")
        return
    state = FeedState.objects.select_for_update(no_key=True).get(pk=run.feed_id)
    if state.watermark != run.watermark["before"]:
        log.warning("the watermark was moved meanwhile and stays", watermark=state.watermark)
        return
    after = _after(declared, run, max(found))  # type: ignore[type-var]  # of one kind
    if (after, declared.name) != (state.watermark, state.watermark_field):
        _put(state, declared, after)
    run.watermark["after"] = after
    run.save(update_fields=["watermark"])


def _after(declared: Incremental, run: Run, found: Any) -> str | int:
    assert run.started_at is not None, "somebody has taken it up"
    if declared.is_of_time:
        found = min(found, run.started_at)
    before = None if run.starts_over else _read(declared, run.watermark["before"])
    return declared.to_json(found if before is None else max(found, before))


def move(name: str, watermark: Mark | None, *, by: str, reason: str) -> WatermarkMove:
    """Move a feed's watermark, and note who did it and why; None lets the next run start over.

    A run that is going on keeps what it began with, and leaves the watermark where it is.

    Raises:
        ConfigurationError: there is no such feed, it is not incremental, the moment is in the future, or there is no
            reason.
    """
    declared = incremental(name)
    if not reason.strip():
        raise ConfigurationError("a watermark is moved for a reason; say it")
    if isinstance(watermark, datetime) and watermark > timezone.now():
        raise ConfigurationError(f"{watermark.isoformat()} is in the future: what changes until then would be missed")
    after = None if watermark is None else declared.to_json(watermark)
    with brief():
        FeedState.objects.get_or_create(name=name)
        state = FeedState.objects.select_for_update(no_key=True).get(name=name)
        done = WatermarkMove.objects.create(
            feed=state, moved_by=by[:150], before=state.watermark, after=after, reason=reason.strip()
        )
        _put(state, declared, after)
    log.info("watermark moved", feed=name, by=by, before=done.before, after=after, reason=done.reason)
    return done


def _put(state: FeedState, declared: Incremental, watermark: str | int | None) -> None:
    FeedState.objects.filter(pk=state.pk).update(watermark=watermark, watermark_field=declared.name, watermark_at=Now())


def rewind(name: str, length: timedelta | int, *, by: str, reason: str) -> WatermarkMove:
    """Move a feed's watermark back by a length of time, or by a number of numbers, as `move` does.

    Raises:
        ConfigurationError: as `move`; or there is no watermark, it is of the other kind, or time does not go so far
            back.
    """
    declared = incremental(name)
    watermark: Any = _kept(name, declared)[1]
    if watermark is None:
        raise ConfigurationError(f"{name} has no watermark yet: its next run starts over anyway")
    if isinstance(length, timedelta) != declared.is_of_time:
        wanted = "a length of time, such as 2h" if declared.is_of_time else "a number"
        raise ConfigurationError(f"the watermark of {name} is rewound by {wanted}")
    try:
        rewound = watermark - length
    except OverflowError:
        raise ConfigurationError(f"there is nothing so far back; clear the watermark of {name} instead") from None
    return move(name, rewound, by=by, reason=reason)


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a feed has come: its watermark, since when, how long ago that is, and where the next run begins.

    Watermarks are as they are stored; a number has no lag. `moves` are those by hand, the last one first.
    """

    watermark: str | int | None
    since: datetime | None
    lag: timedelta | None
    next_from: str | int | None
    moves: QuerySet[WatermarkMove]


def status(name: str, *, now: datetime) -> Status:
    """Return how far an incremental feed has come.

    Raises:
        ConfigurationError: there is no such feed, it is not incremental, or its watermark is of another kind.
    """
    declared = incremental(name)
    state, watermark = _kept(name, declared)
    start = declared.start(None if declared.is_too_old(watermark, now) else watermark)
    return Status(
        watermark=None if watermark is None else declared.to_json(watermark),
        since=None if watermark is None else state.watermark_at,
        lag=now - watermark if isinstance(watermark, datetime) else None,
        next_from=None if start is None else declared.to_json(start),
        moves=WatermarkMove.objects.filter(feed__name=name),
    )


def _kept(name: str, declared: Incremental) -> tuple[FeedState, Mark | None]:
    """Return what is kept of a feed, with its watermark as far as it is of the field that the feed has now."""
    state = FeedState.objects.filter(name=name).first() or FeedState(name=name)
    return state, declared.from_json(state.watermark) if state.watermark_field == declared.name else None


def incremental(name: str) -> Incremental:
    """Return what the feed of that name declares.

    Raises:
        ConfigurationError: there is no such feed, or it is not incremental.
    """
    declared = feeds.get(name).incremental
    if declared is None:
        raise ConfigurationError(f"{name} is not incremental: its feed has no incremental=Incremental(…)")
    return declared
