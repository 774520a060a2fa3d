"""Pages asked for with named values: variables of a GraphQL query, elements of a SOAP request. Pure, no I/O.

Names may be paths: `"filter.page"` is the member `page` of the argument `filter`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ingestion.errors import ConfigurationError, RunFailed
from ingestion.pagination import Received
from ingestion.types import Cursor

# More records than anybody has; Python refuses to read numbers of thousands of digits.
_TOTAL_DIGITS: Final = 18
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer(Received):
    """What is known of an answer. Paths begin below `data`, or at the element that answers.

    `page_info` is that of a GraphQL connection.
    """

    page_info: Mapping[str, Any] | None = None


class ArgumentPaginator(Protocol):
    """Cursor in, arguments out; cursor and answer in, next cursor out."""

    def first(self) -> Cursor:
        """Return the cursor of the first page."""
        ...

    def params(self, cursor: Cursor) -> Mapping[str, Any]:
        """Return the arguments that ask for the page at `cursor`."""
        ...

    def following(self, cursor: Cursor, received: Answer) -> Cursor | None:
        """Return the cursor of the next page, or None when this page was the last.

        Raises:
            RunFailed: the answers contradict each other, so that completeness cannot be promised.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Connection:
    """The pages of a GraphQL connection: `endCursor` goes into the variable `after`, while `hasNextPage` is true."""

    after: str = "after"
    size: int | None = None
    size_argument: str = "first"

    def first(self) -> Cursor:
        return {"after": None}

    def params(self, cursor: Cursor) -> dict[str, Any]:
        size = {} if self.size is None else {self.size_argument: self.size}
        return size | {self.after: cursor["after"]}

    def following(self, cursor: Cursor, received: Answer) -> Cursor | None:
        info = received.page_info
        if info is None or "hasNextPage" not in info:
            raise RunFailed("shape", "the connection tells no pageInfo { endCursor hasNextPage }; ask for both")
        if not _as_boolean(info["hasNextPage"], "hasNextPage"):
            return None
        return _after(info.get("endCursor"), cursor["after"], "endCursor") or _no_cursor("hasNextPage is true")


@dataclass(frozen=True, kw_only=True)
class CursorArgument:
    """The next page's cursor is at `cursor` of each answer, and goes into the argument `name`.

    A missing, null or empty one is the end; 0 is a cursor. Where `more` names a boolean, that decides: true without a
    cursor is an error.
    """

    name: str
    cursor: tuple[str, ...]
    more: tuple[str, ...] = ()
    size: int | None = None
    size_argument: str = "limit"

    def first(self) -> Cursor:
        return {"after": None}

    def params(self, cursor: Cursor) -> dict[str, Any]:
        params = {} if self.size is None else {self.size_argument: self.size}
        return params if cursor["after"] is None else params | {self.name: cursor["after"]}

    def following(self, cursor: Cursor, received: Answer) -> Cursor | None:
        at = ".".join(self.cursor)
        found = _after(received.value(self.cursor), cursor["after"], at)
        if self.more:
            more = ".".join(self.more)
            if not _as_boolean(received.value(self.more), more):
                return None
            return found or _no_cursor(f"{more} is true")
        return found


@dataclass(frozen=True, kw_only=True)
class OffsetArgument:
    """Pages asked for by how many records come before them, which is what was received so far.

    An empty page ends the collection, and so does one shorter than `size` after a full one. Where `total` is the path
    of the number of all records, reaching it ends it too, and ending short of it fails.
    """

    name: str
    size: int
    size_argument: str | None = None
    total: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _refuse_size(self.size, type(self).__name__)

    def first(self) -> Cursor:
        return {"received": 0, "full": False, "total": None}

    def params(self, cursor: Cursor) -> dict[str, Any]:
        return {self.name: cursor["received"]} | _sized(self.size_argument, self.size)

    def following(self, cursor: Cursor, received: Answer) -> Cursor | None:
        return _counted(cursor, received, self.size, self.total)


@dataclass(frozen=True, kw_only=True)
class PageArgument:
    """Pages asked for by their number, counted from `start`. They end as those of `OffsetArgument` do."""

    name: str
    size: int
    size_argument: str | None = None
    start: int = 1
    total: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _refuse_size(self.size, type(self).__name__)

    def first(self) -> Cursor:
        return {"page": self.start, "received": 0, "full": False, "total": None}

    def params(self, cursor: Cursor) -> dict[str, Any]:
        return {self.name: cursor["page"]} | _sized(self.size_argument, self.size)

    def following(self, cursor: Cursor, received: Answer) -> Cursor | None:
        following = _counted(cursor, received, self.size, self.total)
        return following and {"page": cursor["page"] + 1, **following}


def nested(arguments: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with those of a page put where their names say."""
    whole = dict(arguments)
    for name, value in params.items():
        *outer, last = name.split(".")
        level = whole
        for key in outer:
            inner = level.get(key)
            level[key] = dict(inner) if isinstance(inner, Mapping) else {}
            level = level[key]
        level[last] = value
    return whole


def _refuse_size(size: int, name: str) -> None:
    if size < 1:
        raise ConfigurationError(f"{name}(size={size}): a page holds at least one record")


def _sized(argument: str | None, size: int) -> dict[str, Any]:
    return {argument: size} if argument else {}


def _after(found: Any, asked: Any, where: str) -> Cursor | None:
    if found is None or found == "":
        return None
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise RunFailed("shape", f"{where} is a {type(found).__name__}, expected a cursor")
    if found == asked:
        raise RunFailed("pagination_loop", f"{where} is the cursor that the page was asked for with")
    return {"after": found}


def _no_cursor(what: str) -> Cursor:
    raise RunFailed("pagination_loop", f"{what}, but there is no cursor of the next page; asking would start over")


def _as_boolean(found: Any, where: str) -> bool:
    """Read a boolean, also as text; what is missing is not taken for an end."""
    if isinstance(found, bool):
        return found
    read = _BOOLEANS.get(str(found).strip().lower())
    if read is None:
        raise RunFailed("shape", f"{where} is {str(found)[:40]!r}, expected true or false")
    return read


def _counted(cursor: Cursor, received: Answer, size: int, path: tuple[str, ...]) -> Cursor | None:
    so_far = cursor["received"] + received.records
    total = _total(cursor["total"], received, path) if path else None
    if total is not None and so_far > total:
        raise RunFailed("total", f"{'.'.join(path)} says {total}, but {so_far} records were received")
    if total is not None and so_far == total:
        return None
    full = cursor["full"] or received.records >= size
    if received.records == 0 or (full and received.records < size):
        if total is not None:
            raise RunFailed(
                "incomplete",
                f"the pages ended after {so_far} records, but {'.'.join(path)} says {total}; the next run starts over",
            )
        return None
    return {"received": so_far, "full": full, "total": total}


def _total(before: int | None, received: Answer, path: tuple[str, ...]) -> int:
    text = str(received.value(path)).strip()
    if not (text.isascii() and text.isdigit() and len(text) <= _TOTAL_DIGITS):
        raise RunFailed("total", f"{'.'.join(path)} is {text[:40]!r}, expected a number of records")
    total = int(text)
    if before is not None and total < before:
        raise RunFailed(
            "total",
            f"{'.'.join(path)} went from {before} to {total} between two pages: records were deleted, and others may "
            "have moved to pages that were read already; the next run starts over",
        )
    return total
