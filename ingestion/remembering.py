"""What is remembered of files: which were loaded in which version, committed with their last rows."""

from collections.abc import Sequence
from dataclasses import replace

import structlog
from django.db.models.functions import Now
from django.utils.crypto import salted_hmac

from ingestion import feeds
from ingestion.cleaning import UNSET
from ingestion.errors import IngestionError
from ingestion.feeds import Feed
from ingestion.models import Part, Run, SourceFile, State
from ingestion.sources import Facts, InformedSource, Source, TidySource
from ingestion.types import LoadedFile

log = structlog.get_logger(__name__)


def informed(source: Source, feed: Feed, part: Part, *, frees_worker: bool = False) -> Source:
    """Return a feed's source, or its share of a part, told what it wants to know of its feed.

    Args:
        frees_worker: let the source end a slice where it would wait for long.
    """
    if not isinstance(source, InformedSource):
        return source
    facts = _facts(feed, {} if part.run.full else _loaded(part))
    return source.for_feed(replace(facts, frees_worker=frees_worker, key=_key(part)))


def _key(part: Part) -> str:
    # Of this installation: another one may have a run of the same number, and the same account.
    return salted_hmac("ingestion.run", f"{part.run_id} {part.number} {part.run.resumes}").hexdigest()[:32]


def _loaded(part: Part) -> dict[str, str]:
    return dict(SourceFile.objects.filter(feed=part.run.feed_id).values_list("name", "version"))


def _facts(feed: Feed, loaded: dict[str, str]) -> Facts:
    rules = [feeds.as_rule(rule) for rule in feed.columns.values()]
    rules += [inner for rule in rules if rule.relation for inner in rule.relation.parts]
    needed = (rule.path[0] for rule in rules if rule.path and rule.default is UNSET and not rule.others)
    return Facts(
        fields=frozenset(needed),
        takes_whole=any(rule.path is None for rule in rules),
        is_keyed=bool(feed.target.key_fields),
        loaded=loaded,
    )


def remember(part: Part, files: Sequence[LoadedFile]) -> None:
    """Note that these files were read to their end, in the caller's transaction."""
    latest = {file.name: file for file in files}
    SourceFile.objects.bulk_create(
        [
            SourceFile(
                feed=part.run.feed,
                run=part.run,
                name=file.name,
                version=file.version,
                size_bytes=file.size_bytes,
                modified_at=file.modified_at,
                records=file.records,
                loaded_at=Now(),
            )
            for file in latest.values()
        ],
        update_conflicts=True,
        unique_fields=["feed", "name"],
        update_fields=["run", "version", "size_bytes", "modified_at", "records", "loaded_at"],
    )


def tidy(feed: Feed, part: Part) -> None:
    """Let the source clear away what the run has loaded, when this part was its last one and it has succeeded.

    A failure is logged and left to the next run.
    """
    source = feed.source
    if isinstance(source, InformedSource):
        source = source.for_feed(_facts(feed, _loaded(part)))
    if not isinstance(source, TidySource) or not Run.objects.filter(pk=part.run_id, state=State.SUCCEEDED).exists():
        return
    try:
        moved = source.tidy()
    except (IngestionError, OSError) as error:
        log.warning("could not clear away loaded files; the next run will", error=str(error))
        return
    if moved:
        log.info("cleared away loaded files", files=moved)


def forget_files(feed: str, names: Sequence[str]) -> int:
    """Forget files, so that the feed's next run reads them again; return how many were known."""
    return SourceFile.objects.filter(feed__name=feed, name__in=names).delete()[0]
