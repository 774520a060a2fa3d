"""Staged rows compared with a table by key: only what differs is written, and each is counted. The caller commits."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from psycopg2 import sql

from ingestion.loaders.tables import Cursor, Difference, Loaded, Table, Wanted, key_of, names, same_key
from ingestion.resting import waiting

STAGE = sql.Identifier("pg_temp", "ingestion_stage")


@dataclass(frozen=True, kw_only=True)
class Merge:
    """The statements that compare the staged rows with the table and write those that differ.

    Note [Merge]: comparing before the INSERT keeps unchanged rows from being locked (ON CONFLICT locks, and so
    dirties, every row it meets); comparing again inside it makes the counts right beside a concurrent writer. Keys
    go in order, because two loads in opposite orders would deadlock. In a table filled by one COPY, ctid is the order
    of the lines. Integer keys bring their bounds along, so that a chunk of neighbours reads only
    its range of a big table.

    Args:
        bounds: the lowest and the highest key, as they stand in the statement.
        stage, order: the staged rows, and the column that numbers them.
        existing: what they are compared with, when not the whole table.
        is_partitioned: whether the table is; None where the caller does not know.
    """

    table: Table
    has_duplicates: bool
    bounds: tuple[sql.Composable, sql.Composable] | None = None
    stage: sql.Identifier = field(default_factory=lambda: STAGE)
    order: str = "ctid"
    existing: sql.Composable | None = None
    is_partitioned: bool | None = None

    def upsert(self) -> sql.Composed:
        """Write the differing rows; returns (differing, is new, key…) for each row written, at least one row."""
        # Note [xmax]: it is zero in a row that this statement inserted. A partitioned table does not show it, see
        # `insert` and `update`.
        return self._counted(
            sql.SQL("{insert} DO {action} RETURNING (xmax = 0) AS ingestion_new, {key}").format(
                insert=self._insert(sql.SQL("")),
                action=_action(self.table),
                key=names(self.table.key, "target"),
            )
        )

    def insert(self) -> sql.Composed:
        """Write the new rows alone; returns as `upsert` does."""
        return self._counted(
            sql.SQL("{insert} DO NOTHING RETURNING true AS ingestion_new, {key}").format(
                insert=self._insert(sql.SQL("WHERE ingestion_new")), key=names(self.table.key, "target")
            )
        )

    def update(self, *, keys: bool) -> sql.Composed:
        """Write the rows that are there and differ; returns (is new, key…) for each, when their keys are wanted."""
        table = self.table
        assignments = [
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Identifier("latest", name)) for name in table.compared
        ]
        assignments += [
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in table.fixed
        ]
        return sql.SQL(
            "WITH {latest} ingestion_nothing AS (SELECT) UPDATE {table} AS target SET {assignments} FROM {source}"
            " WHERE {same_key} AND {differs} {returning}"
        ).format(
            latest=self.latest(),
            table=table.identifier,
            assignments=sql.SQL(", ").join(assignments),
            source=self._source(),
            same_key=same_key(table.key, "target", "latest"),
            differs=_differs(table, "latest"),
            returning=sql.SQL("RETURNING false AS ingestion_new, {}" if keys else "").format(
                names(table.key, "target")
            ),
        )

    def still_absent(self) -> sql.Composed:
        """Count the keys that are not in the table after all was written."""
        return sql.SQL(
            "WITH {latest} ingestion_nothing AS (SELECT) SELECT count(*) FROM {source}"
            " WHERE NOT EXISTS (SELECT FROM {table} AS target WHERE {same_key})"
        ).format(
            latest=self.latest(),
            source=self._source(),
            table=self.table.identifier,
            same_key=same_key(self.table.key, "target", "latest"),
        )

    def sample(self, size: int) -> sql.Composed:
        """Select the first differing rows in the order of their keys: (after, before) as JSON text."""
        return sql.SQL(
            "WITH {latest} ingestion_nothing AS (SELECT)"
            " SELECT to_jsonb(latest.*)::text, CASE WHEN {first_key} IS NOT NULL THEN to_jsonb(target.*)::text END"
            " {from_differing} ORDER BY {latest_key} LIMIT {size}"
        ).format(
            latest=self.latest(),
            first_key=sql.Identifier("target", self.table.key[0]),
            from_differing=self.from_differing(),
            latest_key=names(self.table.key, "latest"),
            size=sql.Literal(size),
        )

    def latest(self) -> sql.Composable:
        """Pick the last line of each key; empty where no key repeats."""
        if not self.has_duplicates:
            return sql.SQL("")
        return sql.SQL(
            "ingestion_latest AS MATERIALIZED"
            " (SELECT DISTINCT ON ({key}) {columns} FROM {stage} ORDER BY {key}, {order} DESC),"
        ).format(
            key=names(self.table.key),
            columns=names(self.table.columns),
            stage=self.stage,
            order=sql.Identifier(self.order),
        )

    def from_differing(self) -> sql.Composed:
        """Pick what the target lacks or has otherwise; `target` is NULL where it lacks the row."""
        table = self.table
        condition = same_key(table.key, "target", "latest")
        if self.bounds:
            key = sql.Identifier("target", table.key[0])
            condition = sql.SQL("{} AND {} BETWEEN {} AND {}").format(condition, key, *self.bounds)
        return sql.SQL(
            "FROM {source} LEFT JOIN {existing} AS target ON {condition} WHERE {first_key} IS NULL OR {differs}"
        ).format(
            source=self._in_order() if self.bounds else self._source(),
            existing=self.existing or table.identifier,
            condition=condition,
            first_key=sql.Identifier("target", table.key[0]),
            differs=_differs(table, "latest"),
        )

    def _source(self) -> sql.Composable:
        # The table itself may be called latest.
        source = sql.Identifier("ingestion_latest") if self.has_duplicates else self.stage
        return sql.SQL("{} AS latest").format(source)

    def _in_order(self) -> sql.Composable:
        # Sorted rows make PostgreSQL walk through the index beside them. By itself it copies all that the table has of
        # the range into a hash table, which takes longer even where the lines come in no order at all.
        if self.has_duplicates:
            return self._source()
        return sql.SQL("(SELECT * FROM {} ORDER BY {}) AS latest").format(self.stage, names(self.table.key))

    def _insert(self, which: sql.Composable) -> sql.Composed:
        # A no-op but where a column is GENERATED ALWAYS AS IDENTITY: COPY writes it without asking, and so does this.
        table = self.table
        fixed = [sql.SQL(", {}").format(sql.Literal(value)) for _, value in table.fixed]
        return sql.SQL(
            "INSERT INTO {table} AS target ({all}) OVERRIDING SYSTEM VALUE"
            " SELECT {columns}{fixed} FROM differing {which} ORDER BY {key} ON CONFLICT ({key})"
        ).format(
            table=table.identifier,
            all=names([*table.columns, *(name for name, _ in table.fixed)]),
            columns=names(table.columns),
            fixed=sql.SQL("").join(fixed),
            which=which,
            key=names(table.key),
        )

    def _counted(self, write: sql.Composable) -> sql.Composed:
        return sql.SQL(
            "WITH {latest} differing AS MATERIALIZED (SELECT {columns}, {first_key} IS NULL AS ingestion_new"
            " {from_differing}), written AS ({write}), counted AS (SELECT count(*) AS differing FROM differing)"
        ).format(
            latest=self.latest(),
            columns=names(self.table.columns, "latest"),
            first_key=sql.Identifier("target", self.table.key[0]),
            from_differing=self.from_differing(),
            write=write,
        )


_COUNTS = sql.SQL(
    " SELECT (SELECT counted.differing FROM counted), count(*) FILTER (WHERE ingestion_new),"
    " count(*) FILTER (WHERE NOT ingestion_new) FROM written"
)
_ROWS = sql.SQL(" SELECT counted.differing, written.* FROM counted LEFT JOIN written ON true")
# Stand for the bounds in a text that is kept: no name has this character.
_LOW, _HIGH = "\0low\0", "\0high\0"


class Texts:
    """The statements of a table's merges, put together once: they differ from chunk to chunk in their bounds alone."""

    def __init__(self) -> None:
        self._texts: dict[tuple[bool, bool, bool], str] = {}

    def upsert(self, cursor: Cursor, merge: Merge, *, keys: bool) -> str:
        """Return the text of `Merge.upsert` that ends in the counts, or in the rows where their keys are wanted."""
        kind = (merge.has_duplicates, merge.bounds is None, keys)
        if kind not in self._texts:
            bounds = None if merge.bounds is None else (sql.SQL(_LOW), sql.SQL(_HIGH))
            statement = replace(merge, bounds=bounds).upsert() + (_ROWS if keys else _COUNTS)
            self._texts[kind] = statement.as_string(cursor.db.connection)
        text = self._texts[kind]
        for mark, bound in zip((_LOW, _HIGH), merge.bounds or (), strict=False):
            text = text.replace(mark, bound.as_string(cursor.db.connection))
        return text


