"""Lines of COPY text into tables: the SQL of staging and merging. The caller owns the transaction."""

from dataclasses import dataclass
from typing import Any, Protocol

from psycopg2 import sql

# Characters psycopg2 asks the stream for at once; its default of 8 KiB makes 30 times as many calls.
READ_SIZE = 256 * 1024
# How long a chunk waits for somebody else's lock, and for one statement, before it fails and is tried again.
LOCK_TIMEOUT = "10s"
STATEMENT_TIMEOUT = "10min"

_STAGE = sql.Identifier("pg_temp", "ingestion_stage")


class Stream(Protocol):
    """A text stream that keeps the exception of whatever feeds it."""

    error: BaseException | None

    def read(self, size: int | None = -1, /) -> str: ...


class Cursor(Protocol):
    """What is used of a psycopg2 cursor; Django's cursor wrapper passes it through."""

    rowcount: int

    def execute(self, query: Any, params: Any = None) -> Any: ...
    def fetchone(self) -> Any: ...
    def copy_expert(self, sql: Any, file: Any, size: int = ...) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table as the loader sees it: database names, `columns` in the order of the lines, `key` among them."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...] = ()

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """What happened to the lines of one load; `stored` is what COPY itself counted."""

    stored: int
    inserted: int
    updated: int = 0
    unchanged: int = 0
    duplicates: int = 0


def set_timeouts(cursor: Cursor) -> None:
    """Bound the waits of the current transaction."""
    cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'")


def append(cursor: Cursor, table: Table, stream: Stream) -> Loaded:
    """COPY the lines straight into the table.

    Raises:
        django.db.Error: the database refused a line; its transaction is over.
        Exception: whatever fed the stream raised.
    """
    stored = _copy(cursor, table.identifier, table.columns, stream)
    return Loaded(stored=stored, inserted=stored)


def upsert(cursor: Cursor, table: Table, stream: Stream) -> Loaded:
    """COPY the lines into a private staging table and write what differs into the table.

    The last line of a key wins, the others count as duplicates. Rows that are equal already are neither written nor
    locked. Raises as `append` does.
    """
    # DROP ON COMMIT leaves nothing behind whatever happens, and works behind a pooler that pools transactions.
    cursor.execute(
        sql.SQL("CREATE TEMPORARY TABLE ingestion_stage ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
            _names(table.columns), table.identifier
        )
    )
    stored = _copy(cursor, _STAGE, table.columns, stream)
    cursor.execute(_merge(table))
    distinct, inserted, updated = cursor.fetchone()
    cursor.execute(sql.SQL("DROP TABLE {}").format(_STAGE))
    return Loaded(
        stored=stored,
        inserted=inserted,
        updated=updated,
        unchanged=distinct - inserted - updated,
        duplicates=stored - distinct,
    )


def _copy(cursor: Cursor, target: sql.Identifier, columns: tuple[str, ...], stream: Stream) -> int:
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(target, _names(columns))
    try:
        cursor.copy_expert(statement, stream, READ_SIZE)
    except Exception:
        # The server only knows that the data stopped; what stopped it is kept in the stream.
        if stream.error is not None:
            raise stream.error from None
        raise
    return cursor.rowcount


def _merge(table: Table) -> sql.Composed:
    """Build the statement that writes the staged rows and returns (distinct keys, inserted, updated).

    Note [Merge]: comparing before the INSERT keeps unchanged rows from being locked (ON CONFLICT locks, and so
    dirties, every row it meets); comparing again inside it makes the counts right beside a concurrent writer. Keys
    go in order, because two loads in opposite orders would deadlock. In a table filled by one COPY, ctid is the order
    of the lines.
    """
    others = tuple(name for name in table.columns if name not in table.key)
    return sql.SQL(
        "WITH latest AS MATERIALIZED ("
        " SELECT DISTINCT ON ({key}) {columns} FROM {stage} ORDER BY {key}, ctid DESC"
        "), differing AS ("
        " SELECT {latest_columns} FROM latest LEFT JOIN {table} AS target ON {same_key}"
        " WHERE {absent} OR {differs_from_latest}"
        "), written AS ("
        " INSERT INTO {table} AS target ({columns}) SELECT {columns} FROM differing ORDER BY {key}"
        " ON CONFLICT ({key}) DO {action}"
        " RETURNING (xmax = 0) AS is_new"
        ") SELECT (SELECT count(*) FROM latest),"
        " count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new) FROM written"
    ).format(
        key=_names(table.key),
        columns=_names(table.columns),
        stage=_STAGE,
        table=table.identifier,
        latest_columns=_names(table.columns, "latest"),
        same_key=sql.SQL(" AND ").join(
            sql.SQL("{} = {}").format(sql.Identifier("target", name), sql.Identifier("latest", name))
            for name in table.key
        ),
        absent=sql.SQL("{} IS NULL").format(sql.Identifier("target", table.key[0])),
        differs_from_latest=_differs(others, "latest"),
        action=_action(others),
    )


def _action(others: tuple[str, ...]) -> sql.Composable:
    if not others:
        return sql.SQL("NOTHING")
    assignments = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Identifier("excluded", name)) for name in others
    )
    return sql.SQL("UPDATE SET {} WHERE {}").format(assignments, _differs(others, "excluded"))


def _differs(names: tuple[str, ...], other: str) -> sql.Composable:
    if not names:
        return sql.SQL("FALSE")
    return sql.SQL("({}) IS DISTINCT FROM ({})").format(_row(names, "target"), _row(names, other))


def _row(names: tuple[str, ...], table: str) -> sql.Composable:
    return sql.SQL("ROW({})").format(_names(names, table))


def _names(names: tuple[str, ...], table: str | None = None) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(table, name) if table else sql.Identifier(name) for name in names)
