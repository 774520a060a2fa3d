"""Feeds: found in apps, resolved against their models into columns that know everything."""

from datetime import timedelta

import pytest
from django.contrib.postgres import fields as postgres
from django.contrib.postgres.fields import HStoreField
from django.db import models
from django.db.models.functions import Now

from ingestion import feeds
from ingestion.cleaning import UNSET, Column, Rule, compile_columns, field, text, whole_record
from ingestion.encoding import ENCODERS
from ingestion.errors import ConfigurationError
from ingestion.feeds import KINDS, Feed, RejectLimit, Upsert, env_url
from ingestion.loaders import Table
from ingestion.pagination import SinglePage
from ingestion.sources import JsonApi
from photos.feeds import PHOTOS
from tests.ingestion.orders import order

SOURCE = JsonApi(url="http://127.0.0.1:9/", pagination=SinglePage())
BIGINT = (-9223372036854775808, 9223372036854775807)


def feed(model, columns, key="id", **options):
    return Feed(**{"name": "x", "source": SOURCE, "columns": columns, "target": Upsert(model, key=key), **options})


def resolved(model, **columns):
    """Resolve a feed and return its columns by name."""
    plan = feeds.resolve(feed(model, {"id": "id", **columns}))
    return {column.name: column for column in plan.columns}


# Declared feeds


def test_the_photos_feed_is_found_by_its_name():
    assert PHOTOS in feeds.declared()
    assert feeds.get("photos") is PHOTOS


def test_a_name_that_nobody_declares_is_a_mistake_that_shows_the_others():
    with pytest.raises(ConfigurationError, match=r"no feed is named 'fotos'; known feeds: .*\bphotos\b"):
        feeds.get("fotos")


@pytest.fixture
def app(tmp_path, monkeypatch):
    """Return a function that writes an app with this text as its feeds.py."""
    monkeypatch.syspath_prepend(tmp_path)
    return lambda name, source: write_app(tmp_path, name, source)


def write_app(folder, name, source):
    (folder / name).mkdir()
    (folder / name / "__init__.py").touch()
    if source is not None:
        (folder / name / "feeds.py").write_text(source)
    return name


def test_feeds_of_an_installed_app_are_found_each_once(app, settings):
    name = app(
        "shop_one",
        "from photos.feeds import PHOTOS\nfrom dataclasses import replace\n"
        "ORDERS = replace(PHOTOS, name='orders')\nAGAIN = ORDERS\nNOT_ONE = 'feed'\n",
    )
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, name]
    assert [feed.name for feed in feeds.declared()] == ["photos", "orders"]


def test_an_app_without_feeds_is_fine_and_a_broken_one_is_not_silent(app, settings):
    installed = settings.INSTALLED_APPS
    settings.INSTALLED_APPS = [*installed, app("shop_two", None)]
    assert [feed.name for feed in feeds.declared()] == ["photos"]
    # Installing it is what finds it out: the engine looks for feeds when it is ready.
    broken = app("shop_three", "import does_not_exist")
    with pytest.raises(ModuleNotFoundError, match="does_not_exist"):
        settings.INSTALLED_APPS = [*installed, broken]


def test_defaults_of_a_feed():
    made = feed(object, {})
    assert (made.every, made.chunk_rows, made.chunk_bytes, made.attempts) == (None, 75_000, 6_291_456, 5)
    assert made.reject_limit == RejectLimit(records=100, share=0.05)
    assert feed(object, {}, every=timedelta(hours=1)).every == timedelta(hours=1)


def test_the_key_of_an_upsert_is_one_field_or_several():
    assert Upsert(object, key="id").key_fields == ("id",)
    assert Upsert(object, key=("a", "b")).key_fields == ("a", "b")


# env_url


@pytest.mark.parametrize("base", ["http://api.example", "http://api.example/"])
def test_a_url_comes_from_the_environment_when_it_is_asked_for(base, monkeypatch):
    url = env_url("SHOP_API_URL", "/orders")
    monkeypatch.setenv("SHOP_API_URL", base)
    assert url() == "http://api.example/orders"


def test_a_setting_comes_before_the_environment(monkeypatch, settings):
    monkeypatch.setenv("SHOP_API_URL", "http://environment.example")
    settings.SHOP_API_URL = "http://settings.example"
    assert env_url("SHOP_API_URL")() == "http://settings.example"


