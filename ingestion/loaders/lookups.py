"""Rows of other tables by their natural keys: found, and made where they are missing. The caller owns the transaction.

Values go in and come out as PostgreSQL's text of their types, so that the server alone says which values are equal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from psycopg2 import sql

from ingestion.loaders.tables import Cursor, names

# The text of each column of a natural key.
Natural: TypeAlias = "tuple[str, ...]"


@dataclass(frozen=True, kw_only=True)
class Filler:
    """A column of new rows besides their natural key; `make` gives the text of its value, None for NULL."""

    column: str
    type_: str
    make: Callable[[], str | None]


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """A table whose rows are found by the columns `natural` of `types`; `target` is what others refer to them by."""

    table: str
    natural: tuple[str, ...]
    types: tuple[str, ...]
    target: str
    fillers: tuple[Filler, ...] = ()

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.table)


def find(cursor: Cursor, lookup: Lookup, naturals: Sequence[Natural]) -> dict[Natural, str]:
    """Return what refers to each row that is there, in one statement."""
    # Note [Looked-up rows are not locked]: a lock would write to each of them in every run, also in one that changes
    # nothing, and takes more rights than reading. Where one is deleted before the load refers to it, the foreign key
    # says so, and its records are found like any others that the database refuses.
    if not naturals:
        return {}
    cursor.execute(
        sql.SQL(
            "SELECT wanted.number, found.{target}::text"
            " FROM unnest({arrays}) WITH ORDINALITY AS wanted({values}, number) JOIN {table} AS found ON {condition}"
        ).format(
            target=sql.Identifier(lookup.target),
            arrays=_arrays(naturals),
            values=_values(len(lookup.natural)),
            table=lookup.identifier,
            condition=sql.SQL(" AND ").join(
                sql.SQL("{} = {}").format(sql.Identifier("found", column), value)
                for column, value in zip(lookup.natural, _typed(lookup.types), strict=True)
            ),
        )
    )
    return {naturals[number - 1]: target for number, target in cursor.fetchall()}


def create(cursor: Cursor, lookup: Lookup, naturals: Sequence[Natural]) -> int:
    """Make the rows that are not there, nor come from somebody else meanwhile; return how many were made.

    Raises:
        django.db.Error: the database refused a row; its transaction is over.
    """
    # In the order of their keys, because two loads in opposite orders would deadlock.
    columns = [*lookup.natural, *(filler.column for filler in lookup.fillers)]
    types = [*lookup.types, *(filler.type_ for filler in lookup.fillers)]
    made = [(*natural, *(filler.make() for filler in lookup.fillers)) for natural in naturals]
    cursor.execute(
        sql.SQL(
            "INSERT INTO {table} ({columns}) SELECT {typed} FROM unnest({arrays}) AS wanted({values}) ORDER BY {order}"
            " ON CONFLICT ({natural}) DO NOTHING"
        ).format(
            table=lookup.identifier,
            columns=names(columns),
            typed=sql.SQL(", ").join(_typed(types)),
            arrays=_arrays(made),
            values=_values(len(columns)),
            order=sql.SQL(", ").join(map(sql.Literal, range(1, len(lookup.natural) + 1))),
            natural=names(lookup.natural),
        )
    )
    return cursor.rowcount


def _arrays(rows: Sequence[tuple[Any, ...]]) -> sql.Composed:
    # In the statement and not beside it: a name in it may hold a percent sign.
    columns = zip(*rows, strict=True)
    return sql.SQL(", ").join(sql.SQL("{}::text[]").format(sql.Literal(list(values))) for values in columns)


def _values(count: int) -> sql.Composed:
    return names([f"value_{number}" for number in range(count)])


def _typed(types: Sequence[str]) -> list[sql.Composed]:
    """Return the wanted values, each as its column's type."""
    return [
        sql.SQL("{}::{}").format(sql.Identifier("wanted", f"value_{number}"), sql.SQL(type_))
        for number, type_ in enumerate(types)
    ]
