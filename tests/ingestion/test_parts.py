"""Ranges of pages and windows of time: the shares together are everything, and the remote is asked for nothing else."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ingestion import pipeline
from ingestion.errors import RunFailed
from ingestion.models import Part, Run
from ingestion.pagination import OffsetLimit, PageNumber, Received, SinglePage
from ingestion.parts import FileGroups, PageRanges, ParentGroups, Windows
from ingestion.sources import JsonApi
from photos.feeds import PHOTOS
from photos.models import Photo
from photos.sample_api import photo
from tests.remote import Remote, Reply, json_list, json_pages

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
COUNTED = PageNumber(param="_page", size_param="_limit", size=10, total_header="X-Total-Count")
UNCOUNTED = replace(COUNTED, total_header=None)
OFFSETS = OffsetLimit(param="offset", size_param="limit", size=10, total_header="X-Total-Count")
DAYS = Windows(since="since", until="until", start=timedelta(days=3), step=timedelta(days=1))

pytestmark = pytest.mark.usefixtures("tried_twice")


def photos(number):
    return [photo(n) for n in range(1, number + 1)]


def api(remote, pagination=COUNTED, **options):
    return JsonApi(url=f"{remote.url}/photos", pagination=pagination, **options)


def shares(remote, parts, pagination=COUNTED):
    return parts.plan(api(remote, pagination), now=NOW)


def pages_of(share):
    return share["first"], share["last"], share["before"], share["through"]


@pytest.mark.parametrize(
    ("records", "pages", "expected"),
    [
        (100, 4, [(1, 4, 0, 40), (5, 8, 40, 80), (9, None, 80, None)]),
        (80, 4, [(1, 4, 0, 40), (5, None, 40, None)]),
        (81, 4, [(1, 4, 0, 40), (5, 8, 40, 80), (9, None, 80, None)]),
        (40, 4, [(1, None, 0, None)]),
        (25, 1, [(1, 1, 0, 10), (2, 2, 10, 20), (3, None, 20, None)]),
    ],
)
def test_the_total_of_the_first_page_says_how_many_ranges_there_are(records, pages, expected):
    with Remote(json_pages(photos(records))) as remote:
        planned = shares(remote, PageRanges(pages=pages))
    assert [pages_of(share) for share in planned] == expected
    assert {share["total"] for share in planned} == {records}
    assert [query["_page"] for query in remote.queries] == ["1"]


@pytest.mark.parametrize("records", [0, 10])
def test_what_ends_with_its_first_page_is_not_divided(records):
    with Remote(json_pages(photos(records))) as remote:
        assert shares(remote, PageRanges(pages=1)) == [{}]


def test_a_server_that_gives_smaller_pages_is_divided_by_its_own():
    with Remote(json_pages(photos(40), max_size=5)) as remote:
        planned = shares(remote, PageRanges(pages=4))
    assert [pages_of(share) for share in planned] == [(1, 4, 0, 20), (5, None, 20, None)]


def test_a_number_of_ranges_needs_no_total_and_no_request():
    with Remote(json_pages(photos(40), total_header=None)) as remote:
        planned = shares(remote, PageRanges(pages=2, ranges=3), replace(UNCOUNTED, start=0))
    assert [(share["first"], share["last"]) for share in planned] == [(0, 1), (2, 3), (4, None)]
    assert remote.queries == []


def test_a_first_page_without_its_total_cannot_be_divided():
    with (
        Remote(json_pages(photos(40), total_header=None)) as remote,
        pytest.raises(RunFailed, match="X-Total-Count is"),
    ):
        shares(remote, PageRanges(pages=2))


@pytest.mark.parametrize("pagination", [COUNTED, OFFSETS])
def test_a_total_beyond_all_parts_is_refused_before_they_are_made(pagination):
    told = Reply(body=json_list(photos(10)), headers={"X-Total-Count": f"{10**15}"})
    with Remote(told) as remote, pytest.raises(RunFailed, match="too_many_parts: 10000000000000 parts, of at most 10"):
        shares(remote, PageRanges(pages=10), pagination)


def test_a_step_too_short_for_its_time_is_refused_before_windows_are_made():
    windows = replace(DAYS, step=timedelta(microseconds=1))
    with pytest.raises(RunFailed, match="too_many_parts: 259200000000 parts, of at most 10000"):
        windows.plan(JsonApi(url="", pagination=SinglePage()), now=NOW)


@pytest.mark.parametrize("parts", [PageRanges(pages=1), DAYS, FileGroups(), ParentGroups()])
def test_a_share_of_other_parts_cannot_be_bound(parts):
    with pytest.raises(RunFailed, match=f"share: the run was divided before the feed had {type(parts).__name__}"):
        parts.bind(JsonApi(url="", pagination=COUNTED), {"other": 1})


def test_a_range_that_brings_other_records_than_planned_fails():
    share = {"first": 3, "last": 3, "before": 20, "through": 30, "total": 100}
    paginator = replace(COUNTED, size=20).within(share)
    received = Received(headers={"x-total-count": "100"}, records=9)
    with pytest.raises(RunFailed, match="29 records came on the pages up to 3, expected 30"):
        paginator.following(paginator.first(), received)


@pytest.fixture
def sync(settings, monkeypatch):
    """Run the photos feed, divided, in the foreground."""

    def sync(remote, parts, pagination=COUNTED, **source):
        feed = replace(PHOTOS, source=api(remote, pagination, **source), parts=parts)
        monkeypatch.setattr("photos.feeds.PHOTOS", feed)
        return pipeline.run_here("photos").summary

    return sync


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("max_size", [None, 3])
@pytest.mark.parametrize("records", [9, 10, 11, 19, 20, 21, 100])
def test_ranges_read_every_record_once(sync, records, max_size):
    with Remote(json_pages(photos(records), max_size=max_size)) as remote:
        summary = sync(remote, PageRanges(pages=2))
    assert (summary["state"], summary["read"], summary["inserted"]) == ("succeeded", records, records)
    pages = [int(query["_page"]) for query in remote.queries]
    # The first page is read once more, to plan.
    assert sorted(pages[1:]) == [*range(1, -(-records // (max_size or 10)) + 1)]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("records", [0, 5, 20, 39, 40, 41, 73])
def test_ranges_without_a_total_read_every_record_once(sync, records):
    with Remote(json_pages(photos(records), total_header=None)) as remote:
        summary = sync(remote, PageRanges(pages=2, ranges=3), UNCOUNTED)
    assert (summary["state"], summary["read"], Part.objects.count()) == ("succeeded", records, 3)
    assert Photo.objects.count() == records


@pytest.mark.django_db(transaction=True)
def test_ranges_of_offsets_read_every_record_once(sync):
    def answer(request):
        start, size = int(request.query["offset"]), int(request.query["limit"])
        return Reply(body=json_list(photos(45)[start : start + min(size, 7)]), headers={"X-Total-Count": "45"})

    with Remote(answer) as remote:
        pagination = OffsetLimit(param="offset", size=10, size_param="limit", total_header="X-Total-Count")
        summary = sync(remote, PageRanges(pages=2), pagination)
    assert (summary["state"], summary["read"], summary["inserted"]) == ("succeeded", 45, 45)
    starts = [int(request.query["offset"]) for request in remote.requests]
    assert starts == [0, 0, 7, 14, 20, 27, 34, 40]


@pytest.mark.django_db(transaction=True)
def test_records_that_are_added_meanwhile_belong_to_the_last_range(sync):
    served = photos(40)

    def grow(request):
        if len(remote.requests) == 2:
            served.extend(photos(55)[40:])
        return json_pages(served)(request)

    with Remote(grow) as remote:
        assert sync(remote, PageRanges(pages=2))["read"] == 55


@pytest.mark.django_db(transaction=True)
def test_records_that_are_deleted_meanwhile_fail_the_run(sync):
    served = photos(40)

    def shrink(request):
        if len(remote.requests) == 4:
            del served[5]
        return json_pages(served)(request)

    with Remote(shrink) as remote:
        summary = sync(remote, PageRanges(pages=2))
    assert summary["error"].startswith("total: X-Total-Count went from 40 to 39")


@pytest.mark.django_db(transaction=True)
def test_the_limit_of_pages_counts_over_all_parts(sync):
    with Remote(json_pages(photos(60))) as remote:
        summary = sync(remote, PageRanges(pages=2), max_pages=5)
        assert summary["error"] == "too_many_pages: 6 pages in all parts, of at most 5"
        assert summary["read"] in (40, 50)  # a chunk has what was ready
        assert sync(remote, PageRanges(pages=2), max_pages=6)["state"] == "succeeded"


def test_windows_cut_the_time_to_now_and_the_last_one_is_open_ended():
    assert DAYS.plan(JsonApi(url="", pagination=SinglePage()), now=NOW) == [
        {"since": "2026-11-20T12:00:00+00:00", "until": "2026-11-21T12:00:00+00:00"},
        {"since": "2026-11-21T12:00:00+00:00", "until": "2026-11-22T12:00:00+00:00"},
        {"since": "2026-11-22T12:00:00+00:00", "until": None},
    ]


def test_a_window_that_does_not_fit_is_shorter():
    windows = replace(DAYS, start=datetime(2026, 11, 22, 23, tzinfo=UTC), step=timedelta(hours=8))
    assert windows.between(windows.start, NOW) == [
        {"since": "2026-11-22T23:00:00+00:00", "until": "2026-11-23T07:00:00+00:00"},
        {"since": "2026-11-23T07:00:00+00:00", "until": "2026-11-23T12:00:00+00:00"},
    ]


@pytest.mark.parametrize("start", [NOW, NOW + timedelta(days=1), timedelta(0)])
def test_a_start_that_is_not_over_leaves_nothing_to_read(start):
    assert replace(DAYS, start=start).plan(JsonApi(url="", pagination=SinglePage()), now=NOW) == []


@pytest.mark.django_db(transaction=True)
def test_each_window_is_asked_for_by_its_parameters(sync):
    start, step = datetime(2016, 1, 1, tzinfo=UTC), timedelta(days=3653)
    windows = Windows(since="since", until="until", start=start, step=step, format="%Y-%m-%d")
    with Remote(json_pages(photos(3), total_header=None)) as remote:
        sync(remote, windows, SinglePage(), params={"kind": "a"})
    asked = [(query["kind"], query["since"], query.get("until")) for query in remote.queries]
    assert asked[0] == ("a", "2016-01-01", "2026-01-01")
    assert asked[1] == ("a", "2026-01-01", None)
    assert Run.objects.get().parts.count() == 2


@pytest.mark.parametrize(
    ("parts", "source", "problem"),
    [
        (PageRanges(pages=2), JsonApi(url="", pagination=COUNTED), None),
        (PageRanges(pages=2, ranges=3), JsonApi(url="", pagination=UNCOUNTED), None),
        (PageRanges(pages=2), JsonApi(url="", pagination=OffsetLimit(param="at", size=1, total=("n",))), None),
        (PageRanges(pages=2), JsonApi(url="", pagination=UNCOUNTED), "either a pagination with total_header"),
        (PageRanges(pages=2, ranges=3), JsonApi(url="", pagination=COUNTED), "and not both"),
        (PageRanges(pages=0), JsonApi(url="", pagination=COUNTED), "numbers from 1 on"),
        (PageRanges(pages=2), JsonApi(url="", pagination=SinglePage()), "cannot be asked for by number"),
        (DAYS, JsonApi(url="", pagination=SinglePage()), None),
        (DAYS, object(), "cannot be asked for a period"),
        (replace(DAYS, step=timedelta(0)), JsonApi(url="", pagination=SinglePage()), "longer than nothing"),
        (replace(DAYS, start=datetime(2026, 1, 1)), JsonApi(url="", pagination=SinglePage()), "no time zone"),  # noqa: DTZ001
    ],
)
def test_what_cannot_be_divided_says_why(parts, source, problem):
    found = parts.problem(source)
    assert found is None if problem is None else problem in found
