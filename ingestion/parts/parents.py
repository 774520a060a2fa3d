"""Groups of the parents whose children are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final

from ingestion import division
from ingestion.errors import RunFailed
from ingestion.sources import ForEach, Source
from ingestion.types import Share

# They are held in memory once, and stored with the parts.
MOST_PARENTS: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class ParentGroups:
    """So many parents each, of those that there are when the run begins."""

    parents: int = 100

    def plan(self, source: Source, *, now: datetime) -> Sequence[Share]:
        """Read all parents. Each has its place in one group, however often it comes."""
        assert isinstance(source, ForEach), "a system check has looked"
        known: dict[str | int, None] = {}
        for page in source.parents.pages(None):
            known |= dict.fromkeys(source.values(page))
            if len(known) > MOST_PARENTS:
                raise RunFailed("too_many_records", f"more than {MOST_PARENTS:,} parents")
        values = iter(known)
        return [{"parents": group} for group in iter(lambda: list(islice(values, self.parents)), [])]

    def bind(self, source: Source, share: Share) -> Source:
        """Return the source with the parents of the share alone."""
        if not isinstance(source, ForEach) or "parents" not in share:
            raise division.misfit(self)
        return source.of(share["parents"])

    def problem(self, source: Source) -> str | None:
        """Ask for a source with parents, and for a number."""
        if not isinstance(source, ForEach):
            return "it has no parents: ParentGroups needs a source of the type ForEach"
        return None if self.parents >= 1 else "ParentGroups takes a number of parents from 1 on"
