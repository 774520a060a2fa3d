"""Every kind of source is asked for what has changed: GraphQL, SOAP, bodies, children, windows, ranges; files again."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ingestion import backfills, pipeline
from ingestion.cleaning import integer, whole_record
from ingestion.incremental import Incremental
from ingestion.models import FeedState, Part, Run
from ingestion.pagination import NextCursor, PageNumber, SinglePage
from ingestion.parts import PageRanges, Windows
from ingestion.sources import Disk, Files, ForEach, GraphQL, JsonApi, Ndjson, Soap
from photos.feeds import PHOTOS
from photos.sample_api import photo
from tests.ingestion import graphql_server, soap_server
from tests.ingestion.changes import DAY, HOUR, INCREMENTAL, MINUTE, NOON, changes, last_run
from tests.remote import Remote, Reply, json_list

WINDOWS = Windows(since="since", until="until", start=NOON - DAY, step=DAY)
# Items that have a code only, as photos.
OF_CODES = {
    **dict.fromkeys(("remote_id", "album_id", "title", "url", "thumbnail_url"), "code"),
    "raw_data": whole_record,
}
AT = Incremental(field="changedAt", since="since", overlap=timedelta(0))


@pytest.fixture
def declare(monkeypatch):
    def declare(source, incremental=AT, **options):
        feed = replace(PHOTOS, source=source, incremental=incremental, **options)
        monkeypatch.setattr("photos.feeds.PHOTOS", feed)

    return declare


def sync(**options):
    summary = pipeline.run_here("photos", **options).summary
    assert summary["state"] == "succeeded", summary["error"]
    return summary


def photo_at(number, at):
    return photo(number) | {"changedAt": at.isoformat()}


@pytest.mark.django_db(transaction=True)
def test_a_member_of_a_posts_body(declare):
    with Remote(Reply(body=json_list([photo_at(1, NOON)]))) as remote:
        source = JsonApi(url=remote.url, method="POST", body={"filter": {"a": 1}}, pagination=SinglePage())
        declare(source, replace(AT, since="filter.from", written="s"))
        sync()
        sync()
    assert [json.loads(request.body) for request in remote.requests] == [
        {"filter": {"a": 1}},
        {"filter": {"a": 1, "from": 1767614400}},
    ]


def test_a_body_that_holds_nothing_but_what_the_paginator_adds():
    pagination = NextCursor(param="after", cursor=("next",), place="body")
    source = JsonApi(url="http://x", method="POST", pagination=pagination).with_values({"filter.from": 5})
    assert (source.body, source.params) == ({"filter": {"from": 5}}, {})


@pytest.mark.django_db(transaction=True)
def test_the_children_of_every_parent(declare):
    def answer(request):
        if request.path == "/albums":
            return Reply(body=b'[{"id": 1}, {"id": 2}]')
        return Reply(body=json_list([photo_at(int(request.path[-1]), NOON)]))

    with Remote(answer) as remote:
        albums = JsonApi(url=f"{remote.url}/albums", pagination=SinglePage())
        photos = JsonApi(url=f"{remote.url}/photos/{{parent}}", pagination=SinglePage())
        declare(ForEach(parents=albums, field=("id",), source=photos))
        sync()
        sync()
    assert [(request.path, request.query.get("since")) for request in remote.requests[3:]] == [
        ("/albums", None),
        ("/photos/1", NOON.isoformat()),
        ("/photos/2", NOON.isoformat()),
    ]


@pytest.mark.django_db(transaction=True)
def test_a_variable_of_graphql(declare, monkeypatch):
    items = [graphql_server.Item(code="7", name="x"), graphql_server.Item(code="8", name="x")]
    with graphql_server.serve(stock := graphql_server.Stock(products=items)) as url:
        source = GraphQL(
            url=url,
            query="query ($after: Int! = 0) { catalogue { listed(offset: $after) { ... on Item { code name } } } }",
            records=("catalogue", "listed"),
            pagination=SinglePage(),
        )
        declare(
            source,
            Incremental(field=integer("code"), since="after"),
            columns=OF_CODES,
        )
        sync()
        sync()
    assert [request["variables"] for request in stock.requests] == [{}, {"after": 8}]
    assert FeedState.objects.get(name="photos").watermark == 8


@pytest.mark.django_db(transaction=True)
def test_an_argument_of_soap(declare):
    stock = soap_server.Stock(items=[soap_server.item("7", "x")])
    with soap_server.serve(stock) as remote:
        source = Soap(
            wsdl=f"{remote.url}/service?wsdl",
            operation="GetItems",
            records=("items", "item"),
            pagination=PageNumber(param="request.page", size=10, size_param="request.size", total=("total",)),
        )
        declare(
            source,
            Incremental(field=integer("code"), since="request.warehouse"),
            columns=OF_CODES,
        )
        sync()
        sync()
    assert [asked.get("warehouse") for asked in stock.asked] == [None, "7"]


@pytest.fixture
def remote(monkeypatch):
    with changes(monkeypatch) as remote:
        yield remote


@pytest.mark.django_db(transaction=True)
def test_windows_begin_at_the_watermark_and_end_before_now(declare):
    def answer(request):
        since = datetime.fromisoformat(request.query["since"])
        return Reply(body=json_list([photo_at((since - NOON).days + 10, since + MINUTE)]))

    now = datetime.now(UTC)
    with Remote(answer) as remote:
        windows = replace(WINDOWS, start=now - 3 * DAY, lag=HOUR)
        source = JsonApi(url=remote.url, pagination=SinglePage())
        declare(source, Incremental(field="changedAt", overlap=HOUR), parts=windows)
        assert sync()["pages"] == 3
        first = [(query["since"], query["until"]) for query in remote.queries]
        assert first[0][0] == (now - 3 * DAY).isoformat()
        assert timedelta(0) <= datetime.fromisoformat(first[-1][1]) - (now - HOUR) < MINUTE
        assert [until for _, until in first[:-1]] == [since for since, _ in first[1:]]
        assert FeedState.objects.get(name="photos").watermark == (now - DAY + MINUTE).isoformat()
        sync()
        (begin, end) = (remote.queries[3]["since"], remote.queries[-1]["until"])
        assert begin == (now - DAY + MINUTE - HOUR).isoformat()
        assert timedelta(0) <= datetime.fromisoformat(end) - (now - HOUR) < MINUTE


@pytest.mark.django_db(transaction=True)
def test_windows_of_which_one_fails_move_nothing_until_it_was_read_as_well(declare, settings):
    broken = [True]

    def answer(request):
        since = datetime.fromisoformat(request.query["since"])
        if broken[0] and since == NOON:
            return Reply(404)
        return Reply(body=json_list([photo_at((since - NOON).days + 10, since + MINUTE)]))

    with Remote(answer) as remote:
        source = JsonApi(url=remote.url, pagination=SinglePage())
        # Windows of a period that ends long before now: three of them.
        lag = datetime.now(UTC) - (NOON + 2 * DAY)
        declare(source, Incremental(field="changedAt"), parts=replace(WINDOWS, lag=lag))
        assert pipeline.run_here("photos").summary["state"] == "failed"
        assert FeedState.objects.get(name="photos").watermark is None
        assert Part.objects.filter(state="succeeded").count() >= 2
        from ingestion import interventions

        broken[0] = False
        interventions.resume(last_run().pk, wake_workers=False)
        before = len(remote.requests)
        assert sync()["state"] == "succeeded"
        assert [query["since"] for query in remote.queries[before:]] == [NOON.isoformat()]
        assert datetime.fromisoformat(FeedState.objects.get(name="photos").watermark) >= NOON + DAY


@pytest.mark.django_db(transaction=True)
def test_a_backfill_moves_nothing(declare, settings):
    settings.INGESTION_WAKE = "tests.ingestion.test_backfills.record_wake"
    with Remote(Reply(body=json_list([photo_at(1, NOON)]))) as remote:
        declare(JsonApi(url=remote.url, pagination=SinglePage()), Incremental(field="changedAt"), parts=WINDOWS)
        run, _ = backfills.request("photos", NOON - DAY, NOON)
        assert str(pipeline.advance(run.parts.get().pk, slice_seconds=60)) == "succeeded"
    assert [query["since"] for query in remote.queries] == [(NOON - DAY).isoformat()]
    assert Run.objects.get().watermark == {}
    assert FeedState.objects.get(name="photos").watermark is None


@pytest.mark.django_db(transaction=True)
def test_every_range_of_pages_is_asked_from_the_watermark(remote):
    remote.add(1, NOON)
    remote.sync()
    for number in range(2, 26):
        remote.add(number, NOON + number * MINUTE)
    remote.declare(INCREMENTAL, parts=PageRanges(pages=1, ranges=2))
    assert remote.asks() == NOON.isoformat()
    assert (last_run().parts.count(), remote.is_in_step()) == (2, True)
    assert remote.watermark == (NOON + 25 * MINUTE).isoformat()


@pytest.mark.django_db(transaction=True)
def test_full_reads_files_again_that_were_loaded(declare, tmp_path):
    (tmp_path / "a.ndjson").write_text(json.dumps(photo(1)) + "\n")
    (tmp_path / "b.ndjson").write_text(json.dumps(photo(2)) + "\n")
    declare(Files(place=Disk(folder=str(tmp_path)), format=Ndjson(), move_to="done"), None)
    assert [sync()["read"], sync()["read"]] == [2, 0]
    for path in (tmp_path / "done").iterdir():
        path.rename(tmp_path / path.name.split("-")[-1])
    assert sync(full=True)["unchanged"] == 2
    # They are moved like those of any other run.
    assert len(list((tmp_path / "done").iterdir())) == 2
