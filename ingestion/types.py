"""The values that travel through the stages; no behaviour, no I/O."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, overload

import msgspec

from ingestion.errors import RecordRejected
from ingestion.unchanged import Remembered

# JSON that says where a part goes on; never holds a secret.
Cursor = dict[str, Any]
# JSON that says what a part covers; empty for everything the source has. Never holds a secret either.
Share = dict[str, Any]
# One cleaned record: values in column order, None for NULL.
Row = tuple[Any, ...]
# One remote object as it was received: a view of its JSON text inside the page's body.
Record = msgspec.Raw


_cut = msgspec.json.Decoder(list[Record]).decode


class Records(Sequence[Record]):
    """The records of one JSON list, and its text, which they are cut out of again after they were folded.

    Raises:
        msgspec.MsgspecError, UnicodeDecodeError, RecursionError: the text is no JSON list.
    """

    def __init__(self, text: bytes) -> None:
        self.text = text
        self._records: list[Record] | None = _cut(text)
        self._number = len(self._records)

    def fold(self) -> None:
        """Keep the text alone."""
        self._records = None

    def __len__(self) -> int:
        return self._number

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if self._records is None:
            self._records = _cut(self.text)
        return self._records[index]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedFile:
    """A file that was read to its end, and in which version: both are the source's own words."""

    name: str
    version: str
    size_bytes: int | None = None
    modified_at: datetime | None = None
    records: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """One unit of fetch. `following` is the cursor of the next page, or None after the last one.

    `refused` says, by their position, what the source itself finds wrong with records. `file` is the file that ends
    with this page. `warning` is what people are to know of the run, once it has loaded the page.

    A source that can skip pages gives each a `digest` and a `note`. Of an `unchanged` page it gives what is remembered
    instead of the records, and with `reread` the page with its records after all.
    """

    number: int
    records: Sequence[Record]
    size_bytes: int
    following: Cursor | None
    refused: Mapping[int, RecordRejected] = field(default_factory=dict)
    file: LoadedFile | None = None
    warning: str = ""
    digest: bytes = b""
    note: str = ""
    unchanged: Remembered | None = None
    reread: "Callable[[], Page] | None" = None


# Asked with a page's number and digest: what is remembered of it, when it may be skipped.
Recall = Callable[[int, bytes], Remembered | None]
# Asked with a page's number before the page is asked for: what is remembered of it, when it may be skipped in any case.
Foresee = Callable[[int], Remembered | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejection:
    """A record that cannot become a row, and why.

    `raw` is the start of its text as received; `size_bytes` and the SHA-256 `digest` are of all of it.
    """

    reason: str
    field: str | None
    detail: str
    page: int
    position: int
    key: str | None
    raw: bytes
    size_bytes: int
    digest: str


@dataclass(kw_only=True, slots=True)
class Counts:
    """What happened to the records of a chunk; `read` is the sum of `inserted` to `rejected` without `deleted`.

    `skipped` records are not among those read. `coercions` counts `column:rule`. `warnings` are for people.
    """

    pages: int = 0
    pages_skipped: int = 0
    read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    duplicates: int = 0
    rejected: int = 0
    skipped: int = 0
    coercions: Counter[str] = field(default_factory=Counter)
    warnings: Sequence[str] = ()
