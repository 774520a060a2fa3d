"""System checks: wrong feeds are found by `manage.py check`, each with an id, a message and a hint.

| id | what it found |
|---|---|
| ingestion.E001 | two feeds with one name |
| ingestion.E002 | a name that cannot be used |
| ingestion.E003 | a column that the model does not have |
| ingestion.E004 | a key that no unique constraint covers |
| ingestion.E005 | a key that the feed does not fill |
| ingestion.E006 | a required column that neither the feed nor the database fills |
| ingestion.E007 | a column type the engine does not know |
| ingestion.E008 | a model outside the database that holds the runs |
| ingestion.E009 | a name PostgreSQL would cut |
| ingestion.E010 | a rule that does not fit the column's type |
| ingestion.E011 | a default that the column cannot hold |
| ingestion.E012 | a rule with an option that cannot be used |
| ingestion.E013 | a target whose own fields or limits do not fit |
| ingestion.E014 | a policy for drift that there is not |
| ingestion.E015 | parts that the source cannot be cut into |
| ingestion.E016 | a related row that cannot be found as the feed says |
| ingestion.E017 | a missing related row that cannot become what the feed says |
| ingestion.E018 | a source that leaves records out which its target takes for gone |
| ingestion.E019 | unchanged pages that cannot be skipped with this target or source |
| ingestion.E020 | a group's name that cannot be used |
| ingestion.E021 | an incremental feed whose source, target or values do not fit |
| ingestion.W001 | unchanged pages that will not be skipped, because the feed's definition cannot be compared |
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004 - Django's name

from ingestion import feeds
from ingestion.checks.columns import check_columns
from ingestion.checks.findings import error
from ingestion.checks.sources import check_incremental, check_parts, check_skipping, check_source
from ingestion.checks.targets import check_key, check_table, check_target
from ingestion.errors import ConfigurationError
from ingestion.feeds import Feed, Incomparable, Plan

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


def register_checks() -> None:
    """Register the checks with Django; called once when the app is ready."""
    register(check_feeds, "ingestion")


def check_feeds(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Check every declared feed."""
    return [*problems(feeds.declared())]


def problems(declared: Sequence[Feed]) -> Iterator[CheckMessage]:
    """Check feeds against each other and against their models, without touching the database."""
    yield from _check_names(declared)
    for feed in declared:
        if feed.drift not in feeds.DRIFT_POLICIES:
            known = ", ".join(map(repr, feeds.DRIFT_POLICIES))
            yield error(feed, "E014", f"drift is {feed.drift!r}.", f"It is one of {known}.")
        found = [*check_columns(feed), *check_key(feed), *check_target(feed), *check_table(feed)]
        found += [*check_parts(feed), *check_source(feed), *check_skipping(feed), *check_incremental(feed)]
        yield from found or _check_resolved(feed)


def _check_names(declared: Sequence[Feed]) -> Iterator[Error]:
    for name, count in Counter(feed.name for feed in declared).items():
        if count > 1:
            yield Error(
                f"{count} feeds are named {name!r}.",
                hint="Give each feed a name of its own: runs, cursors and schedules are kept by name.",
                obj=name,
                id="ingestion.E001",
            )
        if not _NAME.fullmatch(name):
            yield Error(
                f"The feed name {name!r} cannot be used.",
                hint="Use 1 to 100 letters, digits, '-' and '_', beginning with a letter or digit.",
                obj=name,
                id="ingestion.E002",
            )
    for feed in declared:
        if feed.group and not _NAME.fullmatch(feed.group):
            hint = "Use 1 to 100 letters, digits, '-' and '_', beginning with a letter or digit."
            yield error(feed, "E020", f"The group {feed.group!r} cannot be used.", hint)


def _check_resolved(feed: Feed) -> Iterator[CheckMessage]:
    """Try what every run begins with, once nothing else is wrong."""
    try:
        plan = feeds.resolve(feed)
    except ConfigurationError as refused:
        yield error(feed, "E011", f"{refused}.", "Change the default of the rule or of the model's field.")
        return
    if feed.skip_unchanged_pages:
        yield from _check_definition(plan)


def _check_definition(plan: Plan) -> Iterator[CheckMessage]:
    try:
        feeds.definition_of(plan)
    except Incomparable as why:
        yield Warning(
            f"Feed {plan.feed.name!r}: no page will be skipped: {why}.",
            hint="Make what the feed's functions use plain values, or take skip_unchanged_pages away.",
            obj=plan.feed.target.model,
            id="ingestion.W001",
        )
    except ConfigurationError:
        pass  # a URL that the environment does not have yet is nothing that a run would not say
