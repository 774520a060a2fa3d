"""Sessions of the database that have a name as long as a transaction lasts, by which others find and end them."""

from collections.abc import Sequence

from ingestion.loaders.tables import Cursor


def end_sessions(cursor: Cursor, names: Sequence[str]) -> int:
    """End the sessions of these names, whatever they are at; return how many there were.

    Nothing less ends one whose process was frozen in the middle of a COPY: until its client sends more, it has no
    statement to cancel, and is not idle either. Of a session that belongs to another user of the database nothing is
    seen, and nothing ended.

    Args:
        names: as `prepare_transaction` was given them.
    """
    cursor.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = ANY(%s)"
        " AND datname = current_database() AND pid <> pg_backend_pid() AND pg_has_role(usesysid, 'USAGE')",
        [list(names)],
    )
    return sum(ended for (ended,) in cursor.fetchall())