@dataclass(frozen=True, kw_only=True, slots=True)
class _Written:
    differing: int
    inserted: int
    updated: int
    inserted_keys: tuple[Any, ...] = ()
    updated_keys: tuple[Any, ...] = ()


def merge(cursor: Cursor, merge: Merge, wanted: Wanted, *, distinct: int, texts: Texts | None = None) -> Loaded:
    """Write what differs between the staged rows, of `distinct` keys, and the table.

    Args:
        texts: of merges that differ from this one in their bounds and duplicates at most.

    Raises:
        django.db.Error: the database refused a row; its transaction is over.
    """
    sample = take_sample(cursor, merge, wanted.sample_size) if wanted.sample_size else ()
    has_partitions = merge.is_partitioned
    if has_partitions is None:
        cursor.execute(is_partitioned(merge.table))
        has_partitions = cursor.fetchone()[0]
    if has_partitions:
        written = _write_apart(cursor, merge, wanted)
    else:
        written = _written(cursor, (texts or Texts()).upsert(cursor, merge, keys=wanted.keys), wanted)
    short = written.differing - written.inserted - written.updated
    lost = 0
    if short > 0:
        # Either another writer brought the same row in between, or a trigger changed ours into what was there already,
        # or it dropped a new one.
        cursor.execute(merge.still_absent())
        lost = min(short, cursor.fetchone()[0])
    return Loaded(
        inserted=written.inserted,
        updated=written.updated,
        unchanged=distinct - written.inserted - written.updated,
        lost=lost,
        inserted_keys=written.inserted_keys,
        updated_keys=written.updated_keys,
        sample=sample,
    )


