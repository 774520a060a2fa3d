"""Lines of COPY text into tables: the SQL of staging and merging. The caller owns the transaction."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from django.db import IntegrityError, transaction
from psycopg2 import sql

from ingestion.sqlstates import UNIQUE_VIOLATION, sqlstate

# Characters psycopg2 asks the stream for at once; its default of 8 KiB makes 30 times as many calls.
READ_SIZE = 256 * 1024
# How long a chunk waits for somebody else's lock, and for one statement, before it fails and is tried again.
LOCK_TIMEOUT = "10s"
STATEMENT_TIMEOUT = "10min"
# A chunk is joined and sorted in memory; the server's default of 4 MB would spill it to disk.
WORK_MEM = "64MB"

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

    def __add__(self, other: "Loaded") -> "Loaded":
        """Add the counts of two loads, and put their samples together."""
        return Loaded(
            stored=self.stored + other.stored,
            inserted=self.inserted + other.inserted,
            updated=self.updated + other.updated,
            unchanged=self.unchanged + other.unchanged,
            duplicates=self.duplicates + other.duplicates,
            sample=self.sample + other.sample,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One row that a load writes: its columns before (None for a new row) and after, as the database shows them."""

    key: dict[str, Any]
    before: dict[str, Any] | None
    after: dict[str, Any]


def prepare_transaction(cursor: Cursor) -> None:
    """Bound the waits of the current transaction, and give it the memory for a chunk."""
    settings = {"lock_timeout": LOCK_TIMEOUT, "statement_timeout": STATEMENT_TIMEOUT, "work_mem": WORK_MEM}
    cursor.execute("; ".join(f"SET LOCAL {name} = '{value}'" for name, value in settings.items()))


def append(cursor: Cursor, table: Table, stream: Stream) -> Loaded:
    """COPY the lines straight into the table.

    Raises:
        django.db.Error: the database refused a line; its transaction is over.
        Exception: whatever fed the stream raised.
    """
    stored = _copy(cursor, table.identifier, table.columns, stream)
    return Loaded(stored=stored, inserted=stored)


def upsert(
    cursor: Cursor, table: Table, open_stream: Callable[[], Stream], keys: Sequence[Any], *, sample_size: int = 0
) -> Loaded:
    """Write what differs into the table: rows with new keys are inserted, equal rows are neither written nor locked.

    The last line of a key wins, the others count as duplicates.

    Args:
        open_stream: gives the lines as a new stream, as often as it is called.
        keys: the key of each line, in their order; a tuple where the key has several columns.
        sample_size: return that many of the first differences as well.

    Raises:
        django.db.Error: the database refused a line; its transaction is over.
        Exception: whatever fed the stream raised.
    """
    if len(set(keys)) == len(keys) and not sample_size and _none_exists(cursor, table, keys):
        loaded = _append_unless_taken(cursor, table, open_stream())
        if loaded is not None:
            return loaded
    return _stage_and_merge(cursor, table, open_stream(), keys, sample_size)


def check_constraints(cursor: Cursor) -> None:
    """Check deferred constraints now, where the load can still be taken apart, instead of at COMMIT."""
    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def _none_exists(cursor: Cursor, table: Table, keys: Sequence[Any]) -> bool:
    """Whether the table surely has none of the keys; cheap, so False where only a join could tell."""
    if not keys or len(table.key) > 1 or type(keys[0]) not in (int, str):
        return False
    # Note [New keys]: one probe of the index answers for a range of integers; for text, whose order is the collation's,
    # each key is looked up.
    condition, value = ("BETWEEN %s AND %s", [min(keys), max(keys)]) if type(keys[0]) is int else ("= ANY(%s)", [keys])
    cursor.execute(
        sql.SQL("SELECT NOT EXISTS (SELECT FROM {} WHERE {} {})").format(
            table.identifier, sql.Identifier(table.key[0]), sql.SQL(condition)
        ),
        value,
    )
    return bool(cursor.fetchone()[0])


def _append_unless_taken(cursor: Cursor, table: Table, stream: Stream) -> Loaded | None:
    """COPY straight into the table; None when somebody else inserted one of the keys in the meantime."""
    try:
        with transaction.atomic(using=cursor.db.alias):
            return append(cursor, table, stream)
    except IntegrityError as error:
        if sqlstate(error) != UNIQUE_VIOLATION:
            raise
        return None


