"""Keep a part while a slice advances it, however long its transactions and its waits for the network take."""

import threading
from types import TracebackType
from typing import Final, Self

import structlog
from django.db import DatabaseError, InterfaceError, connection

from ingestion import attempts, sqlstates
from ingestion.errors import PartTaken
from ingestion.models import Part

log = structlog.get_logger(__name__)

# Well below attempts.LEASE: three renewals may fail before anybody takes the part over.
RENEW_SECONDS: Final = 5.0
# A renewal that hangs must not keep the slice from ending; its thread is a daemon.
JOIN_SECONDS: Final = 2.0


class Lease:
    """Renew the part's lease from a thread, and a connection of its own, while used as a context manager.

    A slice shorter than RENEW_SECONDS costs a thread and no connection. Inside of a transaction there is nothing to
    renew: nobody else sees the part. The lease only tells others when to take over; what keeps a process that was
    frozen meanwhile from writing is the epoch, which each commit compares.
    """

    def __init__(self, part: Part) -> None:
        self._part = part
        self._is_lost = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="renew", daemon=True)

    def __enter__(self) -> Self:
        if not connection.in_atomic_block:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join(timeout=JOIN_SECONDS)

    def check(self) -> None:
        """Find out between two chunks whether the part is still ours, without asking the database.

        Raises:
            PartTaken: the last renewal found that it is not.
        """
        if self._is_lost:
            raise PartTaken(f"{self._part} was taken over or cancelled")

    def _renew(self) -> None:
        try:
            while not self._done.wait(RENEW_SECONDS):
                self._renew_once()
        except PartTaken:
            self._is_lost = True
        finally:
            connection.close()

    def _renew_once(self) -> None:
        try:
            attempts.renew(self._part)
        except (DatabaseError, InterfaceError) as error:
            # The slice meets the same database, and knows what to do about it.
            log.debug("could not renew the lease", error=sqlstates.message(error))
            connection.close()
