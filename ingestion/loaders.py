"""Lines of COPY text into tables: the SQL of staging and merging. The caller owns the transaction."""

import json
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
    """What is used of Django's cursor, which passes psycopg2's COPY through."""

    rowcount: int
    db: Any

    def execute(self, query: Any, params: Any = None) -> Any: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> Any: ...
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
    sample: tuple["Difference", ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One row that a load writes: its columns before (None for a new row) and after, as the database shows them."""

    key: dict[str, Any]
    before: dict[str, Any] | None
    after: dict[str, Any]


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


def upsert(cursor: Cursor, table: Table, stream: Stream, *, sample_size: int = 0) -> Loaded:
    """COPY the lines into a private staging table and write what differs into the table.

    The last line of a key wins, the others count as duplicates. Rows that are equal already are neither written nor
    locked. The first `sample_size` differences are returned as well. Raises as `append` does.
    """
    # DROP ON COMMIT leaves nothing behind whatever happens, and works behind a pooler that pools transactions.
    cursor.execute(
        sql.SQL("CREATE TEMPORARY TABLE ingestion_stage ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
            _names(table.columns), table.identifier
        )
    )
    stored = _copy(cursor, _STAGE, table.columns, stream)
    sample = _sample(cursor, table, sample_size) if sample_size else ()
    cursor.execute(_merge(table))
    distinct, inserted, updated = cursor.fetchone()
    cursor.execute(sql.SQL("DROP TABLE {}").format(_STAGE))
    return Loaded(
        stored=stored,
        inserted=inserted,
        updated=updated,
        unchanged=distinct - inserted - updated,
        duplicates=stored - distinct,
        sample=sample,
    )


def _copy(cursor: Cursor, target: sql.Identifier, columns: tuple[str, ...], stream: Stream) -> int:
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(target, _names(columns))
    try:
        with cursor.db.wrap_database_errors:  # Django wraps execute and fetch itself, but not COPY
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
    return sql.SQL(
        "{latest}, differing AS ("
        " SELECT {latest_columns} {from_differing}"
        "), written AS ("
        " INSERT INTO {table} AS target ({columns}) SELECT {columns} FROM differing ORDER BY {key}"
        " ON CONFLICT ({key}) DO {action}"
        " RETURNING (xmax = 0) AS is_new"
        ") SELECT (SELECT count(*) FROM latest),"
        " count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new) FROM written"
    ).format(
        latest=_latest(table),
        key=_names(table.key),
        columns=_names(table.columns),
        table=table.identifier,
        latest_columns=_names(table.columns, "latest"),
        from_differing=_from_differing(table),
        action=_action(_others(table)),
    )


def _latest(table: Table) -> sql.Composed:
    return sql.SQL(
        "WITH latest AS MATERIALIZED (SELECT DISTINCT ON ({key}) {columns} FROM {stage} ORDER BY {key}, ctid DESC)"
    ).format(key=_names(table.key), columns=_names(table.columns), stage=_STAGE)


def _from_differing(table: Table) -> sql.Composed:
    """Pick from `latest` what the target lacks or has otherwise; `target` is NULL where it lacks the row."""
    return sql.SQL(
        "FROM latest LEFT JOIN {table} AS target ON {same_key} WHERE {first_key} IS NULL OR {differs}"
    ).format(
        table=table.identifier,
        same_key=sql.SQL(" AND ").join(
            sql.SQL("{} = {}").format(sql.Identifier("target", name), sql.Identifier("latest", name))
            for name in table.key
        ),
        first_key=sql.Identifier("target", table.key[0]),
        differs=_differs(_others(table), "latest"),
    )


def _sample(cursor: Cursor, table: Table, size: int) -> tuple[Difference, ...]:
    cursor.execute(
        sql.SQL(
            "{latest} SELECT to_jsonb(latest)::text, CASE WHEN {first_key} IS NOT NULL THEN to_jsonb(target)::text END"
            " {from_differing} ORDER BY {latest_key} LIMIT {size}"
        ).format(
            latest=_latest(table),
            first_key=sql.Identifier("target", table.key[0]),
            from_differing=_from_differing(table),
            latest_key=_names(table.key, "latest"),
            size=sql.Literal(size),
        )
    )
    return tuple(_difference(table, after, before) for after, before in cursor.fetchall())


def _difference(table: Table, after: str, before: str | None) -> Difference:
    new = json.loads(after)
    old = {name: value for name, value in json.loads(before).items() if name in table.columns} if before else None
    return Difference(key={name: new[name] for name in table.key}, before=old, after=new)


def _others(table: Table) -> tuple[str, ...]:
    return tuple(name for name in table.columns if name not in table.key)


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
