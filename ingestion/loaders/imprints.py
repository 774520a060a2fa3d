"""A table's imprint: what tells later whether anybody else has changed its rows. The caller owns the transaction.

Note [Imprints]: every version of a row carries the number of the transaction that wrote it (xmin), so the numbers of
rows by transaction are changed by any insert, update or delete that is committed, and by TRUNCATE and a restored dump.
Vacuuming and rewriting the table leave them alone. This reads the table once, some 0.15 µs a row. What others have
done beside a run that writes rows itself is in the same imprint as its own work; the server's counters of rows
written tell them apart. They come up to a minute late from a session that goes on working, so that such a change is
noticed one run later at worst. Crashes and resets of the counters make them differ.
"""

from typing import Final

import msgspec
from psycopg2 import sql

from ingestion.loaders.tables import Cursor, Table

# Ordinary and partitioned tables: views and foreign tables have no versions of rows.
_KINDS: Final = ("r", "p")
_WRITES: Final = ("inserted", "updated", "deleted")


class Imprint(msgspec.Struct, frozen=True, kw_only=True):
    """What a table was like.

    Args:
        oid: the table itself, which a table made anew does not share.
        columns: digest of its columns' numbers, names and types.
        versions: digest of how many rows each transaction has written.
        written: rows inserted, updated and deleted in all, as the server counts them.
    """

    oid: int
    columns: str
    versions: str
    written: int


def take_imprint(cursor: Cursor, table: Table) -> Imprint | None:
    """Return the table's imprint; None where the server cannot tell. Reads the whole table."""
    cursor.execute(
        "SELECT oid, relkind, (SELECT md5(string_agg(concat_ws(' ', attnum, attname, atttypid, atttypmod),"
        " ',' ORDER BY attnum)) FROM pg_attribute WHERE attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped),"
        " current_setting('track_counts')::bool"
        " FROM pg_class WHERE oid = to_regclass(quote_ident(%s))",
        [table.name],
    )
    found = cursor.fetchone()
    if found is None or found[1] not in _KINDS or not found[3]:
        return None
    written = _written(cursor, found[0])
    cursor.execute(
        sql.SQL(
            "SELECT concat_ws(' ', sum(rows), sum(hashtextextended(writer || ' ' || rows, 0)))"
            " FROM (SELECT xmin::text AS writer, count(*) AS rows FROM {} GROUP BY xmin) AS versions"
        ).format(table.identifier)
    )
    return Imprint(oid=found[0], columns=found[2], versions=cursor.fetchone()[0], written=written)


def _written(cursor: Cursor, oid: int) -> int:
    """Count the rows ever written to the table and its partitions, those of this session included."""
    counts = [f"pg_stat_get{kind}_tuples_{what}(relid)" for kind in ("", "_xact") for what in _WRITES]
    cursor.execute(
        f"SELECT coalesce(sum({' + '.join(counts)}), 0)::bigint FROM"  # noqa: S608 - names of functions, see above
        " (SELECT relid FROM pg_partition_tree(%s) UNION SELECT %s::oid::regclass) AS tables",
        [oid, oid],
    )
    return int(cursor.fetchone()[0])


def report_writes(cursor: Cursor) -> None:
    """Let the server count what this transaction writes as soon as it is committed, not up to a minute later."""
    cursor.execute("SELECT pg_stat_force_next_flush()")
