"""Wrong feeds are found before they run: one test per id, and the command that everybody uses."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.postgres.fields import HStoreField
from django.contrib.postgres.search import SearchVectorField
from django.db import models
from django.db.models.functions import Lower, Now

from ingestion import checks
from ingestion.cleaning import Rule, binary, text, timestamp, whole_record
from ingestion.feeds import Feed, Mirror, Replace, Upsert
from ingestion.pagination import SinglePage
from ingestion.parts import PageRanges, Windows
from ingestion.sources import JsonApi
from photos.feeds import PHOTOS
from photos.models import Photo
from tests.ingestion.orders import order

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = JsonApi(url="http://127.0.0.1:9/", pagination=SinglePage())


def feed(model, columns=("id",), key="id", name="orders"):
    """Make a feed; columns without a rule are taken from the path of their own name."""
    rules = columns if isinstance(columns, dict) else {column: column for column in columns}
    return Feed(name=name, source=SOURCE, columns=rules, target=Upsert(model, key=key))


def found(*declared):
    return [(error.id.removeprefix("ingestion."), error.msg) for error in checks.problems(declared)]


def ids(*declared):
    return [number for number, _ in found(*declared)]


def test_the_project_s_own_feeds_are_right():
    assert checks.check_feeds(None) == []
    assert ids(PHOTOS) == []


def test_every_id_is_documented_and_tested():
    modules = [path.read_text().split('"""', 2)[2] for path in Path(checks.__file__).parent.glob("*.py")]
    used = set(re.findall(r"E\d{3}", "".join(modules)))
    documented = set(re.findall(r"ingestion\.(E\d{3})", checks.__doc__))
    texts = [path.read_text() for path in Path(__file__).parent.glob("test_checks*.py")]
    tested = set(re.findall(r"test_(e\d{3})", "".join(texts)))
    assert used == documented == {number.upper() for number in tested}


WINDOWS = Windows(since="since", until="until", start=timedelta(days=1), step=timedelta(hours=1))


def test_e015_parts_that_the_source_cannot_be_cut_into():
    assert found(replace(PHOTOS, parts=PageRanges(pages=10))) == []
    divided = replace(PHOTOS, source=SOURCE, parts=PageRanges(pages=10), parts_at_once=0)
    cannot, too_few = found(divided)
    assert cannot[0] == too_few[0] == "E015"
    assert "cannot be cut into parts: its pages cannot be asked for by number" in cannot[1]
    assert "parts_at_once is less than 1" in too_few[1]


def test_e015_windows_of_a_target_that_deletes_what_they_do_not_show():
    assert ids(replace(PHOTOS, source=SOURCE, parts=WINDOWS)) == []
    for target in (Replace(Photo), Mirror(Photo, key="remote_id")):
        assert ids(replace(PHOTOS, source=SOURCE, parts=WINDOWS, target=target)) == ["E015"]
    scoped = Mirror(Photo, key="remote_id", scope=models.Q(album_id=1))
    assert ids(replace(PHOTOS, source=SOURCE, parts=WINDOWS, target=scoped)) == []


def test_every_error_says_what_to_do():
    wrong = [
        feed(order(a=HStoreField()), {"id": "id", "b": "b"}, key=("a",), name="!"),
        replace(PHOTOS, columns={}),
        PHOTOS,
    ]
    errors = list(checks.problems(wrong))
    assert len(errors) >= 5
    assert all(error.hint for error in errors)


@pytest.mark.parametrize("group", ["with space", "-x", "x" * 101, "ä"])
def test_e020_a_group_whose_name_cannot_be_used(group):
    assert found(replace(PHOTOS, group=group)) == [("E020", f"Feed 'photos': The group {group!r} cannot be used.")]
    assert found(replace(PHOTOS, group="erp")) == []


def test_e001_two_feeds_of_one_name():
    other = replace(PHOTOS, columns=dict(PHOTOS.columns))
    assert found(PHOTOS, other) == [("E001", "2 feeds are named 'photos'.")]
    assert ids(PHOTOS, replace(PHOTOS, name="Photos")) == []


@pytest.mark.parametrize("name", ["", " ", "-a", "_a", "a b", "a/b", "a.b", "é", "a\n", "x" * 101])
def test_e002_a_name_that_cannot_be_used(name):
    assert found(replace(PHOTOS, name=name)) == [("E002", f"The feed name {name!r} cannot be used.")]


@pytest.mark.parametrize("name", ["a", "0", "A-b_9", "x" * 100])
def test_names_that_can_be_used(name):
    assert ids(replace(PHOTOS, name=name)) == []


def test_e003_a_column_that_the_model_does_not_have():
    (only,) = found(replace(PHOTOS, columns={**PHOTOS.columns, "titel": "title"}))
    assert only == ("E003", "Feed 'photos': photos.Photo has no column 'titel'.")
    (error,) = checks.problems([replace(PHOTOS, columns={**PHOTOS.columns, "titel": "title"})])
    assert error.hint.startswith("Its columns: id, remote_id, album_id, title, ")
    assert error.obj is Photo