def _stage_and_merge(cursor: Cursor, table: Table, stream: Stream, keys: Sequence[Any], sample_size: int) -> Loaded:
    distinct = len(set(keys))
    # DROP ON COMMIT leaves nothing behind whatever happens, and works behind a pooler that pools transactions.
    cursor.execute(
        sql.SQL("CREATE TEMPORARY TABLE ingestion_stage ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
            _names(table.columns), table.identifier
        )
    )
    stored = _copy(cursor, _STAGE, table.columns, stream)
    merge = _Merge(table=table, has_duplicates=distinct < len(keys), bounds=_bounds(keys))
    sample = _sample(cursor, merge, sample_size) if sample_size else ()
    cursor.execute(merge.statement())
    inserted, updated = cursor.fetchone()
    cursor.execute(sql.SQL("DROP TABLE {}").format(_STAGE))
    return Loaded(
        stored=stored,
        inserted=inserted,
        updated=updated,
        unchanged=distinct - inserted - updated,
        duplicates=len(keys) - distinct,
        sample=sample,
    )


def _bounds(keys: Sequence[Any]) -> tuple[int, int] | None:
    return (min(keys), max(keys)) if keys and type(keys[0]) is int else None


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


@dataclass(frozen=True, kw_only=True)
class _Merge:
    """The statements that compare the staged rows with the table and write those that differ.

    Note [Merge]: comparing before the INSERT keeps unchanged rows from being locked (ON CONFLICT locks, and so
    dirties, every row it meets); comparing again inside it makes the counts right beside a concurrent writer. Keys
    go in order, because two loads in opposite orders would deadlock. In a table filled by one COPY, ctid is the order
    of the lines. Integer keys bring their bounds along, so that a chunk of neighbours reads only
    its range of a big table.
    """

    table: Table
    has_duplicates: bool
    bounds: tuple[int, int] | None

    def statement(self) -> sql.Composed:
        """Write the differing rows; returns (inserted, updated)."""
        table = self.table
        return sql.SQL(
            "WITH {latest} differing AS MATERIALIZED (SELECT {latest_columns} {from_differing}), written AS ("
            " INSERT INTO {table} AS target ({columns}) SELECT {columns} FROM differing ORDER BY {key}"
            " ON CONFLICT ({key}) DO {action} RETURNING (xmax = 0) AS is_new"
            ") SELECT count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new) FROM written"
        ).format(
            latest=self._latest(),
            latest_columns=_names(table.columns, "latest"),
            from_differing=self._from_differing(),
            table=table.identifier,
            columns=_names(table.columns),
            key=_names(table.key),
            action=_action(_others(table)),
        )

    def sample(self, size: int) -> sql.Composed:
        """Select the first differing rows in the order of their keys: (after, before) as JSON text."""
        return sql.SQL(
            "WITH {latest} nothing AS (SELECT)"
            " SELECT to_jsonb(latest)::text, CASE WHEN {first_key} IS NOT NULL THEN to_jsonb(target)::text END"
            " {from_differing} ORDER BY {latest_key} LIMIT {size}"
        ).format(
            latest=self._latest(),
            first_key=sql.Identifier("target", self.table.key[0]),
            from_differing=self._from_differing(),
            latest_key=_names(self.table.key, "latest"),
            size=sql.Literal(size),
        )

    def _latest(self) -> sql.Composable:
        if not self.has_duplicates:
            return sql.SQL("")
        return sql.SQL(
            "latest AS MATERIALIZED (SELECT DISTINCT ON ({key}) {columns} FROM {stage} ORDER BY {key}, ctid DESC),"
        ).format(key=_names(self.table.key), columns=_names(self.table.columns), stage=_STAGE)

    def _from_differing(self) -> sql.Composed:
        """Pick what the target lacks or has otherwise; `target` is NULL where it lacks the row."""
        table = self.table
        same_key = [
            sql.SQL("{} = {}").format(sql.Identifier("target", name), sql.Identifier("latest", name))
            for name in table.key
        ]
        if self.bounds:
            key = sql.Identifier("target", table.key[0])
            same_key.append(sql.SQL("{} BETWEEN {} AND {}").format(key, *map(sql.Literal, self.bounds)))
        return sql.SQL(
            "FROM {latest} LEFT JOIN {table} AS target ON {same_key} WHERE {first_key} IS NULL OR {differs}"
        ).format(
            latest=sql.SQL("latest") if self.has_duplicates else sql.SQL("{} AS latest").format(_STAGE),
            table=table.identifier,
            same_key=sql.SQL(" AND ").join(same_key),
            first_key=sql.Identifier("target", table.key[0]),
            differs=_differs(_others(table), "latest"),
        )


def _sample(cursor: Cursor, merge: _Merge, size: int) -> tuple[Difference, ...]:
    cursor.execute(merge.sample(size))
    return tuple(_difference(merge.table, after, before) for after, before in cursor.fetchall())


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
