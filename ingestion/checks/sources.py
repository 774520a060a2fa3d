"""Checks of what a feed reads: whether its source goes with its target, its parts and what it leaves out."""

from collections.abc import Iterator

from django.core.checks import Error

from ingestion.checks.findings import error
from ingestion.feeds import Append, Feed, Mirror, Replace, Upsert
from ingestion.parts import Windows
from ingestion.sources import Files, SkippingSource


def check_source(feed: Feed) -> Iterator[Error]:
    """Check that a source leaves nothing out that the target would take for gone."""
    if not isinstance(feed.source, Files) or not isinstance(feed.target, Replace | Mirror):
        return
    takes = f"and a {type(feed.target).__name__} takes their rows for gone."
    if feed.source.reload != "always":
        hint = 'Give the source reload="always", or use another target.'
        yield error(feed, "E018", f"its source leaves out files that were loaded before, {takes}", hint)
    if feed.source.settled_for:
        hint = "Give the source no settled_for, or use another target."
        yield error(feed, "E018", f"its source leaves out files that were changed just now, {takes}", hint)


def check_parts(feed: Feed) -> Iterator[Error]:
    """Check that the source can be cut into the parts, and that the target allows it."""
    if feed.parts is None:
        return
    if problem := feed.parts.problem(feed.source):
        yield error(feed, "E015", f"It cannot be cut into parts: {problem}.", "Change the parts or the source.")
    is_whole = isinstance(feed.target, Replace) or (isinstance(feed.target, Mirror) and feed.target.scope is None)
    if isinstance(feed.parts, Windows) and is_whole:
        yield error(
            feed,
            "E015",
            "It reads windows of time, and its target would delete the rows from before them.",
            "Give the Mirror a scope that covers the windows alone, or take an Upsert.",
        )
    if feed.parts_at_once < 1:
        yield error(feed, "E015", "parts_at_once is less than 1.", "Allow one part at once, or more.")


def check_skipping(feed: Feed) -> Iterator[Error]:
    """Check that unchanged pages can be skipped, where the feed wants that."""
    if not feed.skip_unchanged_pages:
        return
    mode = type(feed.target).__name__
    if not isinstance(feed.target, Upsert):
        hint = "Take skip_unchanged_pages away, or use Upsert: the others need the records of every page."
        yield error(feed, "E019", f"{mode} cannot skip unchanged pages.", hint)
    if not isinstance(feed.source, SkippingSource):
        hint = "Take skip_unchanged_pages away, or give the source the methods of ingestion.sources.SkippingSource."
        yield error(feed, "E019", f"{type(feed.source).__name__} cannot skip unchanged pages.", hint)


def check_incremental(feed: Feed) -> Iterator[Error]:
    """Check that the source can be asked for what has changed, and that the target keeps the rest."""
    if feed.incremental is None:
        return
    if problem := feed.incremental.problem(feed.source, feed.parts):
        hint = "Correct incremental=…, or take another source."
        if isinstance(feed.source, Files):
            hint = "Take incremental away: files are remembered with their versions, and read when they have changed."
        yield error(feed, "E021", f"It cannot be incremental: {problem}.", hint)
    mode = type(feed.target).__name__
    if isinstance(feed.target, Replace | Mirror):
        hint = "Use Upsert or History, or read everything each time."
        yield error(feed, "E021", f"A {mode} takes what an incremental feed did not ask for as gone.", hint)
    if isinstance(feed.target, Append):
        hint = "Use Upsert or History: they leave rows alone that are equal."
        yield error(feed, "E021", f"{mode} would insert again what an incremental feed reads again.", hint)
    if feed.skip_unchanged_pages:
        hint = "Take skip_unchanged_pages away: what an incremental feed asks for has changed."
        yield error(feed, "E021", "An incremental feed has other pages in each run.", hint)
