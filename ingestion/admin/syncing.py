"""What "Sync now" does: one request per feed, one wake-up for all, and an answer that says what happened."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from django.contrib import messages
from django.db import transaction
from django.utils.html import format_html
from django.utils.safestring import SafeString

from ingestion import runs, waking
from ingestion.admin import links
from ingestion.errors import ConfigurationError
from ingestion.models import Part, Run, Trigger


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of the wish to sync one feed. `run` is the feed's active run, or None when there cannot be one."""

    level: int
    text: SafeString
    run: Run | None = None


def sync(names: Iterable[str], *, by: str, full: bool = False) -> list[Answer]:
    """Queue a run of each feed that has no active one, and wake the workers.

    The wake-up is one for all: with a broker that is down it costs its timeout once, and dispatch finds the runs.

    Args:
        full: let them load every page, unchanged or not, and from the start.
    """
    answers: list[Answer] = []
    new: list[Run] = []
    for name in names:
        try:
            run, created = runs.request(name, trigger=Trigger.ADMIN, by=by, wake_workers=False, full=full)
        except ConfigurationError as error:
            answers.append(Answer(level=messages.ERROR, text=format_html("Feed {}: not started: {}.", name, error)))
            continue
        new += [run] if created else []
        answers.append(_started(name, run) if created else _already_running(name, run))
    parts = list(Part.objects.filter(run__in=new).values_list("pk", flat=True))
    transaction.on_commit(partial(waking.wake, parts))
    return answers


def _started(name: str, run: Run) -> Answer:
    return Answer(level=messages.SUCCESS, run=run, text=format_html("Feed {}: started {}.", name, links.to_run(run.pk)))


def _already_running(name: str, run: Run) -> Answer:
    text = format_html("Feed {}: already running since {}: {}.", name, runs.since(run), links.to_run(run.pk))
    return Answer(level=messages.WARNING, run=run, text=text)
