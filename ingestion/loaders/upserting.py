"""Lines into a table by key: straight where it has none of the keys, else staged and merged. The caller commits."""

from collections.abc import Sequence
from typing import Any

from django.db import IntegrityError, transaction
from psycopg2 import sql

from ingestion.loaders.copying import append, copy
from ingestion.loaders.merging import STAGE, Merge, merge
from ingestion.loaders.tables import Accept, Cursor, Lines, Loaded, Stream, Table, Wanted, names
from ingestion.sqlstates import UNIQUE_VIOLATION, sqlstate


def upsert(cursor: Cursor, table: Table, lines: Lines, wanted: Wanted = Wanted()) -> Loaded:  # noqa: B008 - frozen
    """Write what differs into the table: rows with new keys are inserted, equal rows are neither written nor locked.

    The last line of a key wins, the others count as duplicates.

    Raises:
        django.db.Error: the database refused a line; its transaction is over.
        Exception: whatever fed the stream raised.
    """
    keys = lines.keys
    free = _free_keys(cursor, table, keys) if not wanted.sample_size else None
    if free is not None and len(set(keys)) == len(keys):
        loaded = _append_unless_taken(cursor, table, lines, free, wanted)
        if loaded is not None:
            return loaded
    return _stage_and_merge(cursor, table, lines, wanted)


def _free_keys(cursor: Cursor, table: Table, keys: Sequence[Any]) -> Accept | None:
    """Return which more keys the table surely lacks as it lacks these; None when it has one, or only a join could tell.

    Note [New keys]: one probe of the index answers for a range of integers. Beyond the highest that the table has, any
    number of rising keys is new, with no second look. For text, whose order is the collation's, each key is looked up.
    """
    if not keys or len(table.key) > 1 or type(keys[0]) not in (int, str):
        return None
    names = {"table": table.identifier, "key": sql.Identifier(table.key[0])}
    if type(keys[0]) is str:
        cursor.execute(
            sql.SQL("SELECT EXISTS (SELECT FROM {table} WHERE {key} = ANY(%s))").format(**names), [list(keys)]
        )
        return None if cursor.fetchone()[0] else lambda more: False
    low, high = min(keys), max(keys)
    cursor.execute(
        sql.SQL(
            "SELECT EXISTS (SELECT FROM {table} WHERE {key} BETWEEN %s AND %s), (SELECT max({key}) FROM {table})"
        ).format(**names),
        [low, high],
    )
    exists, highest = cursor.fetchone()
    if exists:
        return None
    return _rising(high) if highest is None or highest < low else lambda more: False


def _rising(highest: int) -> Accept:
    """Accept distinct keys beyond all that were accepted so far."""

    def accept(keys: Sequence[int]) -> bool:
        nonlocal highest
        if keys and (min(keys) <= highest or len(set(keys)) < len(keys)):
            return False
        highest = max(keys, default=highest)
        return True

    return accept


def _append_unless_taken(cursor: Cursor, table: Table, lines: Lines, free: Accept, wanted: Wanted) -> Loaded | None:
    """COPY straight into the table; None when somebody else inserted one of the keys in the meantime."""
    try:
        with transaction.atomic(using=cursor.db.alias):
            loaded = append(cursor, table, lines.growing(free))
    except IntegrityError as error:
        if sqlstate(error) != UNIQUE_VIOLATION:
            raise
        return None
    return loaded + Loaded(inserted_keys=tuple(lines.keys)) if wanted.keys else loaded


def stage_lines(cursor: Cursor, table: Table, stream: Stream) -> int:
    """COPY the lines into a temporary table of the table's columns; return how many rows the server stored."""
    # DROP ON COMMIT leaves nothing behind whatever happens, and works behind a pooler that pools transactions.
    cursor.execute(
        sql.SQL("CREATE TEMPORARY TABLE ingestion_stage ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
            names(table.columns), table.identifier
        )
    )
    # FREEZE spares the merge a look at each row's transaction; nobody else sees the table.
    return copy(cursor, STAGE, table.columns, stream, options=sql.SQL(" WITH (FREEZE)"))


def drop_stage(cursor: Cursor) -> None:
    """Drop the temporary table, so that the same transaction can make it again."""
    cursor.execute(sql.SQL("DROP TABLE {}").format(STAGE))


def _stage_and_merge(cursor: Cursor, table: Table, lines: Lines, wanted: Wanted) -> Loaded:
    stored = stage_lines(cursor, table, lines.growing())
    keys = lines.keys
    distinct = len(set(keys))
    loaded = merge(
        cursor, Merge(table=table, has_duplicates=distinct < len(keys), bounds=_bounds(keys)), wanted, distinct=distinct
    )
    drop_stage(cursor)
    return loaded + Loaded(stored=stored, duplicates=len(keys) - distinct)


def _bounds(keys: Sequence[Any]) -> tuple[int, int] | None:
    """Return the lowest and the highest of integer keys."""
    return (min(keys), max(keys)) if keys and type(keys[0]) is int else None
