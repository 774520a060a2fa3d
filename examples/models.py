"""The one table that all examples fill."""

from typing import ClassVar

from django.db import models


class Item(models.Model):
    """Something with a price; `source` says which example has loaded it."""

    source = models.CharField(max_length=20)
    code = models.CharField(max_length=40)
    name = models.CharField(max_length=100)
    price = models.DecimalField(max_digits=10, decimal_places=2, null=True)

    # Said because the app is not installed where types are checked.
    objects: ClassVar[models.Manager["Item"]]

    class Meta:
        constraints = (models.UniqueConstraint(fields=("source", "code"), name="examples_item_source_code"),)

    def __str__(self) -> str:
        return f"{self.source} {self.code}"