@pytest.mark.parametrize("value", [None, ""])
def test_a_url_that_is_not_set_is_a_mistake_with_its_name(value, monkeypatch):
    monkeypatch.delenv("SHOP_API_URL", raising=False)
    if value is not None:
        monkeypatch.setenv("SHOP_API_URL", value)
    with pytest.raises(ConfigurationError, match="SHOP_API_URL is not set"):
        env_url("SHOP_API_URL", "/orders")()


# Resolved feeds


def test_the_photos_feed_resolves_to_what_its_model_knows():
    plan = feeds.resolve(PHOTOS)
    assert plan.columns == (
        Column(name="remote_id", kind="integer", path=("id",), limits=BIGINT, is_key=True),
        Column(name="album_id", kind="integer", path=("albumId",), limits=BIGINT),
        Column(name="title", kind="text", path=("title",), max_length=255),
        Column(name="url", kind="text", path=("url",), max_length=255),
        Column(name="thumbnail_url", kind="text", path=("thumbnailUrl",), max_length=255, default=""),
        Column(name="raw_data", kind="json", path=None),
    )
    assert plan.kinds == ("integer", "integer", "text", "text", "text", "json")
    assert plan.table == Table(
        name="photos",
        columns=("remote_id", "album_id", "title", "url", "thumbnail_url", "raw_data"),
        key=("remote_id",),
        documents=("raw_data",),
    )
    assert plan.using == "default"


def test_columns_have_their_database_names():
    model = order(
        {"db_table": 'odd "Name"'},
        id=models.BigIntegerField(primary_key=True, db_column="Order No"),
        total=models.IntegerField(db_column="class"),
    )

    plan = feeds.resolve(feed(model, {"total": "t", "id": "i"}))
    assert plan.table == Table(name='odd "Name"', columns=("class", "Order No"), key=("Order No",))
    assert [column.name for column in plan.columns] == ["total", "id"]


@pytest.mark.parametrize(
    ("field_class", "limits"),
    [
        (models.SmallIntegerField, (-32768, 32767)),
        (models.IntegerField, (-2147483648, 2147483647)),
        (models.BigIntegerField, BIGINT),
        (models.PositiveSmallIntegerField, (0, 32767)),
        (models.PositiveIntegerField, (0, 2147483647)),
        (models.PositiveBigIntegerField, (0, 9223372036854775807)),
    ],
)
def test_integers_have_the_bounds_of_their_type(field_class, limits):
    model = order(n=field_class())
    assert resolved(model, n="n")["n"] == Column(name="n", kind="integer", path=("n",), limits=limits)


def test_every_kind_of_the_model_s_types_can_be_cleaned_and_encoded():
    for kind in KINDS.values():
        assert kind in ENCODERS
        compile_columns([Column(name="c", kind=kind, path=("c",))])
    for name in KINDS:
        assert hasattr(models, name) or hasattr(postgres, name)


def test_length_null_choices_and_defaults_come_from_the_model():
    class Colour(models.TextChoices):
        RED = "red"
        BLUE = "blue"

    model = order(
        name=models.CharField(max_length=30, null=True),
        note=models.TextField(default="none"),
        slug=models.SlugField(max_length=20),
        colour=models.CharField(max_length=9, choices=Colour, default=Colour.RED),
        shade=models.CharField(max_length=9, choices={"Warm": {"r": "Red"}, "Cold": {"b": "Blue"}}, blank=True),
        size=models.IntegerField(choices=[(1, "S"), (2, "M")], default="2"),
        paid=models.BooleanField(default=False),
        extra=models.JSONField(default=dict),
        tags=models.JSONField(default=list, null=True),
        at=models.BigIntegerField(default=lambda: 7),
        created=models.DateTimeField(db_default=Now()),
    )

    columns = resolved(
        model,
        **{name: name for name in ("name", "note", "slug", "colour", "shade", "size", "paid", "extra", "tags", "at")},
    )
    assert columns["name"] == Column(name="name", kind="text", path=("name",), max_length=30, null=True)
    assert columns["note"] == Column(name="note", kind="text", path=("note",), default="none")
    assert columns["slug"] == Column(name="slug", kind="text", path=("slug",), max_length=20)
    assert columns["colour"] == Column(
        name="colour", kind="text", path=("colour",), max_length=9, choices=frozenset({"red", "blue"}), default="red"
    )
    assert {type(choice) for choice in columns["colour"].choices} == {str}
    assert type(columns["colour"].default) is str
    # Blank is valid where the model allows it, though no choice says so.
    assert columns["shade"].choices == {"r", "b", ""}
    assert (columns["size"].choices, columns["size"].default) == ({1, 2}, 2)
    assert (columns["paid"].kind, columns["paid"].default) == ("boolean", False)
    assert (columns["extra"].kind, columns["extra"].default) == ("json", "{}")
    assert (columns["tags"].null, columns["tags"].default) == (True, "[]")
    # A callable is a clock or a counter: the row would change with every run.
    assert columns["at"].default is UNSET


