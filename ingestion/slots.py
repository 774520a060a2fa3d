"""Slots of schedules: each starts at most one run, whoever asks for it and however often."""

from datetime import datetime, timedelta
from typing import Final

import structlog
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from ingestion import feeds, runs, sqlstates
from ingestion.models import FeedState, Slot, Trigger
from ingestion.transactions import brief

log = structlog.get_logger(__name__)

# Beat looks at least every 5 s; what is later than this was missed.
MISSED_AFTER: Final = timedelta(minutes=1)
# Nobody fires a slot again that is older.
KEPT: Final = timedelta(days=120)


def start(name: str, slot: str, *, due_at: datetime, now: datetime) -> bool:
    """Queue the run of a feed's slot, unless the slot was taken before; return whether it was taken now.

    A run that is still active serves the slot as well. A missed slot is taken without a run where the feed says so.

    Raises:
        ConfigurationError: there is no such feed.
    """
    feed = feeds.get(name)
    state, _ = FeedState.objects.get_or_create(name=name)
    with brief():
        try:
            with transaction.atomic():
                taken = Slot.objects.create(feed=state, name=slot)
        except IntegrityError as error:
            if sqlstates.constraint(error) != "ingestion_slot_once":
                raise
            log.info("slot taken before", feed=name, slot=slot)
            return False
        if feed.missed == "skip" and now - due_at > MISSED_AFTER:
            log.info("skipped a missed slot", feed=name, slot=slot)
            return True
        run, created = runs.request(name, trigger=Trigger.SCHEDULE)
        Slot.objects.filter(pk=taken.pk).update(run=run)
        Slot.objects.filter(feed=state, taken_at__lt=Now() - KEPT).delete()
    if not created:
        log.info("already running", feed=name, run=run.pk, since=runs.since(run))
    return True
