"""Runs: what was asked for, what became of it, and what it cost."""

from typing import Any

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from ingestion.models.feeds import FeedState
from ingestion.models.states import ACTIVE, ENDED, State, Trigger


class Run(models.Model):
    """One sync of one feed, with its counters. At most one run of a feed is active, and one backfill."""

    feed = models.ForeignKey(FeedState, on_delete=models.PROTECT, related_name="runs")
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    trigger = models.CharField(max_length=10, choices=Trigger)
    requested_by = models.CharField(max_length=150, blank=True)
    requested_at = models.DateTimeField(db_default=Now(), editable=False)
    started_at = models.DateTimeField(null=True, editable=False)
    first_commit_at = models.DateTimeField(null=True, editable=False)
    finished_at = models.DateTimeField(null=True, editable=False)
    pages = models.BigIntegerField(default=0)
    # Those among them that were as an earlier run had loaded them.
    pages_skipped = models.BigIntegerField(default=0, db_default=0)
    read = models.BigIntegerField(default=0)
    inserted = models.BigIntegerField(default=0)
    updated = models.BigIntegerField(default=0)
    unchanged = models.BigIntegerField(default=0)
    deleted = models.BigIntegerField(default=0)
    duplicates = models.BigIntegerField(default=0)
    rejected = models.BigIntegerField(default=0)
    # Records that the feed's rules left out; they are not among those read.
    skipped = models.BigIntegerField(default=0, db_default=0)
    # `column:rule` to how many values were coerced by it.
    coercions = models.JSONField(default=dict, db_default={})
    # What this run has seen of the source's records, and what of it differs from what was known.
    shape = models.JSONField(default=dict, db_default={}, editable=False)
    drift = models.JSONField(default=list, db_default=[])
    # What its end does not tell: what of its source nobody can promise.
    warnings = models.JSONField(default=list, db_default=[])
    # Somebody wants it to go on where its feed lets drift fail it.
    accept_drift = models.BooleanField(db_default=False, default=False)
    error = models.TextField(blank=True)
    # Where its parts are read from, as far as that is known; empty when it is not to wait for others.
    host = models.CharField(max_length=253, blank=True, default="", db_default="", editable=False)
    # It stops after so many records, and then deletes and replaces nothing.
    limit = models.PositiveBigIntegerField(null=True, editable=False)
    # So many of its parts are queued, running or waiting for an attempt; the others wait for their turn.
    parts_at_once = models.PositiveIntegerField(default=1, db_default=1, editable=False)
    # Of an incremental feed: the watermark it began with, where it asks from, and where it has left the watermark.
    watermark = models.JSONField(default=dict, db_default={}, editable=False)
    # Somebody wants it to load every page, unchanged or not, and from the start.
    full = models.BooleanField(db_default=False, default=False)
    # Somebody wants it to delete as much as it finds missing, beyond the feed's limit.
    confirm_deletes = models.BooleanField(db_default=False, default=False)
    # How often it was made active again after it had failed or been cancelled.
    resumes = models.PositiveIntegerField(db_default=0, default=0)
    # Who did so last, and when.
    resumed_by = models.CharField(max_length=150, blank=True, default="", db_default="", editable=False)
    resumed_at = models.DateTimeField(null=True, editable=False)
    # The group of its feed when it was asked for: see Note [Groups]. Empty for most.
    group = models.CharField(max_length=100, blank=True, default="", db_default="", editable=False)

    class Meta:
        ordering = ("-id",)
        permissions = (("cancel_run", "Can cancel runs"), ("resume_run", "Can resume runs"))
        # The last run of each feed is what every list shows; the others are for the filters of the admin's list, which
        # would read the whole history for a value that few runs have. No chunk changes any of these columns.
        indexes = (
            models.Index(fields=("feed", "-id"), name="ingestion_run_feed_newest"),
            models.Index(fields=("state", "-id"), name="ingestion_run_state_newest"),
            models.Index(fields=("trigger", "-id"), name="ingestion_run_trigger_newest"),
            models.Index(fields=("requested_at",), name="ingestion_run_requested"),
            models.Index(
                fields=("group", "id"),
                condition=Q(state__in=ACTIVE) & ~Q(group=""),
                name="ingestion_run_active_of_group",
            ),
        )
        constraints = (
            models.UniqueConstraint(
                fields=("feed",),
                condition=Q(state__in=ACTIVE) & ~Q(trigger=Trigger.BACKFILL),
                name="ingestion_run_one_active_per_feed",
            ),
            models.UniqueConstraint(
                fields=("feed",),
                condition=Q(state__in=ACTIVE, trigger=Trigger.BACKFILL),
                name="ingestion_run_one_active_backfill_per_feed",
            ),
            models.UniqueConstraint(
                fields=("group",),
                condition=Q(state=State.RUNNING) & ~Q(group=""),
                name="ingestion_run_one_running_per_group",
            ),
            models.CheckConstraint(condition=Q(state__in=State.values), name="ingestion_run_state_known"),
            models.CheckConstraint(
                condition=Q(state__in=ACTIVE, finished_at=None) | Q(state__in=ENDED, finished_at__isnull=False),
                name="ingestion_run_finished_when_ended",
            ),
            # The promise, kept by the database: a green run accounts for every record it read.
            models.CheckConstraint(
                condition=~Q(state=State.SUCCEEDED)
                | Q(read=F("inserted") + F("updated") + F("unchanged") + F("duplicates") + F("rejected")),
                name="ingestion_run_succeeded_adds_up",
            ),
        )

    def __str__(self) -> str:
        return f"run {self.pk} of {self.feed}"

    @property
    def reads_everything(self) -> bool:
        """Whether its end is the source's own: only then is anything deleted or replaced."""
        return self.limit is None and self.trigger not in (Trigger.REPLAY, Trigger.BACKFILL)

    @property
    def starts_over(self) -> bool:
        """Whether it asks for everything, and not for what has changed since an earlier run."""
        return bool(self.watermark.get("starts_over", True))

    @property
    def seconds(self) -> float | None:
        """From the first take-up to the end; None before it ended."""
        if self.started_at is None or self.finished_at is None:
            return None
        return round((self.finished_at - self.started_at).total_seconds(), 3)

    def summary(self) -> dict[str, Any]:
        """Return the run as the JSON object of the command contract."""
        return {
            "feed": self.feed.name,
            "run": self.pk,
            "state": self.state,
            "pages": self.pages,
            "pages_skipped": self.pages_skipped,
            "read": self.read,
            "inserted": self.inserted,
            "updated": self.updated,
            "unchanged": self.unchanged,
            "deleted": self.deleted,
            "duplicates": self.duplicates,
            "rejected": self.rejected,
            "skipped": self.skipped,
            "coercions": self.coercions,
            "drift": self.drift,
            "warnings": self.warnings,
            "seconds": self.seconds,
            "first_commit_at": self.first_commit_at.isoformat() if self.first_commit_at else None,
            "error": self.error or None,
            "waiting_for": self.waiting_for,
        }

    @property
    def waiting_for(self) -> str | None:
        """Return what the run waits for; None when it is not waiting."""
        if self.state != State.WAITING:
            return None
        first = self.parts.filter(state=State.WAITING, next_attempt_at__isnull=False).order_by("next_attempt_at")
        return first.values_list("waiting_for", flat=True).first()


class RunTraces(models.Model):
    """What the requests of a run cost: see `ingestion.http.traces`."""

    run = models.OneToOneField(Run, on_delete=models.CASCADE, primary_key=True, related_name="traced")
    traces = models.JSONField(default=dict, db_default={})

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"traces of {self.run}"


class Slot(models.Model):
    """A moment of a feed's schedule that was seen to; there is one row for it, and so one run at most."""

    feed = models.ForeignKey(FeedState, on_delete=models.CASCADE, related_name="slots")
    # As a clock on the wall shows it, with the zone: see `worker.slots`.
    name = models.CharField(max_length=120)
    taken_at = models.DateTimeField(db_default=Now(), editable=False)
    # None: it was missed, and the feed does not make up for that.
    run = models.ForeignKey(Run, on_delete=models.SET_NULL, null=True, related_name="slots")

    class Meta:
        constraints = (models.UniqueConstraint(fields=("feed", "name"), name="ingestion_slot_once"),)

    def __str__(self) -> str:
        return f"{self.feed} {self.name}"
