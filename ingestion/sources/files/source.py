"""Files as a source: which of them are read, in which order, from where on."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Final, Literal

import structlog

from ingestion.errors import ConfigurationError, RecordRejected, RetryLater, RunFailed
from ingestion.http import Retry
from ingestion.sources.files.entries import Entry, Place, Session, check_pattern
from ingestion.sources.files.formats import Block, Facts, Format
from ingestion.sources.files.limits import FileLimits
from ingestion.sources.files.reading import Steady, decoded, patiently
from ingestion.types import Cursor, LoadedFile, Page, Record

log = structlog.get_logger(__name__)

_SUFFIXES: Final = {".gz": "gzip", ".zip": "zip"}
# Names are remembered in an indexed column; S3 allows no longer ones either.
_NAME_BYTES: Final = 1024


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

    def __post_init__(self) -> None:
        check_pattern(self.pattern)
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


class FilesOfFeed:
    """The files that one feed still has to load, or those of them that have names."""

    def __init__(self, files: Files, facts: Facts, named: NamedFiles | None = None) -> None:
        self._files, self._facts, self._named = files, facts, named

    def pages(self, cursor: Cursor | None) -> Iterator[Page]:
        """Yield the pages of one file after the other; the last one of each says which file it ends.

        Raises:
            RetryLater: the place cannot be reached, or a file was changed while it was read.
            RunFailed: a file is not what the feed expects.
        """
        with self._listed() as (session, listed):
            due = self._due(listed, cursor)
            number: int = cursor["pages"] if cursor else 0
            unsafe = [entry for entry in listed if entry.problem]
            if unsafe and cursor is None and (self._named is None or self._named.tells_unsafe):
                number = 1
                yield _refusals(unsafe, {"pages": 1, "after": None, "file": None} if due else None)
            for turn, entry in enumerate(due, start=1):
                after = {"after": self._order_key(entry), "file": None} if turn < len(due) else None
                at = self._resumed(entry, cursor)
                for block, following, file in self._blocks(session, entry, at, after):
                    number += 1
                    yield Page(
                        number=number,
                        records=block.records,
                        size_bytes=block.size_bytes,
                        following=following and following | {"pages": number},
                        refused=block.refused,
                        file=file,
                    )

    def due(self) -> tuple[list[str], bool]:
        """Return the names of the files that a run would read, in their order, and whether others cannot be read.

        Raises:
            RetryLater: the place cannot be reached.
        """
        with self._listed() as (_, listed):
            # Two files may look alike: whoever asks for the name gets one of them, and the next run the other one.
            names = dict.fromkeys(entry.name for entry in self._due(listed, None))
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
        """Connect and list the files, in their order; the listing is held, up to the limit of files."""
        with ExitStack() as stack:
            session, found = patiently(self._files.retry, lambda: self._list(stack))
            yield session, sorted(found, key=self._order_key)

    def _list(self, stack: ExitStack) -> tuple[Session, list[Entry]]:
        files = self._files
        session = stack.enter_context(files.place.session())
        limit = files.limits.files
        found = list(islice(session.find(files.pattern), limit + 1))
        if len(found) > limit:
            raise RunFailed("too_many_files", f"more than {limit} files match {files.pattern!r}")
        moved = f"{files.move_to}/"
        return session, [_checked(entry) for entry in found if not entry.name.startswith(moved)]

    def _order_key(self, entry: Entry) -> list[str]:
        if self._files.order == "name" or entry.modified_at is None:
            return ["", entry.name]
        return [entry.modified_at.isoformat(timespec="microseconds"), entry.name]

    def _due(self, listed: list[Entry], cursor: Cursor | None) -> list[Entry]:
        """Return what is still to be read, what was begun first."""
        if self._named is not None:
            return self._due_of(self._named.names, listed, cursor)
        begun = cursor["file"] if cursor else None
        after = cursor["after"] if cursor else None
        first = [entry for entry in listed if begun is not None and entry.name == begun]
        if begun is not None and not first:
            raise RetryLater(f"{begun} was removed while it was read")
        return first + [
            entry
            for entry in listed
            if entry.name != begun and (after is None or self._order_key(entry) > after) and self._is_wanted(entry)
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
        settled = datetime.now(UTC) - self._files.settled_for
        is_growing = self._files.settled_for and entry.modified_at and entry.modified_at > settled
        return not (entry.problem or is_growing or self._is_loaded(entry))

    def _is_loaded(self, entry: Entry) -> bool:
        is_known = bool(entry.version) and self._facts.loaded.get(entry.name) == entry.version
        return is_known and self._files.reload == "changed"

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

    def _check_not_empty(self, *, is_empty: bool) -> None:
        if is_empty and not self._files.may_be_empty:
            raise RunFailed("empty_file", "there is no record in it")

    def _blocks(
        self, session: Session, entry: Entry, at: Cursor | None, after: Cursor | None
    ) -> Iterator[tuple[Block, Cursor | None, LoadedFile | None]]:
        """Yield a file's blocks with their cursors, and the file with the last one."""
        files = self._files
        compression = files.compression or _compression_of(entry.name)
        offset = files.format.offset(at)
        start = offset if compression == "none" else 0
        steady = Steady(session, entry, offset=start, retry=files.retry, limits=files.limits)
        is_empty = at is None
        try:
            with decoded(steady, compression, member=files.member, limits=files.limits) as stream:
                stream.skip(offset)
                for block in files.format.blocks(stream, at, self._facts, files.limits):
                    is_empty = is_empty and not block.records
                    if block.following is not None:
                        begun = {"file": entry.name, "version": entry.version, "at": block.following}
                        yield block, {"after": self._order_key(entry), **begun}, None
                        continue
                    steady.finish()
                    self._check_not_empty(is_empty=is_empty)
                    yield block, after, _loaded(entry)
        except RunFailed as error:
            # Half a file explains most of what can be wrong with one.
            steady.finish()
            raise error.within(entry.name) from error
        finally:
            steady.close()


def _compression_of(name: str) -> str:
    return next((kind for suffix, kind in _SUFFIXES.items() if name.lower().endswith(suffix)), "none")


def _checked(entry: Entry) -> Entry:
    if not entry.problem and len(entry.name.encode()) > _NAME_BYTES:
        return replace(entry, problem=f"its name has more than {_NAME_BYTES} bytes")
    return entry


def _loaded(entry: Entry) -> LoadedFile | None:
    """Return what is remembered of a file; nothing where its place cannot tell one version from another."""
    if not entry.version:
        return None
    return LoadedFile(
        name=entry.name, version=entry.version, size_bytes=entry.size_bytes, modified_at=entry.modified_at
    )


def _refusals(entries: list[Entry], following: Cursor | None) -> Page:
    """Return a page of files that cannot be read, each of which is a reject with its name."""
    return Page(
        number=1,
        records=[Record(entry.name.encode()) for entry in entries],
        size_bytes=sum(len(entry.name) for entry in entries),
        following=following,
        refused={
            position: RecordRejected("unsafe_name", detail=f"the file was not read: {entry.problem}")
            for position, entry in enumerate(entries)
        },
    )


def _dated(entry: Entry) -> str:
    """Return the file's own name with the time of its last change in front, so that none replaces another."""
    stamp = f"{entry.modified_at:%Y%m%dT%H%M%S}-" if entry.modified_at else ""
    return stamp + entry.name.rsplit("/", maxsplit=1)[-1]
