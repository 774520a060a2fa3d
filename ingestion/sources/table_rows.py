"""Rows of a table of ours, whose values are what another system is asked for. Reads the database, and nothing else."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from django.core.exceptions import FieldError
from django.db import connections
from django.db.models import F, QuerySet

from ingestion.errors import ConfigurationError
from ingestion.types import Cursor, Page

# What ForEach takes of one page.
_MOST: Final = 10_000
# No model has a field of this name.
_VALUE: Final = "_asked_for"


@dataclass(frozen=True, kw_only=True)
class TableRows:
    """The values of one field in a table of ours, each once and in order: the `parents` of a ForEach.

    A record is an object with the field alone. A page begins after the last value of the one before it, so that rows
    may come and go meanwhile; null is left out.

    Args:
        rows: returns the queryset; called for each page, in a thread of its own.
        field: name of a field, or of one of a related row: `"customer__number"`.
        size: values of a page.
    """

    rows: Callable[[], "QuerySet[Any]"]
    field: str = "pk"
    size: int = 500

    def __post_init__(self) -> None:
        if not 1 <= self.size <= _MOST:
            raise ConfigurationError(f"TableRows takes a size from 1 to {_MOST:,}")

    def pages(self, cursor: Cursor | None) -> Iterator[Page]:
        number, after = (cursor["page"], cursor["after"]) if cursor else (0, None)
        while True:
            values = self._values(after)
            number += 1
            records = [msgspec.Raw(msgspec.json.encode({self.field: value}, enc_hook=str)) for value in values]
            after = msgspec.json.decode(records[-1])[self.field] if records else None
            is_last = len(values) < self.size
            following = None if is_last else {"page": number, "after": after}
            yield Page(number=number, records=records, size_bytes=sum(map(len, records)), following=following)
            if is_last:
                return

    def _values(self, after: Any) -> list[Any]:
        try:
            asked = self._asked(after)
        except FieldError as error:
            raise ConfigurationError(f"TableRows(field={self.field!r}): {error}") from error
        connection = connections[asked.db]
        is_ours = connection.connection is None
        try:
            return list(asked)
        finally:
            # That of the prefetcher's thread would stay open for as long as the thread lives.
            if is_ours:
                connection.close()

    def _asked(self, after: Any) -> "QuerySet[Any]":
        rows: Any = self.rows()
        if not isinstance(rows, QuerySet) or rows.query.is_sliced or rows.query.combinator:
            raise ConfigurationError("TableRows(rows=…) takes a function that returns a queryset, no slice or union")
        # By a name of its own the condition is about the very row whose value is returned, of several related ones too.
        conditions = {f"{_VALUE}__isnull": False} | ({} if after is None else {f"{_VALUE}__gt": after})
        named = rows.annotate(**{_VALUE: F(self.field)}).filter(**conditions)
        asked: QuerySet[Any] = named.order_by(_VALUE).values_list(_VALUE, flat=True).distinct()[: self.size]
        return asked
