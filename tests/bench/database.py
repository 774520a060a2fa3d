"""The database between the timed parts: tables emptied, filled, vacuumed, counted; settings read."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2 import sql

from ingestion.streams import StringIteratorIO
from tests.bench.shapes import Shape

# Those that decide how fast rows are written, whether they were changed or not.
SETTINGS = (
    "autovacuum", "checkpoint_timeout", "fsync", "full_page_writes", "jit", "maintenance_work_mem", "max_wal_size",
    "server_version", "shared_buffers", "synchronous_commit", "wal_compression", "wal_level", "work_mem",
)  # fmt: skip
# Tables that a peer makes itself, and how they are emptied.
_OWN_TABLES = {"bench_dlt.photos": "DROP SCHEMA IF EXISTS bench_dlt CASCADE"}


class Database:
    """A superuser's connection to the benchmark's database, in autocommit."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self.parameters = dict(parameters)
        self._connection = psycopg2.connect(**self.parameters)
        self._connection.autocommit = True

    def close(self) -> None:
        self._connection.close()

    def query(self, statement: str | sql.Composed, parameters: Any = None) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def configure(self) -> dict[str, str]:
        """Keep autovacuum from running inside a timed part; return the settings."""
        self.query("ALTER SYSTEM SET autovacuum = off")
        self.query("SELECT pg_reload_conf()")
        while self.query("SHOW autovacuum") != [("off",)]:  # each session reads the file between two statements
            time.sleep(0.02)
        rows = self.query(
            "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s) ORDER BY name", [list(SETTINGS)]
        )
        return dict(rows)

    def prepare_file(self, shape: Shape, rows: int) -> str:
        """Write the first rows of a shape into a file that the server can read, by way of the table; return its path.

        The server writes it itself: whoever runs PostgreSQL, its data directory is theirs.
        """
        path = f"{self.query('SHOW data_directory')[0][0]}/{shape.path.strip('/')}-{rows}.copy"
        self.empty(shape.table)
        with self._connection.cursor() as cursor:
            cursor.copy_expert(
                _format("COPY {table} ({columns}) FROM STDIN", shape), StringIteratorIO(shape.lines(rows)), 256 * 1024
            )
        self.query(_format("COPY {table} ({columns}) TO {path}", shape, path=sql.Literal(path)))
        return path

    def empty(self, table: str) -> None:
        if statement := _OWN_TABLES.get(table):
            self.query(statement)
        else:
            self.query(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(_identifier(table)))

    def fill(self, shape: Shape, path: str) -> None:
        """Put the rows of a prepared file into the empty table, as a finished and vacuumed load leaves them."""
        self.empty(shape.table)
        self.query(_format("COPY {table} ({columns}) FROM {path}", shape, path=sql.Literal(path)))

    def change_one_percent(self, table: str) -> None:
        """Let the table fall behind the remote in every hundredth row, spread over all pages."""
        self.query(
            sql.SQL("UPDATE {} SET title = 'changed since' WHERE remote_id %% 100 = 0").format(_identifier(table)), []
        )

    def settle(self, table: str) -> None:
        """Leave nothing to do that a timed part would pay for: statistics, hint bits, dirty pages."""
        if self.exists(table):
            self.query(sql.SQL("VACUUM (ANALYZE) {}").format(_identifier(table)))
        self.query("TRUNCATE ingestion_reject CASCADE")
        self.query("CHECKPOINT")

    def exists(self, table: str) -> bool:
        return bool(self.query("SELECT to_regclass(%s) IS NOT NULL", [table])[0][0])

    def contents(self, table: str, columns: tuple[str, ...]) -> tuple[int, int]:
        """Return the number of rows, and a checksum of these columns that does not depend on their order."""
        statement = sql.SQL("SELECT count(*), coalesce(sum(hashtextextended(ROW({})::text, 0)), 0)::text FROM {}")
        rows, checksum = self.query(
            statement.format(sql.SQL(", ").join(map(sql.Identifier, columns)), _identifier(table))
        )[0]
        return rows, int(checksum)

    def count(self, table: str) -> int:
        return self.query(sql.SQL("SELECT count(*) FROM {}").format(_identifier(table)))[0][0]

    @contextmanager
    def counted_writes(self, table: str) -> Iterator[dict[str, int]]:
        """Give a dictionary that has the tuples inserted, updated and deleted when the block has ended."""
        before = self._written(table)
        written: dict[str, int] = {}
        yield written
        after = self._written(table)
        written.update({name: after[name] - before.get(name, 0) for name in after})

    def _written(self, table: str) -> dict[str, int]:
        self._wait_alone()
        self.query("SELECT pg_stat_force_next_flush()")  # this session's own counts would wait for up to a minute
        rows = self.query(
            "SELECT n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_all_tables WHERE relid = to_regclass(%s)", [table]
        )
        return dict(zip(("inserted", "updated", "deleted"), rows[0], strict=True)) if rows else {}

    def _wait_alone(self) -> None:
        """Wait until the backends of others are gone: they report their counts when they end."""
        others = (
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        deadline = time.monotonic() + 60
        while self.query(others)[0][0]:
            assert time.monotonic() < deadline, "somebody else is connected to the benchmark's database"
            time.sleep(0.02)


def _format(statement: str, shape: Shape, **parts: sql.Composable) -> sql.Composed:
    columns = sql.SQL(", ").join(map(sql.Identifier, shape.columns))
    return sql.SQL(statement).format(table=_identifier(shape.table), columns=columns, **parts)


def _identifier(table: str) -> sql.Identifier:
    return sql.Identifier(*table.split("."))
