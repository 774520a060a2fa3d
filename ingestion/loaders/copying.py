"""COPY into tables, and what belongs around it in a transaction. The caller owns the transaction."""

import os
import socket
from collections.abc import Mapping

from psycopg2 import sql

from ingestion.loaders.tables import Cursor, Loaded, Stream, Table, names
from ingestion.resting import waiting

# Characters psycopg2 asks the stream for at once; its default of 8 KiB makes eight times as many calls.
READ_SIZE = 64 * 1024
# What the kernel may hold of the stream for the server. With its default of a Unix socket, 208 KiB, the server has read
# it all before this thread has its turn at the interpreter again.
SEND_BUFFER = 1024 * 1024
# How long a chunk waits for somebody else's lock, and for one statement, before it fails and is tried again.
LOCK_TIMEOUT = "10s"
STATEMENT_TIMEOUT = "10min"
# How long the server waits for a chunk's next statement: a process that was stopped in the middle, or whose machine
# has vanished, must not keep its locks longer than its lease.
IDLE_TIMEOUT = "15s"
# A chunk is joined and sorted in memory; the server's default of 4 MB would spill it to disk.
WORK_MEM = "64MB"


def prepare_transaction(
    cursor: Cursor, *, waits_for_network: bool, is_durable: bool = True, name: str | None = None
) -> None:
    """Bound the waits of the current transaction, and give it the memory for a chunk.

    Note [Durable]: a chunk that is not a part's last one does not wait for the disk. A crash of the server may take the
    chunks of its last moments back, rows and cursor together, and the part goes on from the cursor that is left. The
    COMMIT of the last chunk makes all before it durable as well. Which one is the last is known when COPY has read it:
    see `make_durable`.

    Args:
        waits_for_network: it may be idle between two chunks for as long as a page takes.
        is_durable: COMMIT waits for the disk.
        name: what the session is found by while the transaction lasts; see `sessions`.
    """
    settings = {"lock_timeout": LOCK_TIMEOUT, "statement_timeout": STATEMENT_TIMEOUT, "work_mem": WORK_MEM}
    if not waits_for_network:
        settings["idle_in_transaction_session_timeout"] = IDLE_TIMEOUT
    if not is_durable:
        settings["synchronous_commit"] = "off"
    if name is not None:
        settings["application_name"] = name
    set_local(cursor, settings)


def make_durable(cursor: Cursor) -> None:
    """Let the COMMIT of the current transaction wait for the disk after all, as the session's setting says."""
    cursor.execute("SET LOCAL synchronous_commit TO DEFAULT")


def set_local(cursor: Cursor, settings: Mapping[str, str]) -> None:
    """Give settings of the server, named in code, to the current transaction."""
    cursor.execute("; ".join(f"SET LOCAL {name} = '{value}'" for name, value in settings.items()))


def append(cursor: Cursor, table: Table, stream: Stream) -> Loaded:
    """COPY the lines straight into the table.

    Raises:
        django.db.Error: the database refused a line; its transaction is over.
        Exception: whatever fed the stream raised.
    """
    stored = copy(cursor, table.identifier, table.columns, stream)
    return Loaded(stored=stored, inserted=stored)


def copy(
    cursor: Cursor, target: sql.Identifier, columns: tuple[str, ...], stream: Stream, *, is_new: bool = False
) -> int:
    """COPY the lines into a table and return how many rows the server stored.

    Raises as `append` does.

    Args:
        is_new: the table was made in the same transaction, so that its rows need not be told from anybody else's.
    """
    options = sql.SQL(" WITH (FREEZE)" if is_new else "")
    statement = sql.SQL("COPY {} ({}) FROM STDIN{}").format(target, names(columns), options)
    _widen(cursor)
    try:
        with waiting(), cursor.db.wrap_database_errors:  # Django wraps execute and fetch itself, but not COPY
            cursor.copy_expert(statement, stream, READ_SIZE)
    except Exception:
        # The server only knows that the data stopped; what stopped it is kept in the stream.
        if stream.error is not None:
            raise stream.error from None
        raise
    return cursor.rowcount


def _widen(cursor: Cursor) -> None:
    """Let the kernel hold more of the stream; of a TCP connection it knows best itself how much."""
    with socket.socket(fileno=os.dup(cursor.db.connection.fileno())) as connected:
        if connected.family == socket.AF_UNIX:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)


def check_constraints(cursor: Cursor) -> None:
    """Check deferred constraints now, where the load can still be taken apart, instead of at COMMIT."""
    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def move_sequence(cursor: Cursor, table: Table) -> None:
    """Move the sequence of the table's serial column beyond the highest value loaded, never back.

    A sequence knows no transactions: it stays moved when this one rolls back, which costs a gap.
    """
    if table.serial is None:
        return
    cursor.execute(
        sql.SQL(
            "SELECT sequence::text, highest FROM (SELECT"
            " pg_get_serial_sequence(quote_ident({name}), {text})::regclass AS sequence,"
            " (SELECT max({column}) FROM {table}) AS highest) AS found"
            " WHERE sequence IS NOT NULL AND highest > coalesce(pg_sequence_last_value(sequence), 0)"
        ).format(
            name=sql.Literal(table.name),
            text=sql.Literal(table.serial),
            column=sql.Identifier(table.serial),
            table=table.identifier,
        )
    )
    if behind := cursor.fetchone():
        _move(cursor, *behind)


def _move(cursor: Cursor, sequence: str, highest: int) -> None:
    """Move the sequence to the value, unless somebody moved it further.

    Two chunks that end at once must not both look before either has moved it: the second would move it back. The lock
    makes them take turns; it ends with the savepoint, and not with a transaction that may be a dry run of hours. What
    setval did stays.
    """
    cursor.execute(
        sql.SQL(
            "SAVEPOINT moving;"
            " SELECT pg_advisory_xact_lock(hashtextextended('ingestion sequence ' || {sequence}, 0));"
            " SELECT setval({sequence}, {highest}) WHERE {highest} > coalesce(pg_sequence_last_value({sequence}), 0);"
            " ROLLBACK TO SAVEPOINT moving; RELEASE SAVEPOINT moving"
        ).format(sequence=sql.Literal(sequence), highest=sql.Literal(highest))
    )
