"""What a way to cut a run into parts has to tell."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from ingestion.sources import Source
from ingestion.types import Share


class Parts(Protocol):
    """A way to cut what a source has into shares."""

    def plan(self, source: Source, *, now: datetime) -> Sequence[Share]:
        """Return the shares of a run; may ask the remote. No share means that there is nothing to read.

        An empty share is all that the source has, undivided.

        Raises:
            RetryLater: a transient failure outlasted its retries.
            RunFailed: the remote's answer does not tell how to divide.
        """
        ...

    def bind(self, source: Source, share: Share) -> Source:
        """Return the source reduced to a share.

        Raises:
            RunFailed: `share`: it is none of these parts', as the feed had others when the run began.
        """
        ...

    def problem(self, source: Source) -> str | None:
        """Say why this source cannot be cut so, for a system check; None when it can."""
        ...


@runtime_checkable
class Periods(Parts, Protocol):
    """A way to cut a source into periods of time, any of which can be read by itself."""

    def between(self, start: datetime, end: datetime) -> Sequence[Share]:
        """Return the shares from `start` to before `end`.

        Raises:
            RunFailed: `too_many_parts`.
        """
        ...

    def beginning(self, start: datetime) -> Parts:
        """Return the same periods, the first of which begins at `start`."""
        ...
