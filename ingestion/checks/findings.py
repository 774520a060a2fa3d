"""What a check has found, as Django shows it."""

from django.core.checks import Error

from ingestion.feeds import Feed


def error(feed: Feed, number: str, message: str, hint: str) -> Error:
    """Return an error of a feed: `ingestion.E` and a number, what is wrong, and what to do."""
    return Error(f"Feed {feed.name!r}: {message}", hint=hint, obj=feed.target.model, id=f"ingestion.{number}")
