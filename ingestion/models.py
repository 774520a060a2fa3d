"""What is remembered: feeds' state, runs, parts, rejects, files. Rules live in the database; nothing orchestrates."""

from typing import Any

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now


class State(models.TextChoices):
    """Where a run or a part is. The first three are active, the others are ends."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE = (State.QUEUED, State.RUNNING, State.WAITING)
ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELLED)


# What a part waits for that waits without a time: another part of its run has to end first.
TURN = "its turn"


class Trigger(models.TextChoices):
    """Who asked for a run."""

    SCHEDULE = "schedule"
    ADMIN = "admin"
    COMMAND = "command"
    REPLAY = "replay"
    # A period of a feed's past, beside its other runs.
    BACKFILL = "backfill"


class FeedState(models.Model):
    """What is remembered of a declared feed between runs."""

    name = models.CharField(max_length=100, unique=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    # The feed's default schedule is created once; from then on it belongs to the operator, who may delete it.
    schedule_created_at = models.DateTimeField(null=True, editable=False)
    # What is known of the source's records: see `ingestion.drift.Shape`. Empty until the first complete run.
    shape = models.JSONField(default=dict, db_default={}, editable=False)
    # How far an incremental feed has come, by which field of its records, and since when: see Note [Watermarks].
    watermark = models.JSONField(null=True, editable=False)
    watermark_field = models.CharField(max_length=255, blank=True, default="", db_default="", editable=False)
    watermark_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        verbose_name = "feed"
        verbose_name_plural = "feeds"
        ordering = ("name",)
        permissions = (("sync_feedstate", "Can sync feeds"), ("move_watermark", "Can move watermarks of feeds"))

    def __str__(self) -> str:
        return self.name


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


class WatermarkMove(models.Model):
    """A watermark that somebody has moved: who, when, from where to where, and why."""

    feed = models.ForeignKey(FeedState, on_delete=models.CASCADE, related_name="watermark_moves")
    moved_at = models.DateTimeField(db_default=Now(), editable=False)
    moved_by = models.CharField(max_length=150, blank=True)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    reason = models.TextField()

    class Meta:
        default_permissions = ()
        ordering = ("-id",)
        constraints = (models.CheckConstraint(condition=~Q(reason=""), name="ingestion_watermarkmove_has_a_reason"),)

    def __str__(self) -> str:
        return f"watermark of {self.feed} moved by {self.moved_by}"


class Host(models.Model):
    """A host of remotes that has failed, and its circuit breaker: see Note [Breakers]."""

    name = models.CharField(max_length=253, unique=True)
    # Attempts in a row that failed, the last one's time, part and error.
    failures = models.PositiveIntegerField(default=0)
    failed_at = models.DateTimeField(null=True, editable=False)
    failed_part = models.ForeignKey(Part, on_delete=models.SET_NULL, null=True, related_name="+", editable=False)
    reason = models.TextField(blank=True)
    # Since when its feeds wait; null while the breaker is closed.
    opened_at = models.DateTimeField(null=True, editable=False)
    # When the next part may try, how many have failed since it was opened, and who tries now, in which epoch.
    probe_at = models.DateTimeField(null=True, editable=False)
    probes = models.PositiveIntegerField(default=0)
    probe = models.ForeignKey(Part, on_delete=models.SET_NULL, null=True, related_name="+", editable=False)
    probe_epoch = models.BigIntegerField(default=0)
    # When it was closed last, and by whom; empty when the host had answered.
    closed_at = models.DateTimeField(null=True, editable=False)
    closed_by = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering = ("name",)
        permissions = (("close_host", "Can close the circuit breakers of hosts"),)
        constraints = (
            models.CheckConstraint(
                condition=Q(opened_at=None, probe_at=None)
                | Q(opened_at__isnull=False, probe_at__isnull=False, failures__gt=0),
                name="ingestion_host_open_has_a_probe",
            ),
        )

    def __str__(self) -> str:
        return self.name


class Outcome(models.TextChoices):
    """How an attempt at a part ended: where it left the part, or that its process was given up."""

    RELEASED = "released", "slice over, given back"
    WAITING = "waiting", "failed, to be tried again"
    SUCCEEDED = "succeeded", "succeeded"
    FAILED = "failed", "failed"
    CANCELLED = "cancelled", "cancelled"
    LOST = "lost", "its process is gone or did not renew its lease"


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


class Resolution(models.TextChoices):
    """How a reject was settled."""

    SUPERSEDED = "superseded", "a newer version of the record was loaded"
    REPLAYED = "replayed", "the record was replayed; a reject of that run tells if it was refused again"


class Reject(models.Model):
    """A record that could not become a row: why, where it was, and its bytes. Open until it is resolved."""

    feed = models.ForeignKey(FeedState, on_delete=models.PROTECT, related_name="rejects")
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="rejects")
    reason = models.CharField(max_length=60)
    field = models.CharField(max_length=100, blank=True)
    detail = models.TextField(blank=True)
    # Pages are counted in each part of a run; null where the run had one part.
    part = models.PositiveIntegerField(null=True)
    page = models.BigIntegerField()
    position = models.PositiveIntegerField()
    key = models.CharField(max_length=255, blank=True)
    # The first bytes as received; `size_bytes` and the SHA-256 `digest` are of the whole.
    raw = models.BinaryField()
    size_bytes = models.BigIntegerField()
    digest = models.CharField(max_length=64)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    resolved_at = models.DateTimeField(null=True, editable=False)
    resolution = models.CharField(max_length=10, choices=Resolution, blank=True, editable=False)

    class Meta:
        ordering = ("-id",)
        permissions = (("replay_reject", "Can replay rejects"),)
        indexes = (
            models.Index(fields=("feed", "reason"), name="ingestion_reject_feed_reason"),
            models.Index(fields=("feed", "key"), condition=Q(resolved_at=None), name="ingestion_reject_open_key"),
        )
        constraints = (
            models.CheckConstraint(
                condition=Q(resolved_at=None, resolution="") | (Q(resolved_at__isnull=False) & ~Q(resolution="")),
                name="ingestion_reject_resolution_has_a_time",
            ),
        )

    def __str__(self) -> str:
        return f"{self.reason} on {self.place}"

    @property
    def place(self) -> str:
        """Where in its run the record was."""
        part = "" if self.part is None else f"part {self.part:,}, "
        return f"{part}page {self.page:,}, record {self.position:,}"


class SourceFile(models.Model):
    """A file that a feed has loaded to its end, and in which version: it is not read again while that stays."""

    feed = models.ForeignKey(FeedState, on_delete=models.CASCADE, related_name="files")
    run = models.ForeignKey(Run, on_delete=models.SET_NULL, null=True, related_name="files")
    name = models.CharField(max_length=1024)
    # What tells one version from another at its place: a tag, or size and time.
    version = models.CharField(max_length=1024)
    size_bytes = models.BigIntegerField(null=True)
    modified_at = models.DateTimeField(null=True)
    # Those that were read of it, whatever became of them; null for files that were loaded before they were counted.
    records = models.BigIntegerField(null=True)
    loaded_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = "loaded file"
        ordering = ("feed", "name")
        permissions = (("forget_sourcefile", "Can forget loaded files"),)
        constraints = (models.UniqueConstraint(fields=("feed", "name"), name="ingestion_sourcefile_name_unique"),)

    def __str__(self) -> str:
        return self.name


class RunTraces(models.Model):
    """What the requests of a run cost: see `ingestion.http.traces`."""

    run = models.OneToOneField(Run, on_delete=models.CASCADE, primary_key=True, related_name="traced")
    traces = models.JSONField(default=dict, db_default={})

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"traces of {self.run}"


class Memory(models.Model):
    """What a run remembers of its pages. It counts once `after` is there: the run succeeded and left the table so."""

    run = models.OneToOneField(Run, on_delete=models.CASCADE, primary_key=True, related_name="memory")
    # Of what makes rows of a page; another definition makes others of the same bytes.
    definition = models.CharField(max_length=64)
    # Imprints of the table when the run began and ended.
    before = models.JSONField()
    after = models.JSONField(null=True)
    # The memory of the run before, where it may be relied on.
    basis = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, related_name="+")

    def __str__(self) -> str:
        return f"memory of {self.run}"


class RememberedPages(models.Model):
    """What a run remembers of the pages of one chunk."""

    memory = models.ForeignKey(Memory, on_delete=models.CASCADE, related_name="pages")
    # The part's number in its run, what its first page is asked for with, and the number of the chunk's first page.
    part = models.PositiveIntegerField()
    place = models.CharField(max_length=64)
    first = models.BigIntegerField()
    # MessagePack.
    pages = models.BinaryField()
    # The span of the keys that the part had changed by then; null when it could be any.
    changed = models.JSONField(null=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("memory", "part", "first"), name="ingestion_rememberedpages_first_unique"),
        )

    def __str__(self) -> str:
        return f"pages from {self.first} on of {self.memory}"


class Credential(models.Model):
    """A secret that a remote replaces, such as a refresh token: see Note [Keys]. Shown nowhere."""

    name = models.CharField(max_length=100, unique=True)
    sealed = models.BinaryField()
    changed_at = models.DateTimeField(auto_now=True)
    # Since when what is stored may be spent: it was sent for its successor, which is not stored so far.
    asked_at = models.DateTimeField(null=True, editable=False)
    # When the remote refused what is stored: somebody has to log in again.
    refused_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        default_permissions = ()
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name
