"""What a database error means for the caller, by SQLSTATE and diagnostics, never by message text.

Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

import re
from typing import Any, Final

from django.db import DatabaseError, InterfaceError

UNIQUE_VIOLATION: Final = "23505"
LOCK_NOT_AVAILABLE: Final = "55P03"
# The server became a replica: a new connection may find the one that takes writes.
READ_ONLY: Final = "25006"

# Gone when tried again: serialization, deadlock, lock and statement timeouts, connection limit, read-only failover, a
# session that was ended because its process paused for too long.
_TRANSIENT: Final = frozenset({"40001", "40P01", LOCK_NOT_AVAILABLE, "57014", "53300", "25006", "25P03"})
# Whole classes of that kind: connection exceptions, and shutdown or crash of the server.
_TRANSIENT_CLASSES: Final = ("08", "57P")
# What one record did: data exceptions, integrity constraint violations, what no index entry or row has room for, and
# keys that only the database takes for the same one, as those of citext: apart from each other, they are loaded.
_RECORD_CLASSES: Final = ("21000", "22", "23", "54000")
_REASONS: Final = {
    "23502": "not_null_violation",
    "23503": "foreign_key_violation",
    "23505": "unique_violation",
    "23514": "check_violation",
    "23P01": "exclusion_violation",
    "54000": "too_large",
}


def sqlstate(error: BaseException) -> str:
    """Return the SQLSTATE behind Django's exception; empty when the server sent none, as when the connection broke."""
    return getattr(error.__cause__, "pgcode", None) or ""


def constraint(error: BaseException) -> str | None:
    """Return the name of the constraint that was violated, as far as the server told it."""
    diagnostics = getattr(error.__cause__, "diag", None)
    return getattr(diagnostics, "constraint_name", None)


def is_transient(error: DatabaseError | InterfaceError) -> bool:
    """Whether the same statements may succeed later, on a new connection if need be."""
    code = sqlstate(error)
    return not code or code in _TRANSIENT or code.startswith(_TRANSIENT_CLASSES)


def is_about_a_record(error: DatabaseError) -> bool:
    """Whether one record of a load is to blame."""
    return sqlstate(error).startswith(_RECORD_CLASSES)


def reason(error: DatabaseError) -> str:
    """Return the reason code of a record that the database refused."""
    return _REASONS.get(sqlstate(error), "refused_by_database")


def field(error: DatabaseError) -> str | None:
    """Return the column, or else the constraint, that the error is about."""
    return _diagnostic(error, "column_name") or _diagnostic(error, "constraint_name") or _copy_column(error)


def copy_line(error: DatabaseError) -> int | None:
    """Return the number of the line that COPY refused, from 1; None when the error is not about a line of COPY."""
    found = _COPY_CONTEXT.match(_diagnostic(error, "context") or "")
    return int(found["line"]) if found else None


def message(error: DatabaseError | InterfaceError) -> str:
    """Describe the error for people: the server's own sentence and where it was; no data beyond what that shows."""
    primary = _diagnostic(error, "message_primary")
    if primary is None:
        return f"database error: {str(error).strip()[:300]}"
    context = _diagnostic(error, "context")
    where = f" ({context.splitlines()[0][:200]})" if context else ""
    return f"database error {sqlstate(error)}: {primary}{where}"


_COPY_CONTEXT: Final = re.compile(r"COPY [^,]+, line (?P<line>\d+)(?:, column (?P<column>[^:\s]+))?")


def _copy_column(error: DatabaseError) -> str | None:
    found = _COPY_CONTEXT.match(_diagnostic(error, "context") or "")
    return found["column"] if found else None


def _diagnostic(error: BaseException, name: str) -> str | None:
    diagnostics: Any = getattr(error.__cause__, "diag", None)
    value: str | None = getattr(diagnostics, name, None)
    return value
