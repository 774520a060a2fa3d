"""Lines into a table by key: straight where it has none of the keys, else staged and merged. The caller commits."""

from collections.abc import Sequence
from itertools import islice
from operator import lt
from typing import Any

from django.db import IntegrityError, transaction
from psycopg2 import sql

from ingestion.loaders.copying import append, copy
from ingestion.loaders.merging import STAGE, Merge, Texts, is_partitioned, merge
from ingestion.loaders.tables import Accept, Cursor, Lines, Loaded, Table, Wanted, names
from ingestion.sqlstates import UNIQUE_VIOLATION, sqlstate


class Rising:
    """Whether the integer keys of a load rise, looked at while they come: then none comes twice.

    Keys in order are what most sources have. To see it takes less than a set of them does, in time and in memory.
    """

    def __init__(self, keys: Sequence[Any]) -> None:
        self._last: int | None = None
        self._holds = bool(keys) and type(keys[0]) is int
        self.add(keys)

    def add(self, keys: Sequence[Any]) -> bool:
        """Look at more keys; accepts any."""
        if self._holds and keys:
            follows = self._last is None or self._last < keys[0]
            self._holds = follows and all(map(lt, keys, islice(keys, 1, None)))
            self._last = keys[-1]
        return True

    def count_distinct(self, keys: Sequence[Any]) -> int:
        """Count the keys, all of which were looked at, each once."""
        return len(keys) if self._holds else len(set(keys))

    def bounds(self, keys: Sequence[Any]) -> tuple[int, int]:
        """Return the lowest and the highest of integer keys, all of which were looked at."""
        return (keys[0], keys[-1]) if self._holds else (min(keys), max(keys))


class Habit:
    """What the chunks of one table have in common, kept from one to the next. A wrong guess costs time only."""

    def __init__(self) -> None:
        # The last chunk had to be merged and brought no new key: the next one is not worth a look for new keys.
        self.is_merging = False
        self.texts = Texts()
        # The server's process that merged the last chunk, and how many it has merged in a row.
        self.session: int | None = None
        self.merges = 0


def upsert(
    cursor: Cursor,
    table: Table,
    lines: Lines,
    wanted: Wanted = Wanted(),  # noqa: B008 - frozen
    habit: Habit | None = None,
) -> Loaded:
    """Write what differs into the table: rows with new keys are inserted, equal rows are neither written nor locked.

    The last line of a key wins, the others count as duplicates. Give the same `habit` for all chunks of a table.

    Raises:
        django.db.Error: the database refused a line; its transaction is over.
        Exception: whatever fed the stream raised.
    """
    habit = habit or Habit()
    if not habit.is_merging and not wanted.sample_size:
        keys = lines.keys
        order = Rising(keys)
        free = _free_keys(cursor, table, keys, order)
        if free is not None and order.count_distinct(keys) == len(keys):
            loaded = _append_unless_taken(cursor, table, lines, free, wanted)
            if loaded is not None:
                return loaded
    _keep_memory(cursor, habit)
    loaded = _stage_and_merge(cursor, table, lines, wanted, habit.texts)
    habit.is_merging = not loaded.inserted
    return loaded


def _free_keys(cursor: Cursor, table: Table, keys: Sequence[Any], order: Rising) -> Accept | None:
    """Return which more keys the table surely lacks as it lacks these; None when it has one, or only a join could tell.

    Note [New keys]: one probe of the index answers for a range of integers. Beyond the highest that the table has, any
    number of rising keys is new, with no second look. For text, whose order is the collation's, each key is looked up.
    """
    if not keys or len(table.key) > 1 or type(keys[0]) not in (int, str):
        return None
    # Values are not passed beside the statement, for a name in it may hold a percent sign.
    names = {"table": table.identifier, "key": sql.Identifier(table.key[0])}
    if type(keys[0]) is str:
        # Text in a list takes the type of the column, which need not be text; in an array it is text.
        wanted = sql.Literal(tuple(keys))
        cursor.execute(
            sql.SQL("SELECT EXISTS (SELECT FROM {table} WHERE {key} IN {wanted})").format(**names, wanted=wanted)
        )
        return None if cursor.fetchone()[0] else lambda more: False
    low, high = order.bounds(keys)
    cursor.execute(
        sql.SQL(
            "SELECT EXISTS (SELECT FROM {table} WHERE {key} BETWEEN {low} AND {high}), (SELECT max({key}) FROM {table})"
        ).format(**names, low=sql.Literal(low), high=sql.Literal(high))
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


def make_stage(cursor: Cursor, table: Table) -> bool:
    """Make an empty temporary table of the table's columns, in place of the one that the transaction may have.

    Returns whether the table itself is partitioned.
    """
    # DROP ON COMMIT leaves nothing behind whatever happens, and works behind a pooler that pools transactions.
    cursor.execute(
        sql.SQL(
            "DROP TABLE IF EXISTS {};"
            " CREATE TEMPORARY TABLE ingestion_stage ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA; {}"
        ).format(STAGE, names(table.columns), table.identifier, is_partitioned(table))
    )
    return bool(cursor.fetchone()[0])


def _keep_memory(cursor: Cursor, habit: Habit) -> None:
    """Have the server's process keep what a merge has sorted its rows in for the next one.

    Note [Kept memory]: glibc returns free memory to the kernel as soon as it is twice as much as the largest piece that
    was ever freed, 128 KiB at first. A sort of 8 MB consists of pieces: it is returned after each merge, and the next
    one gets it anew, page by page, which is a fifth of its time. One piece of 8 MiB that is freed ends that. It takes
    as long as it saves a chunk: it is done when a second one comes, and once in a session.
    """
    session = cursor.db.connection.info.backend_pid
    habit.merges = habit.merges + 1 if session == habit.session else 1
    habit.session = session
    if habit.merges == 2:
        # The size from a row: of constants PostgreSQL would make it twice, when it plans.
        cursor.execute("SELECT octet_length(repeat(repeat('x', 1024), size)) FROM generate_series(8192, 8192) AS size")


def _stage_and_merge(cursor: Cursor, table: Table, lines: Lines, wanted: Wanted, texts: Texts) -> Loaded:
    order = Rising(lines.keys)
    has_partitions = make_stage(cursor, table)
    stored = copy(cursor, STAGE, table.columns, lines.growing(order.add), is_new=True)
    keys = lines.keys
    distinct = order.count_distinct(keys)
    bounds = None
    if keys and type(keys[0]) is int:
        low, high = order.bounds(keys)
        bounds = (sql.Literal(low), sql.Literal(high))
    plan = Merge(table=table, has_duplicates=distinct < len(keys), bounds=bounds, is_partitioned=has_partitions)
    loaded = merge(cursor, plan, wanted, distinct=distinct, texts=texts)
    return loaded + Loaded(stored=stored, duplicates=len(keys) - distinct)
