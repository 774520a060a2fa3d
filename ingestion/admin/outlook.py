"""What is known of a feed besides its row: its declaration, its last run and its next one. No query per feed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.db.models import F, OuterRef, QuerySet, Subquery
from django.utils.module_loading import import_string

from ingestion import feeds
from ingestion.errors import ConfigurationError
from ingestion.feeds import Feed
from ingestion.models import FeedState, Run

UNDECLARED: Final = "no installed app declares this feed"
NEWEST_RUN: Final = Subquery(Run.objects.filter(feed=OuterRef("pk")).order_by("-pk").values("pk")[:1])


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """A feed's declaration (None when no installed app has it), its newest run, and when it runs next."""

    declared: Feed | None
    last_run: Run | None
    next_run_at: datetime | None


def outlooks(states: Sequence[FeedState]) -> dict[int, Outlook]:
    """Return the outlook of each feed by its id, with one query for the runs and one for the schedules."""
    declared = {feed.name: feed for feed in feeds.declared()}
    next_runs: dict[str, datetime] = import_string(settings.INGESTION_NEXT_RUNS)()
    newest = FeedState.objects.filter(pk__in=[state.pk for state in states]).values(newest=NEWEST_RUN)
    last_runs = {run.feed_id: run for run in Run.objects.filter(pk__in=newest)}
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
    return states.alias(newest=NEWEST_RUN).filter(runs__pk=F("newest"), runs__state=state)


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
