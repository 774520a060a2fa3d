"""Heartbeats of the worker and of beat for their health check, where HEALTH_FILE says that one is made.

Settings name this module in CELERY_IMPORTS.
"""

import time
from pathlib import Path
from typing import Any

import structlog
from celery.signals import heartbeat_sent
from celery.worker import state
from django.conf import settings

from worker import health

log = structlog.get_logger(__name__)


class Pulse:
    """The heartbeat of this process."""

    def __init__(self) -> None:
        self._working_at = time.monotonic()  # the start has a claim to the same patience

    def beat(self, *, is_working: bool) -> None:
        """Write that the process lives, and whether it works; never fails, because the work goes on without it."""
        if not settings.HEALTH_FILE:
            return
        now = time.monotonic()
        if is_working:
            self._working_at = now
        try:
            health.write(Path(settings.HEALTH_FILE), health.Heartbeat(alive_at=now, working_at=self._working_at))
        except OSError as error:
            log.warning("could not write the heartbeat", error=str(error))


class WorkerPulse(Pulse):
    """The worker's heartbeat, from its main loop: it works while a task runs, or one began since the last beat.

    A worker can beat without consuming (a consumer cancelled or lost in a reconnection, a pool that cannot fork); as
    dispatch comes every few seconds, tasks that fail to begin tell. One that hangs ends at its hard time limit.
    """

    def __init__(self) -> None:
        super().__init__()
        self._begun = 0

    def beat_of_worker(self, **_: Any) -> None:
        """Take the signal that the main loop sends every two seconds while it has its broker."""
        begun = state.all_total_count[0]
        self.beat(is_working=begun != self._begun or bool(state.active_requests))
        self._begun = begun


heartbeat_sent.connect(WorkerPulse().beat_of_worker, weak=False, dispatch_uid="worker.heartbeats")