def is_partitioned(table: Table) -> sql.Composed:
    """Select whether the table is partitioned."""
    return sql.SQL("SELECT relkind = 'p' FROM pg_class WHERE oid = quote_ident({})::regclass").format(
        sql.Literal(table.name)
    )


def _write_apart(cursor: Cursor, merge: Merge, wanted: Wanted) -> _Written:
    """Insert, then update what was there: two statements, whose own counts are exact in a partitioned table too."""
    written = _written(cursor, merge.insert() + (_ROWS if wanted.keys else _COUNTS), wanted)
    if not merge.table.compared and not merge.table.fixed:
        return written
    with waiting():
        cursor.execute(merge.update(keys=wanted.keys))
    updated = cursor.rowcount
    keys = tuple(key_of(row[1:]) for row in cursor.fetchall()) if wanted.keys else ()
    return replace(written, updated=updated, updated_keys=keys)


def _written(cursor: Cursor, statement: str | sql.Composed, wanted: Wanted) -> _Written:
    with waiting():
        cursor.execute(statement)
    if not wanted.keys:
        differing, inserted, updated = cursor.fetchone()
        return _Written(differing=differing, inserted=inserted, updated=updated)
    rows = cursor.fetchall()
    new = tuple(key_of(row[2:]) for row in rows if row[1] is True)
    old = tuple(key_of(row[2:]) for row in rows if row[1] is False)
    return _Written(differing=rows[0][0], inserted=len(new), updated=len(old), inserted_keys=new, updated_keys=old)


def take_sample(cursor: Cursor, merge: Merge, size: int) -> tuple[Difference, ...]:
    """Return the first rows that the merge is about to write."""
    cursor.execute(merge.sample(size))
    return tuple(_difference(merge.table, after, before) for after, before in cursor.fetchall())


def _difference(table: Table, after: str, before: str | None) -> Difference:
    new = {name: value for name, value in json.loads(after).items() if name in table.columns}
    old = {name: value for name, value in json.loads(before).items() if name in table.columns} if before else None
    return Difference(key={name: new[name] for name in table.key}, before=old, after=new)


def _action(table: Table) -> sql.Composable:
    if not table.compared and not table.fixed:
        return sql.SQL("NOTHING")
    written = [*table.compared, *(name for name, _ in table.fixed)]
    assignments = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Identifier("excluded", name)) for name in written
    )
    return sql.SQL("UPDATE SET {} WHERE {}").format(assignments, _differs(table, "excluded"))


def _differs(table: Table, other: str) -> sql.Composable:
    """Whether a row of the target differs from one of `other` in what the lines or fixed values say."""
    fixed = [
        sql.SQL("{} IS DISTINCT FROM {}").format(sql.Identifier("target", name), sql.Literal(value))
        for name, value in table.fixed
    ]
    if table.compared:
        plain = [name for name in table.compared if name not in table.documents]
        if plain:
            mine, theirs = (sql.SQL("ROW({})").format(names(plain, name)) for name in ("target", other))
            fixed.append(sql.SQL("({}) IS DISTINCT FROM ({})").format(mine, theirs))
        # PostgreSQL compares jsonb value by value, which takes longer than all other columns; equal bytes need no look.
        fixed += [
            sql.SQL("(ROW({mine})::record *<> ROW({theirs})::record AND {mine} IS DISTINCT FROM {theirs})").format(
                mine=sql.Identifier("target", name), theirs=sql.Identifier(other, name)
            )
            for name in table.compared
            if name in table.documents
        ]
    return sql.SQL("({})").format(sql.SQL(" OR ").join(fixed)) if fixed else sql.SQL("FALSE")
