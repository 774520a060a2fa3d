"""Sessions of the database that are named, for as long as a transaction lasts, so that others find and end them."""

from collections.abc import Sequence
from typing import Final

from ingestion.loaders.tables import Cursor

_FINISHES: Final = " finishes"
# Of a session that belongs to another user of the database nothing is seen, and nothing ended.
_NAMED: Final = (
    " FROM pg_stat_activity WHERE application_name = ANY(%s)"
    " AND datname = current_database() AND pid <> pg_backend_pid() AND pg_has_role(usesysid, 'USAGE')"
)


def name_finish(cursor: Cursor) -> None:
    """Add to the session's name that it finishes a run: everybody sees who works so long."""
    cursor.execute(
        "SELECT set_config('application_name', current_setting('application_name') || %s, true)", [_FINISHES]
    )


def stop_finish(cursor: Cursor, names: Sequence[str]) -> bool:
    """End the statement of a session of these names that finishes a run; its transaction rolls back. False without one.

    Args:
        names: as `prepare_transaction` was given them.
    """
    cursor.execute(f"SELECT pg_cancel_backend(pid){_NAMED}", [[name + _FINISHES for name in names]])
    return bool(cursor.fetchall())


def end_sessions(cursor: Cursor, names: Sequence[str]) -> int:
    """End the sessions of these names, whatever they are at; return how many there were.

    Nothing less ends one whose process was frozen in the middle of a COPY: until its client sends more, it has no
    statement to cancel, and is not idle either.
    """
    cursor.execute(
        f"SELECT pg_terminate_backend(pid){_NAMED}",
        [[*names, *(name + _FINISHES for name in names)]],
    )
    return len(cursor.fetchall())
