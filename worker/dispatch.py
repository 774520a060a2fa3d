"""Wake-ups: Celery messages that make a worker look at a part. Postgres knows what is due, so any may be lost."""

from contextlib import AbstractContextManager
from typing import Any, Final

import structlog
from celery import current_app
from celery.signals import worker_ready, worker_shutting_down
from django.conf import settings
from django.db import DatabaseError
from django.db import connection as database
from kombu import Producer
from kombu.pools import producers

from ingestion import attempts, stopping, waking

log = structlog.get_logger(__name__)

# What one try of publishing waits for the broker. The settings' own limits are for workers, which block on reads.
PUBLISH_SECONDS: Final = 1.0
# With more messages waiting than this, parts that have one are not woken again: it would grow without end.
BACKLOG: Final = 20
RETRY_ONCE: Final = {"max_retries": 1, "interval_start": 0.1, "interval_step": 0.1, "interval_max": 0.2}


def wake(part: int) -> None:
    """Send the message that advances a part, within about 2 s or not at all: somebody waits in front of the admin.

    Raises:
        Exception: the broker does not answer, with its client's own error; dispatch will find the part.
    """
    with _producer() as producer:
        current_app.send_task(
            "worker.advance", kwargs={"part": part}, producer=producer, retry=True, retry_policy=RETRY_ONCE
        )


def _producer() -> AbstractContextManager[Producer]:
    timeouts = {"socket_timeout": PUBLISH_SECONDS, "socket_connect_timeout": PUBLISH_SECONDS}
    options = {**settings.CELERY_BROKER_TRANSPORT_OPTIONS, **timeouts}
    connection = current_app.connection_for_write(transport_options=options)
    acquired: AbstractContextManager[Producer] = producers[connection].acquire(block=True, timeout=2 * PUBLISH_SECONDS)
    return acquired


def wake_due() -> int:
    """Wake every part that is due and unowned; return how many. Safe in any number of copies."""
    attempts.free_abandoned()
    if not waking.is_due():
        return 0
    due = waking.due_parts(again=not _is_backlogged())
    waking.wake(due)
    if due:
        log.info("woke due parts", parts=len(due))
    return len(due)


def _is_backlogged() -> bool:
    """Whether so many messages wait that no part needs a second one: busy workers lose no messages.

    Also when the broker does not answer: parts that have no message yet are tried anyway.
    """
    try:
        with _producer() as producer:
            channel: Any = producer.channel
            waiting: int = channel.queue_declare(queue=settings.CELERY_TASK_DEFAULT_QUEUE).message_count
    except Exception as error:  # noqa: BLE001 - whatever the broker's client raises
        log.debug("could not count messages", error=f"{type(error).__name__}: {error}")
        return True
    return waiting > BACKLOG


def connect() -> None:
    """Dispatch when a worker starts, and keep doing so from its timer: beat may be down. End slices when it stops."""
    worker_ready.connect(_on_worker_ready, weak=False, dispatch_uid="worker.dispatch")
    worker_shutting_down.connect(_on_worker_shutting_down, weak=False, dispatch_uid="worker.stopping")


def _on_worker_ready(sender: Any, **_: Any) -> None:
    try:
        wake_due()
    except DatabaseError as error:
        log.warning("could not dispatch at start", error=str(error))
    finally:
        # This is the parent of the pool: its children must not inherit an open connection.
        database.close()
    every = settings.DISPATCH_EVERY.total_seconds()
    sender.timer.call_repeatedly(every, _send_dispatch, (every,))


def _on_worker_shutting_down(**_: Any) -> None:
    # Still inside of the signal handler: no log line, no lock.
    stopping.request()


def _send_dispatch(every: float) -> None:
    try:
        # A dispatch nobody took in time is worth nothing: the next one sees the same.
        current_app.send_task("worker.dispatch", expires=every)
    except Exception as error:  # noqa: BLE001 - the timer must survive whatever the broker's client raises
        log.warning("could not send dispatch", error=f"{type(error).__name__}: {error}")
