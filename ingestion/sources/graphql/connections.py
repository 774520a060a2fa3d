"""The pages of a GraphQL connection: a pure value, like other paginators."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from ingestion.errors import RunFailed
from ingestion.pagination import NextCursor, Place, Received
from ingestion.types import Cursor

PAGE_INFO: Final = "pageInfo"
_MORE: Final = (PAGE_INFO, "hasNextPage")


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A connection's pages: `endCursor` goes into the variable `after`, while `hasNextPage` is true."""

    after: str = "after"
    size: int | None = None
    size_param: str = "first"

    @property
    def place(self) -> Place:
        return "body"

    @cached_property
    def _cursors(self) -> NextCursor:
        return NextCursor(param=self.after, cursor=(PAGE_INFO, "endCursor"), has_more=_MORE)

    def first(self) -> Cursor:
        return self._cursors.first()

    def params(self, cursor: Cursor) -> dict[str, str]:
        return {name: str(value) for name, value in self.values(cursor).items()}

    def values(self, cursor: Cursor) -> dict[str, Any]:
        size = {} if self.size is None else {self.size_param: self.size}
        return size | self._cursors.values(cursor)

    def following(self, cursor: Cursor, received: Received) -> Cursor | None:
        if received.value(_MORE) is None:
            raise RunFailed("shape", "the connection tells no pageInfo { endCursor hasNextPage }: ask for both")
        return self._cursors.following(cursor, received)
