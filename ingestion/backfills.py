"""Backfills: a period of a feed's past, read window by window beside the feed's other runs."""

from datetime import datetime
from functools import partial

from django.db import IntegrityError, transaction

from ingestion import division, feeds, hosts, runs, sqlstates, turns, waking
from ingestion.errors import ConfigurationError, RunFailed
from ingestion.models import FeedState, Run, Trigger
from ingestion.parts import Periods
from ingestion.transactions import brief


def request(name: str, start: datetime, end: datetime, *, by: str = "") -> tuple[Run, bool]:
    """Queue a backfill from `start` to before `end`, unless one is active; return the active one and whether it is new.

    Each window is a part. A backfill deletes nothing, and stands in the way of no other run, but of its feed's group.

    Raises:
        ConfigurationError: there is no such feed, it has no windows, or the period has none or too many.
    """
    feed = feeds.get(name)
    if not isinstance(feed.parts, Periods):
        raise ConfigurationError(f"{name} cannot be asked for a period: its feed needs parts=Windows(…)")
    try:
        shares = feed.parts.between(start, end)
        division.check(len(shares))
    except RunFailed as error:
        raise ConfigurationError(f"{error.message}, or backfill a shorter period") from None
    if not shares:
        raise ConfigurationError(f"there is nothing between {start.isoformat()} and {end.isoformat()}")
    state, _ = FeedState.objects.get_or_create(name=name)
    while True:
        try:
            with brief():
                run = Run.objects.create(
                    feed=state,
                    group=feed.group,
                    host=hosts.host_of(feed.source),
                    trigger=Trigger.BACKFILL,
                    requested_by=by,
                    parts_at_once=feed.parts_at_once,
                )
                due = turns.begin(run, shares)
        except IntegrityError as error:
            if sqlstates.constraint(error) != runs.ONE_BACKFILL:
                raise
            if active := runs.active_run(name, is_backfill=True):
                return active, False
            continue  # it ended between our INSERT and our SELECT
        transaction.on_commit(partial(waking.wake, due))
        return run, True
