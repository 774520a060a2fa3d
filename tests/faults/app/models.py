"""The target tables of the fault tests."""

from django.db import models


class Served(models.Model):
    """One record of a fake source."""

    source = models.CharField(max_length=20)
    number = models.BigIntegerField()
    payload = models.TextField()
    hash = models.CharField(max_length=64)
    size = models.IntegerField()

    class Meta:
        abstract = True

    def __str__(self):
        return f"{self.source} {self.number}"


class Record(Served):
    """A row of the table that most feeds share."""

    class Meta:
        db_table = "faults_record"
        constraints = (models.UniqueConstraint(fields=("source", "number"), name="faults_record_key"),)


class Replaced(Served):
    """A row of the table that one feed replaces."""

    class Meta:
        db_table = "faults_replaced"
        constraints = (models.UniqueConstraint(fields=("source", "number"), name="faults_replaced_key"),)


class Numbered(Served):
    """A row of a table whose key is one column: chunks of new keys go straight into it."""

    class Meta:
        db_table = "faults_numbered"
        constraints = (models.UniqueConstraint(fields=("number",), name="faults_numbered_key"),)
