"""Two tables for the tests of relations: albums, and the pictures in them; made for one test."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from django.apps.registry import Apps
from django.db import connection, models

from ingestion.cleaning import related
from ingestion.models import Reject

ALBUM = {
    "code": models.CharField(max_length=10, unique=True),
    "title": models.CharField(max_length=20, db_default="untitled"),
}
PICTURE = {"code": models.BigIntegerField(unique=True), "name": models.CharField(max_length=20, null=True)}

COLUMNS = {"code": "code", "name": "name", "album": related("album.code", by="code")}


def refers(to: Any = "Album", *, null: bool = False, **options: Any) -> Any:
    return models.ForeignKey(to, on_delete=models.CASCADE, null=null, **options)


@contextmanager
def albums(
    album: dict[str, Any] | None = None,
    *,
    to: Any = None,
    meta: dict[str, dict[str, Any]] | None = None,
    **picture: Any,
) -> Iterator[tuple[Any, Any]]:
    """Make the models Album and Picture and their tables; `to` is the relation between them, `album` of the picture."""
    apps = Apps()
    fields = {"Album": album or ALBUM, "Picture": (picture or PICTURE) | {"album": to or refers()}}
    made = [_model(name, apps, given, (meta or {}).get(name, {})) for name, given in fields.items()]
    with connection.schema_editor() as editor:
        for model in made:
            editor.create_model(model)
    try:
        yield made[0], made[1]
    finally:
        _drop(made)


@contextmanager
def pages_of(**fields: Any) -> Iterator[Any]:
    """Make one model, Wikipage, and its table."""
    model = _model("Wikipage", Apps(), fields, {})
    with connection.schema_editor() as editor:
        editor.create_model(model)
    try:
        yield model
    finally:
        _drop([model])


def _model(name: str, apps: Apps, fields: dict[str, Any], meta: dict[str, Any]) -> Any:
    options = type("Meta", (), {"apps": apps, "app_label": "photos", **deepcopy(meta)})
    return type(name, (models.Model,), {"__module__": __name__, "Meta": options, **deepcopy(fields)})


def _drop(made: list[Any]) -> None:
    with connection.cursor() as cursor:
        for model in made:
            cursor.execute(f'DROP TABLE IF EXISTS "{model._meta.db_table}" CASCADE')
        cursor.execute("SELECT relname FROM pg_class WHERE relname ~ '^ingestion_(keys|stage)_' AND relkind = 'r'")
        for (name,) in cursor.fetchall():
            cursor.execute(f'DROP TABLE "{name}"')


def pictures(*pairs: tuple[int, str | None], **more: Any) -> list[dict[str, Any]]:
    """Return records of pictures: number, and code of the album."""
    return [{"code": code, "name": f"picture {code}", "album": {"code": album}} | more for code, album in pairs]


def columns(missing: str, **options: Any) -> dict[str, Any]:
    """Return the columns of a feed of pictures, with what becomes of an album that is missing."""
    return COLUMNS | {"album": related("album.code", by="code", missing=missing, **options)}


def reasons() -> list[tuple[str, str, str]]:
    """Return why records were rejected, with field and detail."""
    return list(Reject.objects.order_by("pk").values_list("reason", "field", "detail"))
