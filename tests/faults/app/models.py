"""The target table of the fault tests."""

from django.db import models


class Record(models.Model):
    """One record of a fake source."""

    source = models.CharField(max_length=20)
    number = models.BigIntegerField()
    payload = models.TextField()
    hash = models.CharField(max_length=64)
    size = models.IntegerField()

    class Meta:
        db_table = "faults_record"
        constraints = (models.UniqueConstraint(fields=("source", "number"), name="faults_record_key"),)

    def __str__(self):
        return f"{self.source} {self.number}"
