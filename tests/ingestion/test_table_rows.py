"""Endpoints that are asked once for each row of a table of ours."""

import json
import threading
import uuid
from dataclasses import replace

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connection, models

from ingestion import interventions, pipeline
from ingestion.errors import ConfigurationError
from ingestion.feeds import Feed, Upsert
from ingestion.models import State
from ingestion.pagination import SinglePage
from ingestion.parts import ParentGroups
from ingestion.sources import ForEach, JsonApi, TableRows
from tests.ingestion.catalog import COLUMNS, counts, execute, products, rows, table_of
from tests.ingestion.slices import begin, work_off
from tests.remote import Remote, Reply

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def shelves():
    """Make a table of shelves: their code is the primary key, and some have a label."""
    with table_of(
        {"db_table": "photos_shelf"},
        code=models.IntegerField(primary_key=True),
        label=models.CharField(max_length=20, null=True),
        token=models.UUIDField(default=uuid.uuid4),
    ) as model:
        yield model


def fill(shelves, *codes, **values):
    shelves.objects.bulk_create(shelves(code=code, **values) for code in codes)


def values(source, cursor=None):
    return [[json.loads(bytes(record)) for record in page.records] for page in source.pages(cursor)]


def each(remote, parents, **options):
    children = JsonApi(url=f"{remote.url}/shelves/{{parent}}", pagination=SinglePage())
    return ForEach(**{"parents": parents, "field": (parents.field,), "source": children} | options)


def asked(remote):
    return [each.path.rpartition("/")[2] for each in remote.requests]


def answer(request):
    return Reply(body=json.dumps(products(int(request.path.rpartition("/")[2]))).encode())


def declare(monkeypatch, source, target, **options):
    feed = Feed(name="shop", source=source, columns=COLUMNS, target=target, chunk_rows=1, **options)
    monkeypatch.setattr("photos.feeds.SHOP", feed, raising=False)


def test_the_endpoint_is_asked_for_each_row(monkeypatch, shelves, model):
    fill(shelves, 5, 1, 3, 2, 4)
    with Remote(answer) as remote:
        parents = TableRows(rows=lambda: shelves.objects.exclude(code=3), size=2)
        declare(monkeypatch, each(remote, parents), Upsert(model, key="code"))
        summary = pipeline.run_here("shop").summary
    assert (summary["state"], counts(summary)) == ("succeeded", {"read": 4, "inserted": 4})
    assert asked(remote) == ["1", "2", "4", "5"]
    assert rows(model, "code") == [1, 2, 4, 5]


@pytest.mark.parametrize("parts", [None, ParentGroups(parents=2)])
def test_a_run_goes_on_where_it_stopped_and_asks_for_no_row_again(monkeypatch, shelves, model, parts):
    fill(shelves, *range(1, 8))
    broken = {5}
    with Remote(lambda asked: Reply(403) if int(asked.path[-1]) in broken else answer(asked)) as remote:
        parents = TableRows(rows=shelves.objects.all, size=3)
        declare(monkeypatch, each(remote, parents), Upsert(model, key="code"), parts=parts)
        run = work_off(begin("shop"))
        assert run.state == "failed"
        done = rows(model, "code")
        broken.clear()
        before = len(remote.requests)
        interventions.resume(run.pk, wake_workers=False)
        assert (work_off(run).state, run.read) == (State.SUCCEEDED, 7)
    # What is read ahead of a slice's end is asked for again by the next slice.
    assert {int(shelf) for shelf in asked(remote)[before:]} == {*range(1, 8)} - {*done}
    assert rows(model, "code") == [*range(1, 8)]


def test_each_value_comes_once_in_order_and_null_is_left_out(shelves):
    fill(shelves, 4, 1, label="b")
    fill(shelves, 2, 6, label="a")
    fill(shelves, 3)
    fill(shelves, 5, label="c")
    source = TableRows(rows=shelves.objects.all, field="label", size=2)
    assert values(source) == [[{"label": "a"}, {"label": "b"}], [{"label": "c"}]]
    (first, _) = source.pages(None)
    assert values(source, json.loads(json.dumps(first.following))) == [[{"label": "c"}]]
    assert values(replace(source, rows=shelves.objects.none)) == [[]]


def test_rows_that_come_and_go_move_nobody(shelves):
    fill(shelves, *range(10, 50, 10))
    source = TableRows(rows=shelves.objects.all, field="code", size=2)
    pages = source.pages(None)
    next(pages)
    shelves.objects.filter(code__lte=20).delete()
    fill(shelves, 5, 35)
    assert [record["code"] for page in pages for record in map(json.loads, map(bytes, page.records))] == [30, 35, 40]


def test_a_value_of_related_rows_is_that_of_the_rows_that_were_chosen():
    groups = {name: Group.objects.create(name=name) for name in ("east", "north", "south", "west")}
    for name, members in (("ada", ("south", "east")), ("bob", ("west",)), ("eve", ("east", "north"))):
        get_user_model().objects.create(username=name).groups.set([groups[member] for member in members])
    source = TableRows(
        rows=lambda: get_user_model().objects.filter(groups__name__gt="east"), field="groups__name", size=1
    )
    assert values(source) == [[{"groups__name": "north"}], [{"groups__name": "south"}], [{"groups__name": "west"}], []]


def test_values_that_json_does_not_know_are_asked_for_as_text(shelves):
    tokens = [uuid.UUID(int=number) for number in (3, 1, 2)]
    shelves.objects.bulk_create(shelves(code=number, token=token) for number, token in enumerate(tokens))
    source = TableRows(rows=shelves.objects.all, field="token", size=1)
    assert values(source) == [*([{"token": str(token)}] for token in sorted(tokens)), []]


def test_no_connection_is_left_behind(shelves):
    fill(shelves, 1, 2, 3)
    source = TableRows(rows=shelves.objects.all, size=2)
    found = []

    def read():
        found.extend((len(page.records), connection.connection) for page in source.pages(None))

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert found == [(2, None), (1, None)]
    list(source.pages(None))
    assert connection.connection is not None  # the caller's own stays


def test_a_table_that_is_not_there_fails_the_run(monkeypatch, shelves, model):
    execute("ALTER TABLE photos_shelf RENAME TO photos_elsewhere")
    with Remote(answer) as remote:
        parents = TableRows(rows=shelves.objects.all)
        declare(monkeypatch, each(remote, parents), Upsert(model, key="code"))
        summary = pipeline.run_here("shop").summary
    execute("ALTER TABLE photos_elsewhere RENAME TO photos_shelf")
    assert summary["state"] == "failed"
    assert 'relation "photos_shelf" does not exist' in summary["error"]


@pytest.mark.parametrize(
    ("rows", "options", "problem"),
    [
        (lambda model: model.objects.all()[:5], {}, "no slice"),
        (lambda model: model.objects.all().union(model.objects.all()), {}, "no slice"),
        (lambda model: [1, 2], {}, "returns a queryset"),
        (lambda model: model.objects.all(), {"field": "nobody"}, "nobody"),
        (lambda model: model.objects.all(), {"size": 0}, "a size from 1"),
        (lambda model: model.objects.all(), {"size": 10_001}, "a size from 1"),
    ],
)
def test_mistakes(shelves, rows, options, problem):
    with pytest.raises(ConfigurationError, match=problem):
        values(TableRows(rows=lambda: rows(shelves), **options))
