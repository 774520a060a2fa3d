"""Schedules: django-celery-beat's tables are the truth for operators; a feed's own default creates its entry once."""

import json
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from ingestion import feeds, runs
from ingestion.models import FeedState

DISPATCH_NAME: Final = "dispatch"
FORGET_NAME: Final = "forget rejects"


def remember_schedules_after_migrate(**_: object) -> None:
    """Create the missing entries after `migrate`, unless it has just removed a table that they need."""
    if {FeedState._meta.db_table, PeriodicTask._meta.db_table} <= set(connection.introspection.table_names()):
        remember_schedules()


def remember_schedules() -> None:
    """Create the project's own entries when they are missing, and each feed's when it was never created."""
    _create(DISPATCH_NAME, "worker.dispatch", settings.DISPATCH_EVERY, description="Wakes parts that are due.")
    _create(FORGET_NAME, "worker.forget_rejects", timedelta(days=1), description="Deletes old rejects.")
    runs.remember_feeds()
    for feed in feeds.declared():
        new = FeedState.objects.filter(name=feed.name, schedule_created_at=None)
        if feed.every is not None and new.update(schedule_created_at=Now()):
            _create(entry_name(feed.name), "worker.sync", feed.every, kwargs={"feed": feed.name})


def entry_name(feed: str) -> str:
    """Return the name of the entry that a feed's default creates."""
    return f"sync {feed}"


def next_runs() -> dict[str, datetime]:
    """Return when beat starts each feed next, as far as its enabled entries tell; one query for all feeds."""
    entries = PeriodicTask.objects.filter(task="worker.sync", enabled=True)
    found: dict[str, datetime] = {}
    for entry in entries.select_related("interval", "crontab", "solar", "clocked"):
        if feed := _feed(entry):
            at = _next(entry)
            found[feed] = min(at, found.get(feed, at))
    return found


def _feed(entry: PeriodicTask) -> str | None:
    return feed_of(entry.task, json.loads(entry.kwargs or "{}"))


def feed_of(task: str, arguments: Any) -> str | None:
    """Return the feed that an entry syncs; None when it does something else, or has no such arguments."""
    # An operator may have written any JSON there.
    feed = arguments.get("feed") if task == "worker.sync" and isinstance(arguments, dict) else None
    return feed if isinstance(feed, str) else None


def _next(entry: PeriodicTask) -> datetime:
    last = entry.last_run_at or entry.date_changed
    remaining: timedelta = entry.schedule.remaining_estimate(last)
    return timezone.now() + max(remaining, timedelta(0))


def _create(name: str, task: str, every: timedelta, **fields: Any) -> None:
    schedule, _ = IntervalSchedule.objects.get_or_create(
        every=int(every.total_seconds()), period=IntervalSchedule.SECONDS
    )
    kwargs = json.dumps(fields.pop("kwargs", {}))
    PeriodicTask.objects.get_or_create(
        name=name, defaults={"task": task, "interval": schedule, "kwargs": kwargs, **fields}
    )
