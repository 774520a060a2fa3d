"""Puts the tests' database back to what the migrations left, several times as fast as Django's flush."""

from django.db import connection, transaction

SCHEMA = "origin"
# Beyond this, deleting row by row takes longer than TRUNCATE, which makes new files for all tables, and leaves them
# swollen for the tests that follow.
BIG_BYTES = 1024 * 1024


class Origin:
    """A copy of the rows of every table that belongs to a model, in a schema that no search path names."""

    def __init__(self) -> None:
        names = connection.introspection.django_table_names(only_existing=True, include_views=False)
        self.tables = [connection.ops.quote_name(name) for name in names]
        with connection.cursor() as cursor:
            cursor.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
            cursor.execute(f"CREATE SCHEMA {SCHEMA}")
            for table in self.tables:
                cursor.execute(f"CREATE TABLE {SCHEMA}.{table} AS TABLE {table}")
        # {0} is the table, {1} its copy; rows are compared whole.
        state = (
            "SELECT '{0}', pg_table_size('{0}'),"
            " EXISTS (TABLE {0} EXCEPT ALL TABLE {1}) OR EXISTS (TABLE {1} EXCEPT ALL TABLE {0}), EXISTS (TABLE {1})"
        )
        self._states = " UNION ALL ".join(state.format(table, f"{SCHEMA}.{table}") for table in self.tables)

    def restore(self) -> None:
        """Let every table hold its first rows again and no others; sequences go on."""
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(self._states)
            states = cursor.fetchall()
            if any(size > BIG_BYTES for _, size, _, _ in states):
                cursor.execute(f"TRUNCATE {', '.join(self.tables)}")
                refilled = [table for table, _, _, had_rows in states if had_rows]
            else:
                changed = {table: had_rows for table, _, is_changed, had_rows in states if is_changed}
                cursor.execute("SET CONSTRAINTS ALL DEFERRED")
                for table in changed:
                    cursor.execute(f"DELETE FROM {table}")
                refilled = [table for table, had_rows in changed.items() if had_rows]
            for table in refilled:
                cursor.execute(f"INSERT INTO {table} TABLE {SCHEMA}.{table}")
