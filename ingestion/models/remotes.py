"""What is known of remotes: hosts that fail, and secrets that they replace."""

from django.db import models
from django.db.models import Q

from ingestion.models.parts import Part


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
