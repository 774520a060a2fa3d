"""Records that could not become rows."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from ingestion.models.feeds import FeedState
from ingestion.models.runs import Run
from ingestion.models.states import Resolution


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
