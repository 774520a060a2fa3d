"""Find and remove the rows that the source no longer has, by the keys that a run has seen. The caller commits.

Note [Keys of a run]: the keys are kept in a table of the run, committed with its chunks, so that they survive whatever
the run survives. A record that was rejected is still there at the source: its key counts as seen, and one whose key
nobody can read leaves a row of NULLs. The table has no index: it is only ever read as a whole, and two parts
never wait for each other in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg2 import sql

from ingestion.loaders.tables import Cursor, Loaded, Missing, RunTables, Table, Wanted, key_of, names, same_key


@dataclass(frozen=True, kw_only=True)
class Scope:
    """The rows of a table that a feed answers for.

    Args:
        rows: a query, with its parameters, of the keys of these rows; None for all rows.
        mark: the column and the SQL that mark a row as deleted, and the condition of those that are not; None deletes.
    """

    rows: tuple[str, tuple[Any, ...]] | None = None
    mark: "Mark | None" = None


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A column that marks deleted rows: what it is in rows that are there, and what deletes them, as SQL."""

    column: str
    present: str
    deleted: str


def make_keys(cursor: Cursor, table: Table, tables: RunTables) -> None:
    """Make the run's table of keys."""
    cursor.execute(
        sql.SQL("CREATE TABLE {} AS SELECT {}, true AS ingestion_loaded FROM {} WITH NO DATA").format(
            tables.keys, names(table.key), table.identifier
        )
    )


def exists(cursor: Cursor, name: sql.Identifier) -> bool:
    """Whether a table of the run is there."""
    # Not to_regclass, which answers from the session's cache: it does not see what another part has just made.
    cursor.execute(
        "SELECT EXISTS (SELECT FROM pg_class WHERE relname = %s AND relnamespace = current_schema()::regnamespace)",
        [name.strings[0]],
    )
    return bool(cursor.fetchone()[0])


def left_behind(cursor: Cursor, feed: int) -> list[RunTables]:
    """Find the runs of a feed that have tables."""
    cursor.execute(
        "SELECT DISTINCT substring(relname FROM '[0-9]+$')::bigint FROM pg_class"
        " WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace AND relname ~ %s",
        [f"^ingestion_(keys|stage)_{feed}_[0-9]+$"],
    )
    return [RunTables(feed=feed, run=run) for (run,) in cursor.fetchall()]


def drop_tables(cursor: Cursor, tables: RunTables) -> None:
    """Drop the tables of a run that are there."""
    for name in (tables.keys, tables.stage):
        if exists(cursor, name):
            cursor.execute(sql.SQL("DROP TABLE {}").format(name))


def add_keys(cursor: Cursor, table: Table, tables: RunTables, keys: Sequence[Any], *, loaded: bool) -> None:
    """Note keys that were read, and whether their rows were loaded."""
    if keys:
        columns = [list(keys)] if len(table.key) == 1 else [list(values) for values in zip(*keys, strict=True)]
        arrays = [
            sql.SQL("{}::{}[]").format(sql.Literal(values), sql.SQL(type_))
            for values, type_ in zip(columns, _types(cursor, table), strict=True)
        ]
        cursor.execute(
            sql.SQL("INSERT INTO {} SELECT *, {} FROM unnest({})").format(
                tables.keys, sql.Literal(loaded), sql.SQL(", ").join(arrays)
            )
        )


def add_unreadable(cursor: Cursor, table: Table, tables: RunTables, number: int) -> None:
    """Note how many records were read whose key nobody can read."""
    if number:
        nulls = sql.SQL(", ").join([sql.SQL("NULL")] * len(table.key))
        cursor.execute(
            sql.SQL("INSERT INTO {} SELECT {}, false FROM generate_series(1, {})").format(
                tables.keys, nulls, sql.Literal(number)
            )
        )


def _types(cursor: Cursor, table: Table) -> list[str]:
    cursor.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = quote_ident(%s)::regclass AND attname = ANY(%s)",
        [table.name, list(table.key)],
    )
    types = dict(cursor.fetchall())
    return [types[name] for name in table.key]


