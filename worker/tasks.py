"""The tasks: doors with ids and names as arguments. Each may run twice, be lost, or be killed anywhere."""

from datetime import timedelta
from typing import Any

import structlog
from celery import shared_task
from django.conf import settings

from ingestion import pipeline, quarantine, runs, waking
from ingestion.errors import ConfigurationError, PartTaken
from ingestion.models import State, Trigger
from worker import dispatch

log = structlog.get_logger(__name__)


@shared_task(name="worker.advance")
def advance(*, part: int, **_: Any) -> None:
    """Advance one part for one slice, and ask for the next slice when it is not done."""
    try:
        state = pipeline.advance(part, slice_seconds=settings.SLICE_SECONDS)
    except PartTaken as error:
        log.debug("left without effect", reason=str(error))
        return
    if state == State.QUEUED:
        dispatch.wake(part)
    else:
        # Another part of the run, or another run of the feed's group, may have its turn now. Those that have a message
        # get no second one: it is dispatch that looks whether workers are busy, or messages lost.
        waking.wake(waking.due_parts(beside=part, again=False))


@shared_task(name="worker.sync")
def sync(*, feed: str, **_: Any) -> None:
    """Start a run of the feed, as its schedule asks."""
    try:
        run, created = runs.request(feed, trigger=Trigger.SCHEDULE)
    except ConfigurationError as error:
        log.warning("schedule without a feed: disable or delete its entry in the admin", feed=feed, error=str(error))
        return
    if not created:
        log.info("already running", feed=feed, run=run.pk, since=runs.since(run))


@shared_task(name="worker.forget_rejects")
def forget_rejects(**_: Any) -> None:
    """Delete rejects that were resolved, or kept, for as long as the settings say."""
    forgotten = quarantine.forget(
        resolved_for=timedelta(days=settings.RESOLVED_REJECTS_KEPT_DAYS),
        kept_for=timedelta(days=settings.REJECTS_KEPT_DAYS),
    )
    log.info("forgot old rejects", rejects=forgotten)


@shared_task(name="worker.dispatch")
def dispatch_due(**_: Any) -> None:
    """Wake every part that is due and unowned."""
    dispatch.wake_due()
