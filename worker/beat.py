"""Beat's scheduler: it starts the runs of feeds itself, in Postgres; a message is not needed for that.

Settings name it in CELERY_BEAT_SCHEDULER; nothing else imports it.
"""

from datetime import datetime
from typing import Any

import structlog
from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry

from ingestion import slots
from ingestion.errors import ConfigurationError
from worker.heartbeats import Pulse
from worker.schedules import feed_of
from worker.slots import Slot, slot_of

log = structlog.get_logger(__name__)


class PatientEntry(ModelEntry):  # type: ignore[misc]  # django-celery-beat ships no types
    """An entry of the schedule that a clock which went back does not silence."""

    last_run_at: datetime

    def is_due(self) -> Any:
        # The clock was ahead when it last ran: until it is there again, nothing would be due.
        self.last_run_at = min(self.last_run_at, timezone.now())
        return super().is_due()


class Scheduler(DatabaseScheduler):  # type: ignore[misc]  # as above
    """Beat's scheduler with a heartbeat at each tick: it works unless what was due last did not get out."""

    Entry = PatientEntry

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._pulse = Pulse()
        self._is_sending = True
        self._due: list[tuple[str, Slot]] = []
        self._looked_at = timezone.now()
        super().__init__(*args, **kwargs)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        self._start_due()
        now = timezone.now()
        if now < self._looked_at:
            # The clock went back. Celery would look at nothing until it is again where it was.
            self._heap = None
        self._looked_at = now
        seconds: float = super().tick(*args, **kwargs)
        self._pulse.beat(is_working=self._is_sending and not self._due)
        return seconds

    def apply_entry(self, entry: PatientEntry, producer: Any = None) -> None:
        """Start the run of a feed in Postgres before beat notes that its entry ran; send a message for all others."""
        feed = feed_of(entry.task, entry.kwargs)
        if feed is None:
            super().apply_entry(entry, producer=producer)
            return
        self._due.append((feed, slot_of(entry.schedule, entry.last_run_at, timezone.now())))
        self._start_due()
        self._do_sync()

    def apply_async(self, *args: Any, **kwargs: Any) -> Any:
        self._is_sending = False
        sent = super().apply_async(*args, **kwargs)
        self._is_sending = True
        return sent

    def _start_due(self) -> None:
        """Start what is due; what the database does not take now is tried again at the next tick."""
        while self._due:
            feed, slot = self._due[0]
            try:
                slots.start(feed, slot.name, due_at=slot.due_at, now=timezone.now())
            except ConfigurationError as error:
                message = "schedule without a feed: disable or delete its entry in the admin"
                log.warning(message, feed=feed, error=str(error))
            except (DatabaseError, InterfaceError) as error:
                log.warning("could not start a slot; the next tick will", feed=feed, slot=slot.name, error=str(error))
                connection.close()
                return
            self._due.pop(0)
