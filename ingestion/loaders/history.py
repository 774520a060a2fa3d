"""History: one row per version of a key, with the time it was valid. The caller owns the transaction."""

from dataclasses import dataclass
from typing import Any

from psycopg2 import sql

from ingestion.loaders.copying import copy
from ingestion.loaders.merging import STAGE, Merge, take_sample
from ingestion.loaders.tables import Cursor, Lines, Loaded, Table, Wanted, key_of, names, same_key
from ingestion.loaders.upserting import make_stage
from ingestion.resting import waiting

_CHANGED = sql.Identifier("pg_temp", "ingestion_changed")


@dataclass(frozen=True, kw_only=True)
class Versions:
    """The columns of a version: valid from (included) to (excluded; NULL in the current one), and whether current."""

    valid_from: str
    valid_to: str
    is_current: str | None = None


def add_versions(cursor: Cursor, table: Table, versions: Versions, lines: Lines, wanted: Wanted) -> Loaded:
    """Add a version for each key that is new or differs from its current version, which ends where the new one begins.

    Counted as `inserted` (new keys), `updated` (keys with a new version) and `unchanged`. A key with several lines
    gets one version, of the last; the others count as duplicates.

    Raises:
        django.db.Error: the database refused a line; its transaction is over.
        Exception: whatever fed the stream raised.
    """
    make_stage(cursor, table)
    stored = copy(cursor, STAGE, table.columns, lines.growing(), is_new=True)
    keys = lines.keys
    distinct = len(set(keys))
    compare = Merge(table=table, has_duplicates=distinct < len(keys), existing=_current(table, versions))
    sample = take_sample(cursor, compare, wanted.sample_size) if wanted.sample_size else ()
    with waiting():
        _find_changed(cursor, compare)
        cursor.execute(_write(table, versions))
    closed, opened, known, changed = cursor.fetchone()
    new_keys, known_keys = _keys(cursor, table) if wanted.keys else ((), ())
    return Loaded(
        stored=stored,
        inserted=changed - known,
        updated=known,
        unchanged=distinct - changed,
        duplicates=len(keys) - distinct,
        lost=(known - closed) + (changed - opened),
        inserted_keys=new_keys,
        updated_keys=known_keys,
        sample=sample,
    )


def _current(table: Table, versions: Versions) -> sql.Composed:
    return sql.SQL("(SELECT * FROM {} WHERE {} IS NULL)").format(table.identifier, sql.Identifier(versions.valid_to))


def _find_changed(cursor: Cursor, compare: Merge) -> None:
    table = compare.table
    cursor.execute(
        sql.SQL(
            "DROP TABLE IF EXISTS {changed};"
            " CREATE TEMPORARY TABLE ingestion_changed ON COMMIT DROP AS WITH {latest} ingestion_nothing AS (SELECT)"
            " SELECT {columns}, {first_key} IS NOT NULL AS ingestion_known {from_differing}"
        ).format(
            changed=_CHANGED,
            latest=compare.latest(),
            columns=names(table.columns, "latest"),
            first_key=sql.Identifier("target", table.key[0]),
            from_differing=compare.from_differing(),
        )
    )


def _write(table: Table, versions: Versions) -> sql.Composed:
    """Close the versions that changed and add the new ones; returns (closed, added, known, changed).

    The time is the database's, one for the whole chunk. A version is valid for a microsecond at least, even when the
    clock was set back. The rows to add are joined with the closed ones, so that a version is closed before the next
    one of its key is there: a unique constraint on current versions holds at any moment.
    """
    begin, end = sql.Identifier(versions.valid_from), sql.Identifier(versions.valid_to)
    current = versions.is_current
    return sql.SQL(
        "WITH instant AS MATERIALIZED (SELECT clock_timestamp() AS at),"
        " closed AS (UPDATE {table} AS target"
        "  SET {end} = GREATEST(instant.at, target.{begin} + interval '1 microsecond') {close}"
        "  FROM {changed} AS changed, instant WHERE ingestion_known AND {changed_key} AND target.{end} IS NULL"
        "  RETURNING {target_key}, target.{end} AS ingestion_end),"
        " added AS (INSERT INTO {table} ({columns}, {begin} {open_column}) OVERRIDING SYSTEM VALUE"
        "  SELECT {changed_columns}, COALESCE(closed.ingestion_end, instant.at) {open_value}"
        "  FROM {changed} AS changed CROSS JOIN instant LEFT JOIN closed ON {closed_key}"
        "  ORDER BY {changed_order} RETURNING 1)"
        " SELECT (SELECT count(*) FROM closed), (SELECT count(*) FROM added),"
        " count(*) FILTER (WHERE ingestion_known), count(*) FROM {changed}"
    ).format(
        table=table.identifier,
        begin=begin,
        end=end,
        close=sql.SQL(", {} = FALSE" if current else "").format(*_identifiers(current)),
        changed=_CHANGED,
        changed_key=same_key(table.key, "target", "changed"),
        target_key=names(table.key, "target"),
        columns=names(table.columns),
        open_column=sql.SQL(", {}" if current else "").format(*_identifiers(current)),
        changed_columns=names(table.columns, "changed"),
        open_value=sql.SQL(", TRUE" if current else ""),
        closed_key=same_key(table.key, "closed", "changed"),
        changed_order=names(table.key, "changed"),
    )


def _identifiers(name: str | None) -> list[sql.Identifier]:
    return [sql.Identifier(name)] if name else []


def _keys(cursor: Cursor, table: Table) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    cursor.execute(sql.SQL("SELECT ingestion_known, {} FROM {}").format(names(table.key), _CHANGED))
    rows = cursor.fetchall()
    return tuple(key_of(row[1:]) for row in rows if not row[0]), tuple(key_of(row[1:]) for row in rows if row[0])
