"""Where records come from: each source yields pages from a cursor on. Network I/O, and the database for TableRows."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from ingestion.sources.each import ForEach
from ingestion.sources.exports import Export
from ingestion.sources.files import S3, Csv, Disk, Excel, Facts, FileLimits, Files, Ftp, Json, Ndjson, Sftp, Web, Xml
from ingestion.sources.graphql import Connection, GraphQL
from ingestion.sources.json_api import JsonApi
from ingestion.sources.soap import Soap
from ingestion.sources.splitting import split_records
from ingestion.sources.table_rows import TableRows
from ingestion.types import Cursor, Foresee, Page, Recall

__all__ = [
    "S3",
    "ConcurrentSource",
    "Connection",
    "Csv",
    "Disk",
    "Excel",
    "Export",
    "Facts",
    "FileLimits",
    "Files",
    "FilteredSource",
    "ForEach",
    "Ftp",
    "GraphQL",
    "InformedSource",
    "Json",
    "JsonApi",
    "Ndjson",
    "Sftp",
    "SkippingSource",
    "Soap",
    "Source",
    "TableRows",
    "TidySource",
    "Web",
    "Xml",
    "split_records",
]


class Source(Protocol):
    """Anything that can be read page by page and resumed at a cursor."""

    def pages(self, cursor: Cursor | None) -> Iterator[Page]:
        """Yield the pages from `cursor` on, from the start when None; holds one page.

        Raises:
            RetryLater: a transient failure outlasted its retries.
            RunFailed: the remote's answer is not what the feed expects.
        """
        ...


@runtime_checkable
class ConcurrentSource(Source, Protocol):
    """A source that can ask for several things at once, because it knows their addresses."""

    @property
    def concurrency(self) -> int:
        """How many, as the feed says."""
        ...

    def pages_at_once(
        self, cursor: Cursor | None, recall: Recall | None, *, at_once: int, max_bytes: int
    ) -> Iterator[Page]:
        """Yield the pages as `pages` does, in the same order; those of a skipping source as `changed_pages` does.

        Args:
            recall: None to leave nothing unread.
            at_once: requests that are under way at the same time, at most.
            max_bytes: what has arrived and was not yet yielded, as far as whole pages allow.
        """
        ...


@runtime_checkable
class FilteredSource(Source, Protocol):
    """A source whose requests can say which records are wanted."""

    def with_values(self, values: Mapping[str, str | int]) -> Source:
        """Return the source with values for every request, by the name that each is sent as."""
        ...


@runtime_checkable
class InformedSource(Protocol):
    """A source that wants to know something of its feed before it is read."""

    def for_feed(self, facts: Facts) -> Source:
        """Return the source as one feed sees it."""
        ...


@runtime_checkable
class TidySource(Protocol):
    """A source with something to do after a run that succeeded."""

    def tidy(self) -> int:
        """Clear away what was loaded; return how much. Safe to do again.

        Raises:
            RetryLater: it cannot be done now; the next run does it.
        """
        ...


@runtime_checkable
class SkippingSource(Source, Protocol):
    """A source that can leave pages unread that are as they were when an earlier run loaded them."""

    def changed_pages(self, cursor: Cursor | None, recall: Recall, foresee: Foresee | None = None) -> Iterator[Page]:
        """Yield the pages as `pages` does, each with its digest; those that `recall` knows without their records.

        The digest is of everything that decides about the page's records, and of what was asked for. A page that
        `foresee` knows need not be received at all, and has no `reread`, where the remote says that it is unchanged.
        """
        ...

    def place(self) -> str:
        """Return a name of what the first page is asked for with: in every run the same for the same share."""
        ...

    def definition(self) -> Any:
        """Return what the source itself makes of what it receives, for comparison; never a secret.

        Raises:
            ConfigurationError: it cannot be known yet.
        """
        ...
