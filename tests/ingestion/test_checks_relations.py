"""Relations by natural keys that cannot be resolved are found before they run."""

import uuid

import pytest
from django.apps.registry import Apps
from django.db import models

from ingestion import checks
from ingestion.cleaning import integer, json, related, text
from ingestion.feeds import Append, Feed, Mirror, Replace, Upsert
from ingestion.pagination import SinglePage
from ingestion.sources import JsonApi

SOURCE = JsonApi(url="http://127.0.0.1:9/", pagination=SinglePage())


def models_of(*, null=False, meta=None, to="Album", **album):
    """Make the models Album, of these fields, and Picture, which refers to it."""
    apps = Apps()

    def model(name, fields, meta):
        options = type("Meta", (), {"apps": apps, "app_label": "photos", **meta})
        return type(name, (models.Model,), {"__module__": __name__, "Meta": options, **fields})

    model("Album", album or {"code": models.CharField(max_length=9, unique=True)}, meta or {})
    relation = models.ForeignKey(to, models.CASCADE, null=null)
    fields = {"code": models.BigIntegerField(unique=True), "slug": models.SlugField(unique=True, db_default="")}
    return model("Picture", fields | {"album": relation}, {})


def found(model, rule, target=None):
    feed = Feed(
        name="pictures", source=SOURCE, columns={"code": "id", "album": rule}, target=target or Upsert(model, "code")
    )
    errors = list(checks.problems([feed]))
    assert all(error.hint for error in errors)
    return [(error.id.removeprefix("ingestion."), error.msg) for error in errors]


def ids(model, rule, target=None):
    return [number for number, _ in found(model, rule, target)]


def test_relations_that_can_be_resolved_are_right():
    assert ids(models_of(), related("album", by="code")) == []
    assert ids(models_of(), related(text("album", strip=True), by="code", missing="create")) == []
    assert ids(models_of(null=True), related("album", by="code", missing="null")) == []
    unique = {"unique_together": [("shop", "code")]}
    shop, code = models.IntegerField(), models.UUIDField()
    assert ids(models_of(meta=unique, shop=shop, code=code), related(("a", "b"), by=("code", "shop"))) == []
    assert ids(models_of(), related("album", by="id")) == []


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (text(related("album", by="code")), "goes around other rules"),
        (related(related("album", by="code"), by="code"), "goes around other rules"),
        (related("album", by="code", missing="ignore"), "missing is one of reject, null, create, not 'ignore'"),
        (related("album", by=("code", "title")), "not 1 for 2"),
        (related(("album", "album"), by=("code", "code")), "not 2 for 2"),
        (related((), by=()), "not 0 for 0"),
        (related("album", by="code", defaults={"title": "?"}), "defaults are for missing='create'"),
        (related(text("album", truncate=True), by="code"), "text that was cut"),
        (related(text("album", normalise="NFX"), by="code"), "normalise is one of"),
    ],
)
def test_e012_options_of_a_relation(rule, problem):
    ((number, message),) = found(models_of(), rule)
    assert number == "E012"
    assert problem in message


def test_e016_no_relation_and_no_such_field():
    model = models_of()
    feed = Feed(name="f", source=SOURCE, columns={"code": related("id", by="code"), "album": "a"}, target=Append(model))
    assert [error.msg for error in checks.problems([feed])] == ["Feed 'f': code is no relation."]
    assert found(model, related("album", by="title")) == [
        ("E016", "Feed 'pictures': photos.Album has no column 'title' of its own.")
    ]


def test_e016_a_natural_key_that_is_not_unique():
    message = "Feed 'pictures': No unique constraint of photos.Album covers exactly (code)."
    code = models.CharField(max_length=9)
    assert found(models_of(code=code), related("album", by="code")) == [("E016", message)]
    partial = models.UniqueConstraint(fields=["code"], condition=models.Q(id__gt=5), name="one")
    assert found(models_of(code=code, meta={"constraints": [partial]}), related("album", by="code")) == [
        ("E016", message)
    ]
    together = {"unique_together": [("code", "shop")]}
    assert ids(models_of(code=code, shop=code.clone(), meta=together), related("album", by="code")) == ["E016"]


@pytest.mark.parametrize("rule", [integer("album"), json("album")])
def test_e016_a_rule_that_does_not_fit_the_natural_key(rule):
    assert ids(models_of(), related(rule, by="code")) == ["E016"]


@pytest.mark.parametrize("kind", [models.JSONField(unique=True), models.BinaryField(unique=True)])
def test_e016_a_natural_key_of_a_type_that_is_not_looked_up(kind):
    assert ids(models_of(code=kind), related("album", by="code")) == ["E016"]


def test_e016_a_table_in_another_database(settings):
    settings.DATABASE_ROUTERS = [Elsewhere()]
    assert found(models_of(), related("album", by="code")) == [
        ("E016", "Feed 'pictures': photos.Album is in another database.")
    ]


class Elsewhere:
    def db_for_write(self, model, **hints):
        return "elsewhere" if model.__name__ == "Album" else None


def test_e017_null_where_it_is_not_allowed():
    model = models_of()
    rule = related("album", by="code", missing="null")
    assert found(model, rule) == [("E017", "Feed 'pictures': album with missing='null': album may not be null.")]
    model = models_of(null=True)
    model._meta.get_field("album")._unique = True
    assert ids(model, rule, Upsert(model, key="album")) == ["E017"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"title": models.TextField(null=True), "kind": models.TextField(db_default="")}, []),
        ({"number": models.UUIDField(default=uuid.uuid4), "kind": models.TextField(default="book")}, []),
        ({"title": models.TextField()}, ["title"]),
        ({"title": models.TextField(), "made_at": models.DateTimeField(auto_now_add=True)}, ["title", "made_at"]),
    ],
)
def test_e017_a_row_that_cannot_be_made(fields, expected):
    code = models.CharField(max_length=9, unique=True)
    assert found(models_of(code=code, **fields), related("album", by="code", missing="create")) == [
        (
            "E017",
            f"Feed 'pictures': album with missing='create': photos.Album.{name} is required, and nothing fills it.",
        )
        for name in expected
    ]


@pytest.mark.parametrize("name", ["nowhere", "code"])
def test_e017_defaults_of_other_fields(name):
    assert ids(models_of(), related("album", by="code", missing="create", defaults={name: "x"})) == ["E017"]


def test_e011_a_default_that_the_related_column_cannot_hold():
    model = models_of(code=models.CharField(max_length=9, unique=True), title=models.CharField(max_length=3))
    rule = related("album", by="code", missing="create", defaults={"title": "too long"})
    assert ids(model, rule) == ["E011"]


def test_e017_targets_that_cannot_refer_to_themselves():
    model = models_of(to="self", null=True)
    rule = related("album", by="slug")
    assert [ids(model, rule, target) for target in (Upsert(model, "code"), Mirror(model, "code"), Append(model))] == [
        []
    ] * 3
    assert ids(model, rule, Replace(model, "code")) == ["E017"]
    rule = related("album", by="code", missing="create")
    assert ids(model, rule) == []
    assert ids(model, rule, Append(model)) == ["E017"]
    assert ids(model, rule, Mirror(model, "code")) == ["E017"]
