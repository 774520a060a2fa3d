"""Files as a source: which of them are read, in which order, from where on."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final, Literal

import structlog

from ingestion.errors import ConfigurationError, RunFailed
from ingestion.http import Retry
from ingestion.sources.ahead import in_order
from ingestion.sources.files.entries import Entry, Place, Session, check_pattern
from ingestion.sources.files.formats import Block, Facts, Format
from ingestion.sources.files.limits import FileLimits
from ingestion.sources.files.listing import Listing, refusals
from ingestion.sources.files.reading import Steady
from ingestion.sources.files.selecting import Selection
from ingestion.sources.files.unpacking import decoded
from ingestion.sources.patience import patiently
from ingestion.types import Cursor, LoadedFile, Page, Recall

log = structlog.get_logger(__name__)

_SUFFIXES: Final[dict[str, Literal["gzip", "zip"]]] = {".gz": "gzip", ".zip": "zip"}


@dataclass(frozen=True, kw_only=True)
class Files:
    """Files whose names match a pattern, one after the other.

    Args:
        place: where they are.
        pattern: a glob; `*` and `?` stop at slashes, `**/` is any number of folders.
        format: how records are written in them.
        compression: `"none"`, `"gzip"` or `"zip"`; by the name's suffix (.gz, .zip) when None.
        member: pattern of the one member to read of a zip file.
        order: what is read first: the oldest, or the first by name.
        reload: `"changed"` reads a file again when it is another version than the one that was loaded; `"always"`
            reads every file in every run.
        settled_for: files changed less than this ago wait for the next run.
        may_be_empty: whether a file without any record is fine.
        move_to: a folder of the place, where files are moved after a run that has loaded them succeeded.
        concurrency: files that are read at once.
    """

    place: Place
    format: Format
    pattern: str = "**"
    compression: Literal["none", "gzip", "zip"] | None = None
    member: str = "**"
    order: Literal["modified", "name"] = "modified"
    reload: Literal["changed", "always"] = "changed"
    settled_for: timedelta = timedelta(0)
    may_be_empty: bool = True
    move_to: str | None = None
    retry: Retry = field(default_factory=Retry)
    limits: FileLimits = field(default_factory=FileLimits)
    concurrency: int = 1

    def __post_init__(self) -> None:
        check_pattern(self.pattern)
        if self.concurrency < 1:
            raise ConfigurationError(f"Files(concurrency={self.concurrency}): one file is read at least")
        if self.move_to is not None:
            check_pattern(self.move_to)
        choices = (self.compression, (None, "none", "gzip", "zip")), (self.order, ("modified", "name"))
        for given, allowed in (*choices, (self.reload, ("changed", "always"))):
            if given not in allowed:
                raise ConfigurationError(f"Files: {given!r} is none of {', '.join(map(str, allowed))}")

    def pages(self, cursor: Cursor | None) -> Iterator[Page]:
        """Yield the pages of all files, as if none had been loaded before."""
        return self.for_feed(Facts()).pages(cursor)

    def for_feed(self, facts: Facts) -> "FilesOfFeed":
        """Return the source as one feed sees it."""
        return FilesOfFeed(self, facts)

    def named(self, names: Sequence[str], *, tells_unsafe: bool = False) -> "NamedFiles":
        """Return the source with these files alone, in this order.

        Args:
            tells_unsafe: whether files that cannot be read are rejected here.
        """
        return NamedFiles(files=self, names=tuple(names), tells_unsafe=tells_unsafe)


@dataclass(frozen=True, kw_only=True)
class NamedFiles:
    """Some of a source's files, in their order."""

    files: Files
    names: tuple[str, ...]
    tells_unsafe: bool

    def pages(self, cursor: Cursor | None) -> Iterator[Page]:
        """Yield their pages, as if none had been loaded before."""
        return self.for_feed(Facts()).pages(cursor)

    def for_feed(self, facts: Facts) -> "FilesOfFeed":
        """Return the source as one feed sees it."""
        return FilesOfFeed(self.files, facts, self)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Turn:
    """A file that is to be read: from where on, how many records came before, and the cursor behind it."""

    entry: Entry
    at: Cursor | None
    records: int | None
    after: Cursor | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Piece:
    """A block of a file, the cursor behind it, and the file with the last one."""

    block: Block
    following: Cursor | None
    file: LoadedFile | None = None

    @property
    def size_bytes(self) -> int:
        return self.block.size_bytes