def test_e003_a_column_of_the_parent_s_table():
    parent = order(name=models.TextField(default=""))
    child = order(parents=(parent,))
    assert "E003" in ids(feed(child, ["name"], key="parent_ptr"))


@pytest.mark.parametrize(
    ("fields", "meta", "key"),
    [
        ({}, {}, "n"),
        ({}, {}, ("n", "m")),
        ({}, {}, ("id", "n")),
        ({}, {"indexes": [models.Index(fields=["n"], name="i")]}, "n"),
        ({}, {"unique_together": [("n", "m")]}, "n"),
        ({}, {"constraints": [models.UniqueConstraint(fields=["n", "m"], name="u")]}, "n"),
        ({}, {"constraints": [models.UniqueConstraint(fields=["n"], condition=models.Q(m=1), name="u")]}, "n"),
        (
            {},
            {"constraints": [models.UniqueConstraint(fields=["n"], deferrable=models.Deferrable.DEFERRED, name="u")]},
            "n",
        ),
        ({}, {"constraints": [models.UniqueConstraint(Lower("n"), name="u")]}, "n"),
        ({}, {"constraints": [models.UniqueConstraint(Lower("n"), name="u")]}, ()),
        ({}, {"constraints": [models.CheckConstraint(condition=models.Q(n=1), name="c")]}, "n"),
    ],
)
def test_e004_a_key_that_no_unique_constraint_covers(fields, meta, key):
    model = order(meta, n=models.IntegerField(), m=models.IntegerField(), **fields)
    assert ids(feed(model, ["id", "n", "m"], key=key)) == ["E004"]


@pytest.mark.parametrize(
    ("options", "meta", "key"),
    [
        ({}, {}, "id"),
        ({"unique": True}, {}, "n"),
        ({}, {"unique_together": [("n", "m")]}, ("n", "m")),
        ({}, {"unique_together": [("n", "m")]}, ("m", "n")),
        ({}, {"constraints": [models.UniqueConstraint(fields=["n"], name="u")]}, "n"),
        ({}, {"constraints": [models.UniqueConstraint(fields=["m", "n"], name="u")]}, ("n", "m")),
        ({}, {"constraints": [models.UniqueConstraint(fields=["n"], include=["m"], name="u")]}, "n"),
    ],
)
def test_keys_that_a_unique_constraint_covers(options, meta, key):
    model = order(meta, n=models.IntegerField(**options), m=models.IntegerField())
    assert ids(feed(model, ["id", "n", "m"], key=key)) == []


def test_e005_a_key_that_the_feed_does_not_fill():
    columns = {name: rule for name, rule in PHOTOS.columns.items() if name != "remote_id"}
    assert ("E005", "Feed 'photos': The key 'remote_id' is not among the feed's columns.") in found(
        replace(PHOTOS, columns=columns)
    )
    assert ids(replace(PHOTOS, target=Upsert(Photo, key="nothing"))) == ["E005"]


@pytest.mark.parametrize(
    "field",
    [models.IntegerField(), models.TextField(default="x"), models.DateTimeField(auto_now=True)],
    ids=lambda field: type(field).__name__,
)
def test_e006_a_required_column_that_nothing_fills(field):
    (only,) = found(feed(order(n=field)))
    assert only == ("E006", "Feed 'orders': photos.Order.n is required, and nothing fills it.")


@pytest.mark.parametrize(
    "field",
    [
        models.IntegerField(null=True),
        models.IntegerField(db_default=0),
        models.DateTimeField(db_default=Now()),
        models.GeneratedField(expression=models.F("id"), output_field=models.IntegerField(), db_persist=True),
    ],
    ids=["null", "db_default", "now", "generated"],
)
def test_columns_that_the_database_fills(field):
    assert ids(feed(order(n=field))) == []
    assert ids(feed(order(n=field, k=models.IntegerField(unique=True)), ["k"], key="k")) == []


@pytest.mark.parametrize(
    "field", [SearchVectorField(null=True), HStoreField(null=True)], ids=lambda f: type(f).__name__
)
def test_e007_a_type_that_the_engine_does_not_know(field):
    (only,) = found(feed(order(n=field), ["id", "n"]))
    assert only == (
        "E007",
        f"Feed 'orders': photos.Order.n is of type {type(field).__name__}, which is not supported.",
    )


class Elsewhere:
    """Keep the runs and the photos apart."""

    def db_for_write(self, model, **hints):
        return "default" if model._meta.app_label == "ingestion" else "warehouse"