def test_what_the_feed_says_comes_before_the_model():
    model = order(note=models.CharField(max_length=5, default="model", null=True))

    assert resolved(model, note=text("n", default="feed", truncate=True))["note"] == Column(
        name="note", kind="text", path=("n",), max_length=5, null=True, default="feed", truncate=True
    )
    assert resolved(model, note=text("n", default=None))["note"].default is None
    assert resolved(model, note=field("a.b"))["note"].path == ("a", "b")


def test_a_key_has_no_default_and_is_never_null():
    model = order(number=models.IntegerField(unique=True, null=True, default=0))

    (number,) = feeds.resolve(feed(model, {"number": "n"}, key="number")).columns
    assert number == Column(name="number", kind="integer", path=("n",), limits=(-2147483648, 2147483647), is_key=True)


def test_a_key_of_several_fields():
    model = order(
        {"constraints": [models.UniqueConstraint(fields=["order", "line"], name="one_line")]},
        order=models.IntegerField(),
        line=models.IntegerField(db_column="line_no"),
        text=models.TextField(),
    )

    plan = feeds.resolve(feed(model, {"text": "t", "line": "l", "order": "o"}, key=("order", "line")))
    assert plan.table.key == ("line_no", "order")  # as in the lines
    assert [column.name for column in plan.columns if column.is_key] == ["line", "order"]


def test_whole_records_come_last_and_may_be_text():
    model = order(raw=models.JSONField(), raw_text=models.TextField(), name=models.TextField())

    plan = feeds.resolve(feed(model, {"raw": whole_record, "id": "id", "raw_text": whole_record, "name": "n"}))
    assert [(column.name, column.kind) for column in plan.columns] == [
        ("id", "integer"),
        ("name", "text"),
        ("raw", "json"),
        ("raw_text", "text"),
    ]
    assert plan.table.columns == ("id", "name", "raw", "raw_text")


def test_a_proxy_has_the_columns_of_its_model():
    model = order(name=models.TextField())
    proxy = order({"proxy": True}, parents=(model,))

    assert list(resolved(proxy, name="n")) == ["id", "name"]


def test_columns_of_another_table_are_not_the_model_s():
    parent = order(name=models.TextField())
    child = order(parents=(parent,), size=models.IntegerField())

    assert list(feeds.columns_of(child)) == ["order_ptr", "order_ptr_id", "size"]
    with pytest.raises(ConfigurationError, match=r"photos\.ChildOrder has no column 'name'"):
        feeds.resolve(feed(child, {"name": "n"}, key="name"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"nam": "n"}, r"photos\.Order has no column 'nam'"),
        ({"at": "a"}, r"photos\.Order\.at: HStoreField is not supported"),
        ({"number": text("n")}, r"photos\.Order\.number is of type IntegerField, which a rule for text cannot fill"),
        ({"number": whole_record}, "which a rule for json cannot fill"),
        ({"name": Rule(path=("n",), kind="json")}, "which a rule for json cannot fill"),
        ({"name": text("n", default="too long")}, "'name' cannot have the default 'too long': too_long"),
        ({"name": text("n", default=None)}, "'name' cannot have the default None: missing_value"),
    ],
)
def test_a_feed_that_does_not_fit_its_model_is_a_mistake(columns, message):
    model = order(name=models.CharField(max_length=5), number=models.IntegerField(), at=HStoreField())

    with pytest.raises(ConfigurationError, match=message):
        feeds.resolve(feed(model, {"id": "id", **columns}))
