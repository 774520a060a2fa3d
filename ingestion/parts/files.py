"""Groups of files."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from ingestion import division
from ingestion.sources import Files, Source
from ingestion.sources.files.source import FilesOfFeed
from ingestion.types import Share


@dataclass(frozen=True, kw_only=True)
class FileGroups:
    """So many files each, of those that are due when the run begins."""

    files: int = 1

    def plan(self, source: Source, *, now: datetime) -> Sequence[Share]:
        """List the files that a part without a share would read, in its order."""
        assert isinstance(source, FilesOfFeed), "a system check has looked"
        due, has_unsafe = source.due()
        names = iter(due)
        shares: list[Share] = [{"files": group} for group in iter(lambda: list(islice(names, self.files)), [])]
        if has_unsafe:
            # Somebody has to tell of them, also when there is nothing else to read.
            shares = shares or [{"files": []}]
            shares[0]["unsafe"] = True
        return shares

    def bind(self, source: Source, share: Share) -> Source:
        """Return the source with the files of the share alone."""
        if not isinstance(source, Files) or "files" not in share:
            raise division.misfit(self)
        return source.named(share["files"], tells_unsafe=share.get("unsafe", False))

    def problem(self, source: Source) -> str | None:
        """Ask for a source of files, and for a number."""
        if not isinstance(source, Files):
            return "it has no files: FileGroups needs a source of the type Files"
        return None if self.files >= 1 else "FileGroups takes a number of files from 1 on"
