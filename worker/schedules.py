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


def remember_schedules_after_migrate(**_: object) -> None:
    """Create the missing entries after `migrate`, unless it has just removed a table that they need."""
    if {FeedState._meta.db_table, PeriodicTask._meta.db_table} <= set(connection.introspection.table_names()):
        remember_schedules()


def remember_schedules() -> None:
    """Create dispatch's entry when it is missing, and each feed's own when it was never created."""
    _create(DISPATCH_NAME, "worker.dispatch", settings.DISPATCH_EVERY, description="Wakes parts that are due.")
    runs.remember_feeds()
    for feed in feeds.declared():
        new = FeedState.objects.filter(name=feed.name, schedule_created_at=None)
        if feed.every is not None and new.update(schedule_created_at=Now()):
            _create(entry_name(feed.name), "worker.sync", feed.every, kwargs={"feed": feed.name})


def entry_name(feed: str) -> str:
    """Return the name of the entry that a feed's default creates."""
    return f"sync {feed}"


def next_run_at(feed: str) -> datetime | None:
    """Return when beat starts the feed next, as far as its entries tell; None when no enabled entry does."""
    times = [
        at for entry in PeriodicTask.objects.filter(task="worker.sync", enabled=True) if (at := _next(entry, feed))
    ]
    return min(times, default=None)


def _next(entry: PeriodicTask, feed: str) -> datetime | None:
    if json.loads(entry.kwargs or "{}").get("feed") != feed:
        return None
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