def test_e008_a_model_outside_the_database_of_the_runs(settings):
    settings.DATABASE_ROUTERS = [f"{__name__}.Elsewhere"]
    (only,) = found(PHOTOS)
    assert only == (
        "E008",
        "Feed 'photos': photos.Photo is in the database 'warehouse', the runs are in 'default'.",
    )


@pytest.mark.parametrize("name", ["x" * 64, "é" * 32, "a\x00b"], ids=ascii)
def test_e009_a_name_that_postgres_would_cut(name):
    assert found(feed(order({"db_table": name}))) == [
        ("E009", f"Feed 'orders': PostgreSQL would cut the name {name!r}.")
    ]
    assert ids(feed(order(n=models.IntegerField(null=True, db_column=name)))) == ["E009"]


@pytest.mark.parametrize("name", ["x" * 63, "é" * 31, 'odd "Name"', "class"])
def test_names_that_postgres_keeps(name):
    assert ids(feed(order({"db_table": name}, n=models.IntegerField(null=True, db_column=name)))) == []


@pytest.mark.parametrize(
    ("field", "rule", "given"),
    [
        (models.IntegerField(), text("a.b"), "text('a.b')"),
        (models.JSONField(), text("a"), "text('a')"),
        (models.IntegerField(), whole_record, "whole_record"),
        (models.BooleanField(), whole_record, "whole_record"),
        (models.TextField(), Rule(path=("a",), kind="json"), "json('a')"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, models.Field) else None,
)
def test_e010_a_rule_that_does_not_fit_the_column(field, rule, given):
    assert found(feed(order(n=field), {"id": "id", "n": rule})) == [
        ("E010", f"Feed 'orders': photos.Order.n is of type {type(field).__name__}, which {given} cannot fill.")
    ]


@pytest.mark.parametrize(
    ("field", "rule"),
    [
        (models.CharField(max_length=5), text("n", default="sixsix")),
        (models.CharField(max_length=5, default="sixsix"), "n"),
        (models.TextField(), text("n", default=None)),
        (models.TextField(), text("n", default={})),
        (models.PositiveIntegerField(default=-1), "n"),
        (models.JSONField(default=set), Rule(path=("n",), kind="json", default=object())),
    ],
    ids=["rule", "model", "null", "type", "range", "json"],
)
def test_e011_a_default_that_the_column_cannot_hold(field, rule):
    ((number, message),) = found(feed(order(n=field), {"id": "id", "n": rule}))
    assert number == "E011"
    assert message.startswith("Feed 'orders': column 'n' cannot have the default ")


def test_e012_a_rule_with_an_option_that_cannot_be_used():
    columns = {"id": "id", "n": timestamp("n", zone="Mars/Base")}
    assert found(feed(order(n=models.DateTimeField()), columns)) == [
        ("E012", "Feed 'orders': The rule for n cannot be used: no time zone is named 'Mars/Base'.")
    ]


def test_bytes_need_a_rule_that_says_how_they_are_written():
    model = order(n=models.BinaryField())
    assert found(feed(model, {"id": "id", "n": "n"})) == [
        ("E010", "Feed 'orders': photos.Order.n is of type BinaryField, which a path alone cannot fill.")
    ]
    assert found(feed(model, {"id": "id", "n": binary("n", encoding="hex")})) == []


def test_all_mistakes_of_all_feeds_are_reported_together():
    model = order(a=models.IntegerField(), b=HStoreField())
    wrong = feed(model, ["b", "c"], key="a", name="no good")
    assert ids(wrong, PHOTOS, PHOTOS) == ["E002", "E001", "E007", "E003", "E006", "E005", "E004"]


WRONG_APP = """
from dataclasses import replace

from ingestion.cleaning import whole_record
from ingestion.feeds import Append, Feed, History, Mirror, Replace, SoftDelete, Upsert
from ingestion.pagination import SinglePage
from ingestion.sources import JsonApi
from photos.feeds import PHOTOS
from photos.models import Photo

UNKNOWN = replace(PHOTOS, name="unknown", columns={**PHOTOS.columns, "titel": "title"})
KEYLESS = replace(PHOTOS, name="keyless", target=Upsert(Photo, key="title"))
TWICE = replace(PHOTOS, name="photos")
"""


def test_manage_check_reports_the_feeds_of_an_extra_app(tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "feeds.py").write_text(WRONG_APP)
    environment = os.environ | {"EXTRA_APPS": "shop", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    report = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    assert "(ingestion.E001) 2 feeds are named 'photos'." in report
    assert "HINT: Give each feed a name of its own" in report
    assert "(ingestion.E003) Feed 'unknown': photos.Photo has no column 'titel'." in report
    assert "HINT: Its columns: id, remote_id, " in report
    assert (
        "(ingestion.E004) Feed 'keyless': No unique constraint of photos.Photo covers exactly the key (title)."
        in report
    )
    assert "HINT: Add unique=True or a UniqueConstraint" in report
    assert "System check identified 3 issues" in report
