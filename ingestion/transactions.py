"""Short transactions: a process that is frozen in one does not keep its locks for ever."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction

from ingestion import loaders


@contextmanager
def brief(*, lock_timeout: str | None = None) -> Iterator[None]:
    """As `transaction.atomic`, for a few statements in a row, between which the process does nothing else.

    The server ends the session when the next statement does not come within `loaders.IDLE_TIMEOUT`. Inside of a
    caller's transaction it is a savepoint, and the caller says how long that may last.

    Args:
        lock_timeout: how long a statement waits for somebody else's lock; for ever by default.
    """
    is_outermost = not connection.in_atomic_block
    with transaction.atomic():
        if is_outermost:
            settings = {"idle_in_transaction_session_timeout": loaders.IDLE_TIMEOUT}
            if lock_timeout is not None:
                settings["lock_timeout"] = lock_timeout
            with connection.cursor() as cursor:
                loaders.set_local(cursor, settings)
        yield
