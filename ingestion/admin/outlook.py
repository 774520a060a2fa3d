"""What is known of a feed besides its row: its declaration, its last run and its next one. No query per feed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.db.models import OuterRef, QuerySet, Subquery
from django.utils.module_loading import import_string

from ingestion import feeds
from ingestion.errors import ConfigurationError
from ingestion.feeds import Feed
from ingestion.models import FeedState, Run

UNDECLARED: Final = "no installed app declares this feed"
# A range of one feed, in the index's order. Asked for equality, PostgreSQL drops the feed from the order, walks the
# primary key backwards, and for a feed that never ran reads the whole history.
_OF_THE_FEED: Final = Run.objects.filter(feed_id__gte=OuterRef("pk"), feed_id__lte=OuterRef("pk"))
NEWEST_RUN: Final = Subquery(_OF_THE_FEED.order_by("feed_id", "-pk").values("pk")[:1])


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """A feed's declaration (None when no installed app has it), its newest run, and when it runs next."""

    declared: Feed | None
    last_run: Run | None
    next_run_at: datetime | None


def outlooks(states: Sequence[FeedState]) -> dict[int, Outlook]:
    """Return the outlook of each feed by its id, with two queries for the runs and those for the schedules."""
    declared = {feed.name: feed for feed in feeds.declared()}
    next_runs: dict[str, datetime] = import_string(settings.INGESTION_NEXT_RUNS)()
    shown = FeedState.objects.filter(pk__in=[state.pk for state in states])
    last_runs = {run.feed_id: run for run in Run.objects.filter(pk__in=_newest_of(shown))}
    return {
        state.pk: Outlook(
            declared=declared.get(state.name),
            last_run=last_runs.get(state.pk),
            next_run_at=next_runs.get(state.name),
        )
        for state in states
    }


def in_last_state(states: QuerySet[FeedState], state: str | None) -> QuerySet[FeedState]:
    """Keep the feeds whose newest run is in this state; with None those that never ran."""
    if state is None:
        return states.filter(runs=None)
    return states.filter(runs__pk__in=_newest_of(states), runs__state=state)


def _newest_of(states: QuerySet[FeedState]) -> list[int]:
    """Return the newest run of each feed. As a part of the query for the runs, all of them would be read."""
    return [pk for pk in states.order_by().values_list(NEWEST_RUN, flat=True) if pk is not None]


def source_text(feed: Feed) -> str:
    """Describe where a feed's records come from, without what a URL may hide in user information or query."""
    kind = type(feed.source).__name__
    url = getattr(feed.source, "url", None)
    if url is None:
        return kind
    try:
        parts = urlsplit(url() if callable(url) else url)
    except (ConfigurationError, ValueError) as error:
        return f"{kind}: {error}"
    return f"{kind}: {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def target_text(feed: Feed) -> str:
    """Describe where a feed's rows go, and how."""
    target = feed.target
    by = f" by {', '.join(target.key_fields)}" if target.key_fields else ""
    return f"{target.model._meta.label}, {type(target).__name__.lower()}{by}"
