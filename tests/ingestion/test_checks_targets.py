"""Wrong targets and what else a feed says of its writing are found before they run."""

from dataclasses import replace

import pytest
from django.core.checks import WARNING
from django.db import models
from django.db.models.functions import Now

from ingestion import checks
from ingestion.feeds import Append, Feed, History, Mirror, Replace, SoftDelete, Upsert
from ingestion.pagination import SinglePage
from ingestion.sources import JsonApi
from photos.feeds import PHOTOS
from photos.models import Photo
from tests.ingestion.orders import order

SOURCE = JsonApi(url="http://127.0.0.1:9/", pagination=SinglePage())


def found(*declared):
    return [(error.id.removeprefix("ingestion."), error.msg) for error in checks.problems(declared)]


def ids(*declared):
    return [number for number, _ in found(*declared)]


MOMENT, FLAG = models.DateTimeField, models.BooleanField
BIG = models.BigIntegerField


def aimed(target, *columns):
    return ids(Feed(name="orders", source=SOURCE, columns={name: name for name in columns}, target=target))


def versioned(**fields):
    defaults = {"code": BIG(), "since": MOMENT(), "until": MOMENT(null=True), "latest": FLAG()}
    current = models.UniqueConstraint(fields=["code"], condition=models.Q(until=None), name="one")
    return order({"constraints": [current]}, **(defaults | fields))


def history(model, **options):
    return History(model, **({"key": "code", "valid_from": "since", "valid_to": "until"} | options))


def test_targets_that_fit_are_right():
    model = order(code=BIG(unique=True), gone=MOMENT(null=True), name=models.TextField(null=True))
    assert aimed(Append(order(code=BIG())), "code") == []
    assert aimed(Replace(order(code=BIG())), "code") == []
    assert aimed(Replace(model, key="code", allow_delete_share=1), "code") == []
    assert aimed(Mirror(model, key="code", delete=SoftDelete("gone"), scope=models.Q(name="x")), "code") == []
    assert aimed(Upsert(model, key="code", insert_only=("name",)), "code", "name") == []
    assert aimed(history(versioned(), is_current="latest"), "code") == []


def test_e004_a_replacement_s_key_and_a_history_without_one_current_row():
    assert aimed(Replace(order(code=BIG()), key="code"), "code") == ["E004"]
    everywhere = models.UniqueConstraint(fields=["code"], name="one")
    model = order({"constraints": [everywhere]}, code=BIG(), since=MOMENT(), until=MOMENT(null=True))
    assert aimed(history(model), "code") == ["E004"]


def test_e007_a_generated_column_cannot_be_filled():
    double = models.GeneratedField(expression=models.F("code") * 2, output_field=BIG(), db_persist=True)
    model = order(code=BIG(unique=True), double=double)
    assert aimed(Upsert(model, key="code"), "code") == []
    assert aimed(Upsert(model, key="code"), "code", "double") == ["E007"]


@pytest.mark.parametrize(
    "field", [MOMENT(), MOMENT(null=True, db_default=Now()), FLAG(), FLAG(db_default=True), BIG(null=True)]
)
def test_e013_a_mark_that_cannot_tell_deleted_rows(field):
    model = order(code=BIG(unique=True), gone=field)
    assert set(aimed(Mirror(model, key="code", delete=SoftDelete("gone")), "code")) == {"E013"}


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"since": models.DateField()}, {}),
        ({"until": MOMENT()}, {}),
        ({"until": models.DateField(null=True)}, {}),
        ({}, {"valid_from": "nowhere"}),
        ({"latest": BIG()}, {"is_current": "latest"}),
    ],
)
def test_e013_columns_of_a_history_that_do_not_fit(changes, options):
    assert "E013" in aimed(history(versioned(**changes), **options), "code")


def test_e013_columns_that_the_target_fills_itself():
    model = order(code=BIG(unique=True), gone=MOMENT(null=True))
    assert aimed(Mirror(model, key="code", delete=SoftDelete("gone")), "code", "gone") == ["E013"]


@pytest.mark.parametrize("names", [("code",), ("nowhere",), ("name",)])
def test_e013_columns_only_written_on_insert_that_are_not_the_feed_s(names):
    model = order(code=BIG(unique=True), name=models.TextField(null=True))
    assert aimed(Upsert(model, key="code", insert_only=names), "code") == ["E013"]


SKIPPING = replace(PHOTOS, skip_unchanged_pages=True)


def test_unchanged_pages_can_be_skipped_by_upserts_from_sources_that_know_how():
    assert ids(SKIPPING) == []
    assert ids(replace(SKIPPING, rules=(lambda record: record,))) == []


@pytest.mark.parametrize("target", [Append(Photo), Replace(Photo, key="remote_id"), Mirror(Photo, key="remote_id")])
def test_e019_targets_that_need_the_records_of_every_page(target):
    (only,) = found(replace(SKIPPING, target=target))
    assert only == ("E019", f"Feed 'photos': {type(target).__name__} cannot skip unchanged pages.")


def test_e019_a_source_that_cannot_skip():
    class Silent:
        def pages(self, cursor):
            yield from ()

    assert found(replace(SKIPPING, source=Silent())) == [("E019", "Feed 'photos': Silent cannot skip unchanged pages.")]


def test_a_function_that_cannot_be_compared_is_a_warning():
    state = object()
    (warning,) = checks.problems([replace(SKIPPING, rules=(lambda record: record if state else None,))])
    assert (warning.id, warning.level) == ("ingestion.W001", WARNING)
    assert "no page will be skipped: " in warning.msg
    assert "nobody can tell whether a object has changed" in warning.msg
    assert ids(replace(PHOTOS, rules=(lambda record: record if state else None,))) == []


@pytest.mark.parametrize("share", [-0.1, 1.1, 20])
def test_e013_a_share_beyond_all_rows(share):
    model = order(code=BIG(unique=True))
    assert aimed(Mirror(model, key="code", allow_delete_share=share), "code") == ["E013"]
    assert aimed(Replace(model, allow_delete_share=share), "code") == ["E013"]


def test_e014_a_policy_for_drift_that_there_is_not():
    (error,) = checks.problems([replace(PHOTOS, drift="warning")])
    assert (error.id, error.msg) == ("ingestion.E014", "Feed 'photos': drift is 'warning'.")
    assert error.hint == "It is one of 'ignore', 'warn', 'fail'."
    assert [ids(replace(PHOTOS, drift=policy)) for policy in ("ignore", "warn", "fail")] == [[], [], []]
