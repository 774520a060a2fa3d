"""The photos table, in the shape of the article, plus what identifies a photo at its origin."""

from django.db import models
from django.db.models.functions import Now


class Photo(models.Model):
    """One photo of the remote collection.

    `created` and `updated` come from the database (a default, and a trigger on UPDATE): COPY calls no Django code.
    """

    remote_id = models.BigIntegerField("id at the source", unique=True)
    album_id = models.BigIntegerField()
    title = models.CharField(max_length=255)
    url = models.CharField(max_length=255)
    thumbnail_url = models.CharField(max_length=255)
    raw_data = models.JSONField("record as received")
    created = models.DateTimeField(db_default=Now(), editable=False)
    updated = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "photos"

    def __str__(self) -> str:
        return self.title
