"""What the loaders work with: cursors, streams, tables, and the counts of a load. No SQL is run here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from psycopg2 import sql


class Stream(Protocol):
    """A text stream that keeps the exception of whatever feeds it."""

    error: BaseException | None

    def read(self, size: int | None = -1, /) -> str: ...


class Cursor(Protocol):
    """What is used of Django's cursor, which passes psycopg2's COPY through."""

    rowcount: int
    db: Any

    def execute(self, query: Any, params: Any = None) -> Any: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> Any: ...
    def mogrify(self, query: Any, params: Any = None) -> bytes: ...
    def copy_expert(self, sql: Any, file: Any, size: int = ...) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table as the loader sees it: database names, `columns` in the order of the lines, `key` among them.

    Args:
        insert_only: columns that are written with a new row and never compared or updated.
        fixed: columns outside the lines, with the value that every loaded row has in them.
        documents: columns of jsonb.
        serial: the column of the key or others whose sequence has to keep up with the values loaded.
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...] = ()
    insert_only: tuple[str, ...] = ()
    fixed: tuple[tuple[str, Any], ...] = ()
    documents: tuple[str, ...] = ()
    serial: str | None = None

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.name)

    @property
    def compared(self) -> tuple[str, ...]:
        """The columns of the lines that make a row differ."""
        return tuple(name for name in self.columns if name not in self.key and name not in self.insert_only)


# Whether lines with these keys may join a load that has begun.
Accept = Callable[[Sequence[Any]], bool]


@dataclass(frozen=True, kw_only=True)
class Lines:
    """The lines of one load, and the key of each in their order; a tuple where the key has several columns.

    Args:
        open: gives them as a new stream, as often as it is called.
        grow: as `open`; while the stream is read, lines join whose keys the function accepts, and `keys` grows.
    """

    open: Callable[[], Stream]
    keys: Sequence[Any]
    grow: Callable[[Accept], Stream] | None = None

    def growing(self, accept: Accept = lambda keys: True) -> Stream:
        """Open the stream, which grows if it can; `keys` is to be read when it was read to its end."""
        return self.grow(accept) if self.grow is not None else self.open()


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a load returns besides its counts: that many of the first differences, and the keys it wrote."""

    sample_size: int = 0
    keys: bool = False


@dataclass(frozen=True, kw_only=True)
class RunTables:
    """The names of the tables that belong to one run: committed with its chunks, dropped when it succeeds."""

    feed: int
    run: int

    @property
    def keys(self) -> sql.Identifier:
        return sql.Identifier(f"ingestion_keys_{self.feed}_{self.run}")

    @property
    def stage(self) -> sql.Identifier:
        return sql.Identifier(f"ingestion_stage_{self.feed}_{self.run}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One row that a load writes: its columns before (None for a new row) and after, as the database shows them."""

    key: dict[str, Any]
    before: dict[str, Any] | None
    after: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """What happened to the lines of one load; `stored` is what COPY itself counted.

    `lost` are rows that were written and are not there: a trigger dropped them. The keys are there when asked for.
    """

    stored: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    duplicates: int = 0
    deleted: int = 0
    lost: int = 0
    inserted_keys: tuple[Any, ...] = ()
    updated_keys: tuple[Any, ...] = ()
    deleted_keys: tuple[Any, ...] = ()
    sample: tuple[Difference, ...] = ()

    def __add__(self, other: "Loaded") -> "Loaded":
        """Add the counts of two loads, and put their keys and samples together."""
        return Loaded(**{name: getattr(self, name) + getattr(other, name) for name in Loaded.__slots__})


@dataclass(frozen=True, kw_only=True, slots=True)
class Missing:
    """What a finished run would delete.

    Args:
        rows: rows of the table that the source no longer has.
        of: rows it is measured against: those there were before the run.
        unreadable: records of the run whose key nobody can read; each could be any of the rows.
        vanished: rows that the run loaded and that are not in the table.
    """

    rows: int
    of: int
    unreadable: int = 0
    vanished: int = 0


def names(columns: Sequence[str], table: str | None = None) -> sql.Composed:
    """Return a list of columns, each with its table in front where one is given."""
    return sql.SQL(", ").join(sql.Identifier(table, name) if table else sql.Identifier(name) for name in columns)


def same_key(key: Sequence[str], one: str, other: str) -> sql.Composed:
    """Return the condition that two tables' rows have the same key."""
    return sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(sql.Identifier(one, name), sql.Identifier(other, name)) for name in key
    )


def key_of(values: Sequence[Any]) -> Any:
    """Return a key out of a row of its columns, as `Lines.keys` has it."""
    return values[0] if len(values) == 1 else tuple(values)
