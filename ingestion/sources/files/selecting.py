"""Which files of a listing are read, and in which order. Pure, no I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from ingestion.errors import RetryLater
from ingestion.sources.files.entries import Entry
from ingestion.types import Cursor


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is read of a listing.

    Args:
        order, reload, settled_for: as of Files.
        loaded: the files that were loaded before, and in which version.
        names: of the files that are looked at, in their order; all of them when None.
    """

    order: Literal["modified", "name"]
    reload: Literal["changed", "always"]
    settled_for: timedelta
    loaded: Mapping[str, str]
    names: Sequence[str] | None = None

    def order_key(self, entry: Entry) -> list[str]:
        if self.order == "name" or entry.modified_at is None:
            return ["", entry.name]
        return [entry.modified_at.isoformat(timespec="microseconds"), entry.name]

    def due(self, listed: list[Entry], cursor: Cursor | None) -> list[Entry]:
        """Return what is still to be read, what was begun first."""
        if self.names is not None:
            return self._due_of(self.names, listed, cursor)
        begun = cursor["file"] if cursor else None
        after = cursor["after"] if cursor else None
        first = [entry for entry in listed if begun is not None and entry.name == begun]
        if begun is not None and not first:
            raise RetryLater(f"{begun} was removed while it was read")
        return first + [
            entry
            for entry in listed
            if entry.name != begun and (after is None or self.order_key(entry) > after) and self._is_wanted(entry)
        ]

    def _due_of(self, names: Sequence[str], listed: list[Entry], cursor: Cursor | None) -> list[Entry]:
        """Return what is still to be read of the files with names. One that is gone is no file without records."""
        begun = cursor["file"] if cursor else None
        if cursor and cursor["after"]:
            last = names.index(cursor["after"][-1])
            names = names[last if begun is not None else last + 1 :]
        found = {entry.name: entry for entry in listed if not entry.problem}
        for name in names:
            if name not in found:
                when = "while" if name == begun else "before"
                raise RetryLater(f"{name} was removed {when} it was read")
        return [found[name] for name in names if name == begun or self._is_wanted(found[name])]

    def _is_wanted(self, entry: Entry) -> bool:
        settled = datetime.now(UTC) - self.settled_for
        is_growing = self.settled_for and entry.modified_at and entry.modified_at > settled
        return not (entry.problem or is_growing or self._is_loaded(entry))

    def _is_loaded(self, entry: Entry) -> bool:
        is_known = bool(entry.version) and self.loaded.get(entry.name) == entry.version
        return is_known and self.reload == "changed"
