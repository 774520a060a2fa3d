"""What is known of a feed beside its declaration."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


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
