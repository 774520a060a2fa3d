"""Where records come from: each source yields pages from a cursor on. Network I/O, no database."""

from collections.abc import Iterator
from typing import Protocol

from ingestion.sources.json_api import JsonApi
from ingestion.sources.splitting import split_records
from ingestion.types import Cursor, Page

__all__ = ["JsonApi", "Source", "split_records"]


class Source(Protocol):
    """Anything that can be read page by page and resumed at a cursor."""

    def pages(self, cursor: Cursor | None) -> Iterator[Page]:
        """Yield the pages from `cursor` on, from the start when None; holds one page.

        Raises:
            RetryLater: a transient failure outlasted its retries.
            RunFailed: the remote's answer is not what the feed expects.
        """
        ...
