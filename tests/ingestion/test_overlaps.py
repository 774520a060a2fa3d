"""What counted pages tell of a collection that changes while it is read, and what of that is said of the run."""

import json
from dataclasses import replace

import pytest

from ingestion import pipeline
from ingestion.feeds import Feed, Upsert
from ingestion.management.commands.ingest import describe
from ingestion.models import Run
from ingestion.pagination import OffsetLimit, PageNumber
from ingestion.sources import JsonApi
from ingestion.sources.overlaps import Seams
from ingestion.types import Page, Records
from tests.ingestion.catalog import COLUMNS, products, table_of
from tests.remote import Remote, Reply, json_list
from tests.staff import superuser

MOVED, GONE = "begins with a record of page", "does not begin with what page"


def page(number, *ids):
    return Page(number=number, records=Records(json_list([{"id": id_} for id_ in ids])), size_bytes=0, following={})


@pytest.mark.parametrize(
    ("overlap", "pages", "expected"),
    [
        (0, [(1, 2), (3, 4)], ""),
        (0, [(1, 2), (2, 3)], MOVED),
        # Without an overlap nobody can tell.
        (0, [(1, 2), (5, 6)], ""),
        (1, [(1, 2), (2, 3), (3, 4)], ""),
        (1, [(1, 2, 3), (2, 3, 4)], MOVED),
        (1, [(1, 2), (3, 4)], GONE),
        (1, [(1, 2), ()], GONE),
        (2, [(1, 2, 3), (2, 3, 4), (3, 4, 5)], ""),
        (2, [(1, 2, 3), (3, 4, 5)], MOVED),
        (2, [(1, 2, 3), (4, 5, 6)], GONE),
        # Of a page of one record nothing overlaps.
        (1, [(1,), (2,)], ""),
    ],
)
def test_what_a_seam_tells(overlap, pages, expected):
    seams = Seams(overlap)
    *before, last = [seams.finding(page(number, *ids)) for number, ids in enumerate(pages, 1)]
    assert before == [""] * len(before)
    assert expected in last
    assert bool(expected) == bool(last)


def test_each_finding_is_told_once():
    seams = Seams(1)
    told = [seams.finding(page(number, *ids)) for number, ids in enumerate([(1, 2), (4, 5), (7, 8), (7, 8)], 1)]
    assert [GONE in each for each in told] == [False, True, False, False]
    assert [MOVED in each for each in told] == [False, False, False, True]


def test_what_a_page_warns_of_already_is_said_beside_what_its_seam_tells():
    seams, warned = Seams(0), "something is left out"
    pages = [replace(page(number, *ids), warning=warned) for number, ids in enumerate([(1, 2), (2, 3)], 1)]
    first, second = [seams.watched(each, lambda: "GET /").warning for each in pages]
    assert first == warned
    assert second.startswith(warned + "; ")
    assert MOVED in second


def serve(change):
    """Serve products by offset, and change them before the third page."""
    codes = list(range(1, 61))

    def answer(request):
        if len(remote.requests) == 3:
            change(codes)
        offset = int(request.query["offset"])
        return Reply(body=json_list(products(*codes[offset : offset + 10])))

    remote = Remote(answer)
    return remote


def sync(monkeypatch, remote, model, pagination):
    source = JsonApi(url=f"{remote.url}/products", pagination=pagination)
    feed = Feed(name="catalog", source=source, columns=COLUMNS, target=Upsert(model, key="code"))
    monkeypatch.setattr("photos.feeds.CATALOG", feed, raising=False)
    return pipeline.run_here("catalog").summary


@pytest.mark.django_db(transaction=True)
def test_a_run_tells_what_moved_and_loads_each_record_once(monkeypatch):
    with table_of() as model, serve(lambda codes: codes.insert(0, 99)) as remote:
        summary = sync(monkeypatch, remote, model, OffsetLimit(param="offset", size=10))
        # In one chunk it is a duplicate, in two it has not changed.
        assert (summary["read"], summary["inserted"], summary["updated"]) == (61, 60, 0)
        (warning,) = summary["warnings"]
        assert f"page 3 {MOVED} 2" in warning
        assert "warning: page 3 begins" in describe(summary)
        client = superuser()
        assert f"page 3 {MOVED} 2" in client.get(f"/admin/ingestion/run/{summary['run']}/change/").content.decode()
        assert "page 3 begins" in client.get("/admin/ingestion/run/").content.decode()


# As many as overlap are made up for; nobody can tell whether it were no more.
@pytest.mark.parametrize(("deleted", "missing"), [(1, 0), (3, 2)])
@pytest.mark.django_db(transaction=True)
def test_a_run_whose_pages_overlap_tells_what_was_deleted(monkeypatch, deleted, missing):
    def exchange(codes):
        del codes[:deleted]
        codes.extend(range(61, 61 + deleted))

    with table_of() as model, serve(exchange) as remote:
        summary = sync(monkeypatch, remote, model, OffsetLimit(param="offset", size=10, overlap=1))
    assert (summary["state"], summary["inserted"]) == ("succeeded", 60 + deleted - missing)
    (warning,) = summary["warnings"]
    assert f"page 3 {GONE} 2 ended with" in warning


@pytest.mark.django_db(transaction=True)
def test_a_run_without_changes_has_no_warning(monkeypatch):
    with table_of() as model, serve(lambda codes: None) as remote:
        overlapping = sync(monkeypatch, remote, model, OffsetLimit(param="offset", size=10, overlap=3))
        assert overlapping["warnings"] == []
        assert overlapping["inserted"] == 60
    assert Run.objects.get().warnings == []


def test_pages_by_number_are_looked_at_too():
    def answer(request):
        start = (int(request.query["page"]) - 1) * 5 - (1 if request.query["page"] == "2" else 0)
        return Reply(body=json_list(products(*range(start, min(start + 5, 9)))))

    with Remote(answer) as remote:
        pages = list(JsonApi(url=remote.url, pagination=PageNumber(param="page", size=5)).pages(None))
    assert [MOVED in each.warning for each in pages] == [False, True, False]


@pytest.mark.parametrize("counted", [{"total_header": "X-Totl"}, {"total": ("meta", "totl")}])
@pytest.mark.parametrize("records", [10, 25])
@pytest.mark.django_db(transaction=True)
def test_a_total_that_is_named_and_not_told_is_a_warning(monkeypatch, model, counted, records):
    codes = list(range(records))

    def answer(request):
        offset = int(request.query["page"]) * 10
        found = {"meta": {"total": records}, "found": products(*codes[offset : offset + 10])}
        return Reply(body=json.dumps(found).encode(), headers={"X-Total": str(records)})

    def warnings(remote, **options):
        pagination = PageNumber(param="page", size=10, start=0, **options)
        source = JsonApi(url=remote.url, pagination=pagination, records=("found",))
        feed = Feed(name="counted", source=source, columns=COLUMNS, target=Upsert(model, key="code"))
        monkeypatch.setattr("photos.feeds.COUNTED", feed, raising=False)
        summary = pipeline.run_here("counted").summary
        assert (summary["state"], summary["read"]) == ("succeeded", records)
        return summary["warnings"]

    with Remote(answer) as remote:
        (warning,) = warnings(remote, **counted)
        assert "totl is missing in the first response" in warning.lower()
        for right in ({}, {"total_header": "X-Total"}, {"total": ("meta", "total")}):
            assert warnings(remote, **right) == []
