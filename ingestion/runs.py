"""Runs as they are asked for: at most one of a feed is active, and a second request finds it. No network, no Celery."""

from functools import partial
from typing import Final

from django.db import IntegrityError, connection, transaction
from django.db.models import Q

from ingestion import feeds, hosts, sqlstates, waking
from ingestion.models import ACTIVE, FeedState, Part, Run, Trigger
from ingestion.transactions import brief
from ingestion.types import Share

# The constraint that makes the second of two triggers find the run of the first.
ONE_ACTIVE: Final = "ingestion_run_one_active_per_feed"
ONE_BACKFILL: Final = "ingestion_run_one_active_backfill_per_feed"


def remember_feeds() -> None:
    """Give every declared feed its row, so that it can be seen and triggered before its first run."""
    FeedState.objects.bulk_create([FeedState(name=feed.name) for feed in feeds.declared()], ignore_conflicts=True)


def remember_feeds_after_migrate(**_: object) -> None:
    """Do so after `migrate`, unless it has just removed the table."""
    if FeedState._meta.db_table in connection.introspection.table_names():
        remember_feeds()


def request(  # noqa: PLR0913 - what somebody may wish for a run, by keyword
    name: str,
    *,
    trigger: Trigger,
    by: str = "",
    limit: int | None = None,
    full: bool = False,
    wake_workers: bool = True,
) -> tuple[Run, bool]:
    """Queue a run of the feed, unless one is active; return the active run and whether it is new.

    The workers are woken after the caller's transaction commits. A broker that is down does not matter: dispatch
    finds the run.

    Args:
        limit: stop after this many records, and delete nothing.
        full: let a new run load every page, unchanged or not, and from the start.

    Raises:
        ConfigurationError: there is no such feed.
    """
    share, group = first_share(name), feeds.get(name).group
    # A replay reads from nowhere.
    host = hosts.host_of(feeds.get(name).source) if trigger != Trigger.REPLAY else ""
    feed, _ = FeedState.objects.get_or_create(name=name)
    while True:
        try:
            with brief():
                run = Run.objects.create(
                    feed=feed, group=group, host=host, trigger=trigger, requested_by=by, limit=limit, full=full
                )
                part = Part.objects.create(run=run, share=share)
        except IntegrityError as error:
            if sqlstates.constraint(error) != ONE_ACTIVE:
                raise
            if active := active_run(name):
                return active, False
            continue  # it ended between our INSERT and our SELECT
        if wake_workers:
            transaction.on_commit(partial(waking.wake, [part.pk]))
        return run, True


def active_run(name: str, *, is_backfill: bool = False) -> Run | None:
    """Return the feed's active run, or its active backfill."""
    active = Run.objects.select_related("feed").filter(feed__name=name, state__in=ACTIVE)
    backfills = Q(trigger=Trigger.BACKFILL)
    return active.filter(backfills if is_backfill else ~backfills).first()


def already_running(run: Run) -> str:
    """Say that the feed's run is active, in the words that everybody is told."""
    what = "backfill of " if run.trigger == Trigger.BACKFILL else ""
    return f"{what}{run.feed} is already running since {since(run)}: run {run.pk}"


def since(run: Run) -> str:
    """Return the time from which a run counts as running: its first take-up, or when it was asked for."""
    return f"{run.started_at or run.requested_at:%Y-%m-%d %H:%M:%S} UTC"


def first_share(name: str) -> Share | None:
    """Return what the first part of a run covers: everything, or what is found out when the run is divided."""
    return {} if feeds.get(name).parts is None else None