class FilesOfFeed:
    """The files that one feed still has to load, or those of them that have names."""

    def __init__(self, files: Files, facts: Facts, named: NamedFiles | None = None) -> None:
        self._files, self._facts, self._named = files, facts, named
        self._selection = Selection(
            order=files.order,
            reload=files.reload,
            settled_for=files.settled_for,
            loaded=facts.loaded,
            names=None if named is None else named.names,
        )
        self._listing = Listing(
            place=files.place,
            pattern=files.pattern,
            retry=files.retry,
            most=files.limits.files,
            but=files.move_to,
        )

    def pages(self, cursor: Cursor | None) -> Iterator[Page]:
        """Yield the pages of one file after the other; the last one of each says which file it ends.

        Raises:
            RetryLater: the place cannot be reached, or a file was changed while it was read.
            RunFailed: a file is not what the feed expects.
        """
        return self._pages(cursor, self._one_by_one)

    def pages_at_once(
        self, cursor: Cursor | None, recall: Recall | None, *, at_once: int, max_bytes: int
    ) -> Iterator[Page]:
        """Yield the pages as `pages` does, while the files behind the first one are read already."""

        def read(session: Session, turns: Iterable[_Turn]) -> Iterator[_Piece]:
            streams = (partial(self._pieces, turn) for turn in turns)
            return in_order(streams, tool=self._listing.connected, at_once=at_once, max_bytes=max_bytes)

        return self._pages(cursor, read)

    @property
    def concurrency(self) -> int:
        return self._files.concurrency

    def _pages(
        self, cursor: Cursor | None, read: Callable[[Session, Iterable["_Turn"]], Iterator["_Piece"]]
    ) -> Iterator[Page]:
        with self._listed() as (session, listed):
            due = self._selection.due(listed, cursor)
            number: int = cursor["pages"] if cursor else 0
            unsafe = [entry for entry in listed if entry.problem]
            if unsafe and cursor is None and (self._named is None or self._named.tells_unsafe):
                number = 1
                yield refusals(unsafe, {"pages": 1, "after": None, "file": None} if due else None)
            for piece in read(session, self._turns(due, cursor)):
                number += 1
                yield Page(
                    number=number,
                    records=piece.block.records,
                    size_bytes=piece.block.size_bytes,
                    following=piece.following and piece.following | {"pages": number},
                    refused=piece.block.refused,
                    file=piece.file,
                )

    def _turns(self, due: list[Entry], cursor: Cursor | None) -> Iterator["_Turn"]:
        for number, entry in enumerate(due, start=1):
            after = {"after": self._selection.order_key(entry), "file": None} if number < len(due) else None
            at = self._resumed(entry, cursor)
            # A cursor of a version that did not count has no number.
            records = cursor.get("records") if at is not None and cursor else 0
            yield _Turn(entry=entry, at=at, records=records, after=after)

    def _one_by_one(self, session: Session, turns: Iterable["_Turn"]) -> Iterator["_Piece"]:
        for turn in turns:
            yield from self._pieces(turn, session)

    def due(self) -> tuple[list[str], bool]:
        """Return the names of the files that a run would read, in their order, and whether others cannot be read.

        Raises:
            RetryLater: the place cannot be reached.
        """
        with self._listed() as (_, listed):
            # Two files may look alike: whoever asks for the name gets one of them, and the next run the other one.
            names = dict.fromkeys(entry.name for entry in self._selection.due(listed, None))
            return list(names), any(entry.problem for entry in listed)

    def tidy(self) -> int:
        """Move the files that were loaded in their present version, where the feed wants that; return how many.

        Raises:
            RetryLater: the place cannot be reached.
        """
        folder, moved = self._files.move_to, 0
        if folder is None:
            return 0
        with self._listed() as (session, listed):
            for entry in listed:
                if entry.problem or not entry.version or self._facts.loaded.get(entry.name) != entry.version:
                    continue
                patiently(self._files.retry, partial(session.move, entry, f"{folder}/{_dated(entry)}"))
                moved += 1
        return moved

    @contextmanager
    def _listed(self) -> Iterator[tuple[Session, list[Entry]]]:
        """List the files in their order."""
        with self._listing.listed() as (session, found):
            yield session, sorted(found, key=self._selection.order_key)

    def _resumed(self, entry: Entry, cursor: Cursor | None) -> Cursor | None:
        """Return where a file goes on; None begins it, also when it is no longer the one that was begun."""
        if not cursor or cursor["file"] != entry.name:
            return None
        if entry.version and cursor["version"] == entry.version:
            at: Cursor = cursor["at"]
            return at
        if not self._facts.is_keyed:
            raise RunFailed(
                "file_changed",
                f"{entry.name} is another version than the one whose first records were loaded; beginning again would "
                "insert them twice",
            )
        log.warning("file is read again: it was changed", file=entry.name)
        return None

    def _within(self, entry: Entry, at: Cursor, records: int | None) -> Cursor:
        """Return the cursor of a place inside a file."""
        begun = {"file": entry.name, "version": entry.version, "at": at, "records": records}
        return {"after": self._selection.order_key(entry), **begun}

    def _check_not_empty(self, *, is_empty: bool) -> None:
        if is_empty and not self._files.may_be_empty:
            raise RunFailed("empty_file", "there is no record in it")

    def _pieces(self, turn: "_Turn", session: Session) -> Iterator["_Piece"]:
        """Yield a file's blocks with their cursors, and the file with the last one."""
        entry, at, records = turn.entry, turn.at, turn.records
        files = self._files
        compression = files.compression or compression_of(entry.name)
        offset = files.format.offset(at)
        start = offset if compression == "none" else 0
        steady = Steady(session, entry, offset=start, retry=files.retry, limits=files.limits)
        is_empty = at is None
        try:
            with decoded(steady, compression, member=files.member, limits=files.limits) as stream:
                stream.skip(offset)
                for block in files.format.blocks(stream, at, self._facts, files.limits):
                    is_empty = is_empty and not block.records
                    records = None if records is None else records + len(block.records)
                    if block.following is not None:
                        yield _Piece(block=block, following=self._within(entry, block.following, records))
                        continue
                    steady.finish(ends_with_line=compression == "none" and files.format.ends_with_line)
                    self._check_not_empty(is_empty=is_empty)
                    yield _Piece(block=block, following=turn.after, file=_loaded(entry, records))
        except RunFailed as error:
            # Half a file explains most of what can be wrong with one.
            steady.finish()
            raise error.within(entry.name) from error
        finally:
            steady.close()


def compression_of(name: str) -> Literal["none", "gzip", "zip"]:
    """Return how a file of that name is compressed, by its suffix."""
    return next((kind for suffix, kind in _SUFFIXES.items() if name.lower().endswith(suffix)), "none")


def _loaded(entry: Entry, records: int | None) -> LoadedFile | None:
    """Return what is remembered of a file; nothing where its place cannot tell one version from another."""
    if not entry.version:
        return None
    return LoadedFile(
        name=entry.name,
        version=entry.version,
        size_bytes=entry.size_bytes,
        modified_at=entry.modified_at,
        records=records,
    )


def _dated(entry: Entry) -> str:
    """Return the file's own name with the time of its last change in front, so that none replaces another."""
    stamp = f"{entry.modified_at:%Y%m%dT%H%M%S}-" if entry.modified_at else ""
    return stamp + entry.name.rsplit("/", maxsplit=1)[-1]
