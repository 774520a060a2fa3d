"""What a feed remembers of what it has read, so as not to read it again."""

from django.db import models
from django.db.models.functions import Now

from ingestion.models.feeds import FeedState
from ingestion.models.runs import Run


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
