"""Tables of the benchmark. No migrations: `migrate --run-syncdb` makes them."""

from django.db import models
from django.db.models.functions import Now

from tests.bench import shapes


class PhotoColumns(models.Model):
    """What `photos.Photo` has, without its unique key."""

    remote_id = models.BigIntegerField()
    album_id = models.BigIntegerField()
    title = models.CharField(max_length=255)
    url = models.CharField(max_length=255)
    thumbnail_url = models.CharField(max_length=255)
    raw_data = models.JSONField()
    created = models.DateTimeField(db_default=Now(), editable=False)
    updated = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        abstract = True

    def __str__(self):
        return self.title


class PlainPhoto(PhotoColumns):
    """The target of whatever appends: no key but its own id."""

    class Meta:
        db_table = shapes.PLAIN.table


class KeyedPhoto(PhotoColumns):
    """The target of the write modes that need a key, except for the upsert, which takes `photos.Photo` itself."""

    remote_id = models.BigIntegerField(unique=True)

    class Meta:
        db_table = shapes.KEYED.table


def _column(name: str) -> models.Field:
    return {"n": models.IntegerField, "t": models.TextField, "b": models.BooleanField}[name[0]]()


class Meta:
    db_table = shapes.WIDE.table


# 60 columns are no reading matter: their names say their types.
WideRecord = type(
    "WideRecord",
    (models.Model,),
    {
        "__module__": __name__,
        "Meta": Meta,
        "remote_id": models.BigIntegerField(unique=True),
        **{name: _column(name) for name in shapes.WIDE_NAMES},
    },
)


class NestedRecord(models.Model):
    """An order with its customer, from three levels of objects; the rest stays JSON."""

    remote_id = models.BigIntegerField(unique=True)
    customer = models.CharField(max_length=100)
    city = models.CharField(max_length=100)
    latitude = models.CharField(max_length=20)
    tags = models.JSONField()
    raw_data = models.JSONField()

    class Meta:
        db_table = shapes.NESTED.table

    def __str__(self):
        return str(self.remote_id)


class TinyRecord(models.Model):
    """Two numbers."""

    remote_id = models.BigIntegerField(unique=True)
    value = models.IntegerField()

    class Meta:
        db_table = shapes.TINY.table

    def __str__(self):
        return str(self.remote_id)
