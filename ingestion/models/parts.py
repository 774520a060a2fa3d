"""Parts of runs, and who advanced them."""

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from ingestion.models.runs import Run
from ingestion.models.states import ACTIVE, TURN, Outcome, State


class Part(models.Model):
    """An independently resumable share of a run: its cursor, who owns it and when it is due."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="parts")
    number = models.PositiveIntegerField(default=1)
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    # What it covers: empty for all of it, null as long as nobody has divided the run.
    share = models.JSONField(null=True, default=dict, db_default={}, editable=False)
    cursor = models.JSONField(null=True)
    # The highest watermark that was loaded up to the cursor.
    highest = models.JSONField(null=True, editable=False)
    # The epoch as whoever wrote the cursor knew it: the database refuses the cursor of an older one. A trigger keeps it
    # in step when the epoch is raised.
    writer_epoch = models.BigIntegerField(db_default=0, default=0, editable=False)
    # Raised by each takeover; a commit with an old epoch fails.
    epoch = models.BigIntegerField(default=0)
    owner = models.CharField(max_length=200, blank=True)
    leased_until = models.DateTimeField(null=True)
    # Take-ups without progress; a committed chunk sets it back.
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True)
    woken_at = models.DateTimeField(null=True)
    waiting_for = models.TextField(blank=True)
    # It waits for another attempt, and another part of its run has its turn meanwhile.
    gave_turn = models.BooleanField(db_default=False, default=False, editable=False)

    class Meta:
        ordering = ("run", "number")
        constraints = (
            models.UniqueConstraint(fields=("run", "number"), name="ingestion_part_number_unique"),
            models.CheckConstraint(condition=Q(state__in=State.values), name="ingestion_part_state_known"),
            models.CheckConstraint(condition=Q(writer_epoch=F("epoch")), name="ingestion_part_written_in_its_epoch"),
            models.CheckConstraint(
                condition=~Q(state=State.RUNNING) | Q(leased_until__isnull=False),
                name="ingestion_part_running_is_leased",
            ),
            models.CheckConstraint(
                condition=~Q(state=State.WAITING) | Q(next_attempt_at__isnull=False) | Q(waiting_for=TURN),
                name="ingestion_part_waiting_has_a_time_or_turn",
            ),
        )
        indexes = (
            models.Index(
                fields=("state", "next_attempt_at"), condition=Q(state__in=ACTIVE), name="ingestion_part_active"
            ),
            # A run may have thousands of parts, and whoever ends one looks for the next one's turn.
            models.Index(fields=("run", "number"), condition=Q(state__in=ACTIVE), name="ingestion_part_active_of_run"),
        )

    def __str__(self) -> str:
        return f"part {self.number} of run {self.run_id}"


class Attempt(models.Model):
    """One process's turn at a part, from the claim to where it left the part."""

    part = models.ForeignKey(Part, on_delete=models.CASCADE, related_name="history", db_index=False)
    epoch = models.BigIntegerField()
    owner = models.CharField(max_length=200)
    # Celery's name of the worker; empty for a command in the foreground.
    worker = models.CharField(max_length=200, blank=True)
    taken_at = models.DateTimeField(db_default=Now(), editable=False)
    ended_at = models.DateTimeField(null=True, editable=False)
    outcome = models.CharField(max_length=10, choices=Outcome, blank=True)
    detail = models.TextField(blank=True)

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(fields=("part", "epoch"), name="ingestion_attempt_epoch_unique"),
            models.UniqueConstraint(fields=("part",), condition=Q(ended_at=None), name="ingestion_attempt_one_open"),
            models.CheckConstraint(
                condition=Q(ended_at=None, outcome="") | Q(ended_at__isnull=False, outcome__in=Outcome.values),
                name="ingestion_attempt_outcome_when_ended",
            ),
        )

    def __str__(self) -> str:
        return f"attempt {self.epoch} at {self.part}"
