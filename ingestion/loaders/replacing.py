"""Replace what a table holds by what a run has staged, in one transaction. The caller owns it.

Note [Replacing rows, not the table]: what differs is deleted, updated and inserted; the table itself stays. TRUNCATE or
a swap of tables would lock readers out, show them an empty table under an older snapshot, or lose views, grants,
foreign keys and triggers. The stage is a logged table, because the run's cursor is committed beside it: a crash would
empty an unlogged one, and the run would go on behind the rows it has lost.
"""

from typing import Any

from psycopg2 import sql

from ingestion.loaders.merging import Merge, merge
from ingestion.loaders.tables import Cursor, Loaded, Missing, RunTables, Table, Wanted, names

# The order of the lines: chunks come one after the other, and a vacuum between two of them would mix up ctid.
LINE = "ingestion_line"


def make_stage(cursor: Cursor, table: Table, tables: RunTables) -> None:
    """Make the run's stage, with the table's own rules about single rows, so that a bad one is found in its chunk."""
    cursor.execute(
        sql.SQL(
            "CREATE TABLE {} (LIKE {} INCLUDING CONSTRAINTS INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING IDENTITY,"
            " {} bigint GENERATED ALWAYS AS IDENTITY)"
        ).format(tables.stage, table.identifier, sql.Identifier(LINE))
    )


def lock(cursor: Cursor, table: Table) -> None:
    """Keep other writers out until the end of the transaction; readers go on."""
    cursor.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(table.identifier))


def merge_stage(cursor: Cursor, table: Table, tables: RunTables, wanted: Wanted) -> Loaded:
    """Merge the staged rows by key; the last line of a key wins.

    Raises:
        django.db.Error: the database refused a row; its transaction is over.
    """
    cursor.execute(sql.SQL("SELECT count(*), count(DISTINCT ({})) FROM {}").format(names(table.key), tables.stage))
    lines, distinct = cursor.fetchone()
    plan = Merge(table=table, has_duplicates=distinct < lines, stage=tables.stage, order=LINE)
    return merge(cursor, plan, wanted, distinct=distinct) + Loaded(duplicates=lines - distinct)


def count_loss(cursor: Cursor, table: Table, tables: RunTables) -> Missing:
    """Count by how many rows a table without a key would shrink."""
    cursor.execute(
        sql.SQL("SELECT (SELECT count(*) FROM {}), (SELECT count(*) FROM {})").format(table.identifier, tables.stage)
    )
    old, new = cursor.fetchone()
    return Missing(rows=max(0, old - new), of=old)


def exchange(cursor: Cursor, table: Table, tables: RunTables) -> Loaded:
    """Delete the rows that were not staged and insert those that are not there, equal ones as often as they came.

    Raises:
        django.db.Error: the database refused a row; its transaction is over.
    """
    parts: dict[str, Any] = {
        "table": table.identifier,
        "stage": tables.stage,
        "columns": names(table.columns),
        # Rows are the same when their text is: types without an equality of their own can be compared, too.
        "row": sql.SQL("md5(ROW({})::text)").format(names(table.columns)),
        "line": sql.Identifier(LINE),
    }
    cursor.execute(
        sql.SQL(
            "WITH old AS (SELECT tableoid, ctid, {row} AS row, row_number() OVER (PARTITION BY {row}) AS number"
            "  FROM {table}),"
            " new AS (SELECT {row} AS row, row_number() OVER (PARTITION BY {row}) AS number FROM {stage})"
            " DELETE FROM {table} AS target USING old LEFT JOIN new USING (row, number)"
            " WHERE new.row IS NULL AND target.tableoid = old.tableoid AND target.ctid = old.ctid"
        ).format(**parts)
    )
    deleted = cursor.rowcount
    cursor.execute(
        sql.SQL(
            "WITH kept AS (SELECT {row} AS row, count(*) AS times FROM {table} GROUP BY 1),"
            " new AS (SELECT *, {row} AS ingestion_row, row_number() OVER (PARTITION BY {row}) AS ingestion_number"
            "  FROM {stage}),"
            " absent AS MATERIALIZED (SELECT new.* FROM new LEFT JOIN kept ON kept.row = ingestion_row"
            "  WHERE ingestion_number > COALESCE(kept.times, 0)),"
            " written AS (INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE"
            "  SELECT {columns} FROM absent ORDER BY {line} RETURNING 1)"
            " SELECT (SELECT count(*) FROM {stage}), (SELECT count(*) FROM absent), (SELECT count(*) FROM written)"
        ).format(**parts)
    )
    lines, absent, inserted = cursor.fetchone()
    return Loaded(deleted=deleted, inserted=inserted, unchanged=lines - absent, lost=absent - inserted)
