"""Models made for one test: the project's registry, migrations and checks never see them."""

from copy import deepcopy
from typing import Any

from django.apps.registry import Apps
from django.db import models


def order(meta: dict[str, Any] | None = None, *, parents: tuple[type, ...] = (models.Model,), **fields: Any) -> Any:
    """Make a model `photos.Order` of these fields; the fields given can be used again."""
    apps = parents[0]._meta.apps if hasattr(parents[0], "_meta") else Apps()
    name = "Order" if parents == (models.Model,) else "ChildOrder"
    options = type("Meta", (), {"apps": apps, "app_label": "photos", **(meta or {})})
    return type(name, parents, {"__module__": __name__, "Meta": options, **deepcopy(fields)})