def count_missing(
    cursor: Cursor, table: Table, seen: Sequence[sql.Identifier], scope: Scope, *, inserted: int
) -> Missing:
    """Count the rows that a run has not seen.

    Args:
        seen: the tables with the keys of the run; the last one also counts its unreadable records.
        inserted: rows that the run itself has added so far, which are not among those there were.
    """
    for identifier in seen:
        cursor.execute(sql.SQL("ANALYZE {}").format(identifier))
    cursor.execute(
        sql.SQL(
            # Each by itself: only in a WHERE does PostgreSQL join the unseen rows. In a FILTER it looks through all
            # keys for each row, and half a million of both was not done after minutes.
            "SELECT (SELECT count(*) FROM {table} AS target WHERE {in_scope} AND {unseen}),"
            " (SELECT count(*) FROM {table} AS target WHERE {in_scope}),"
            " (SELECT count(*) FROM {keys} WHERE {first_key} IS NULL)"
        ).format(
            unseen=_unseen(table, seen),
            keys=seen[-1],
            first_key=sql.Identifier(table.key[0]),
            table=table.identifier,
            in_scope=_in_scope(cursor, table, scope),
        )
    )
    rows, total, unreadable = cursor.fetchone()
    return Missing(rows=rows, of=max(total - inserted, rows), unreadable=unreadable)


def count_vanished(cursor: Cursor, table: Table, tables: RunTables) -> int:
    """Count the keys that were loaded and are not in the table, as when a trigger changes keys."""
    cursor.execute(
        sql.SQL(
            "SELECT count(*) FROM (SELECT DISTINCT {key} FROM {keys} WHERE ingestion_loaded) AS seen"
            " WHERE NOT EXISTS (SELECT FROM {table} AS target WHERE {same_key})"
        ).format(
            key=names(table.key),
            keys=tables.keys,
            table=table.identifier,
            same_key=same_key(table.key, "target", "seen"),
        )
    )
    return int(cursor.fetchone()[0])


def delete_missing(
    cursor: Cursor, table: Table, seen: Sequence[sql.Identifier], scope: Scope, wanted: Wanted
) -> Loaded:
    """Delete or mark the rows of the scope that the run has not seen.

    Raises:
        django.db.IntegrityError: rows of other tables refer to them.
    """
    mark = scope.mark
    if mark is None:
        write = sql.SQL("DELETE FROM {} AS target").format(table.identifier)
    else:
        write = sql.SQL("UPDATE {} AS target SET {} = {}").format(
            table.identifier, sql.Identifier(mark.column), sql.SQL(mark.deleted)
        )
    cursor.execute(
        sql.SQL("{write} WHERE {in_scope} AND {unseen} {returning}").format(
            write=write,
            in_scope=_in_scope(cursor, table, scope),
            unseen=_unseen(table, seen),
            returning=sql.SQL("RETURNING {}" if wanted.keys else "").format(names(table.key, "target")),
        )
    )
    deleted = cursor.rowcount
    keys = tuple(map(key_of, cursor.fetchall())) if wanted.keys else ()
    return Loaded(deleted=deleted, deleted_keys=keys)


def _unseen(table: Table, seen: Sequence[sql.Identifier]) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("NOT EXISTS (SELECT FROM {} AS seen WHERE {})").format(
            identifier, same_key(table.key, "target", "seen")
        )
        for identifier in seen
    )


def _in_scope(cursor: Cursor, table: Table, scope: Scope) -> sql.Composable:
    conditions: list[sql.Composable] = [sql.SQL("TRUE")]
    if scope.mark is not None:
        conditions.append(
            sql.SQL("{} {}").format(sql.Identifier("target", scope.mark.column), sql.SQL(scope.mark.present))
        )
    if scope.rows is not None:
        query = cursor.mogrify(*scope.rows)
        conditions.append(sql.SQL("({}) IN ({})").format(names(table.key, "target"), sql.SQL(query.decode())))
    return sql.SQL(" AND ").join(conditions)
