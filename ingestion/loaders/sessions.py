"""Sessions of the database that can be found again, to end the statement that one of them is at."""

from ingestion.loaders.tables import Cursor, RunTables


def name_finish(cursor: Cursor, tables: RunTables) -> None:
    """Name the session after the finish of a run, until its transaction ends: everybody sees who works so long."""
    cursor.execute("SELECT set_config('application_name', %s, true)", [_name(tables.run)])


def stop_finish(cursor: Cursor, run: int) -> bool:
    """End the statement of the session that finishes a run, whose transaction then rolls back; False without one.

    Of a session that belongs to another user of the database nothing is seen, and nothing ended.
    """
    cursor.execute(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
        " AND datname = current_database() AND pid <> pg_backend_pid() AND pg_has_role(usesysid, 'USAGE')",
        [_name(run)],
    )
    return bool(cursor.fetchall())


def _name(run: int) -> str:
    return f"ingestion finishes run {run}"
