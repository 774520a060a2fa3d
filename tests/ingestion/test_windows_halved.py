"""A remote that gives only so many records for one question: its windows are halved until they fit."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ingestion import pipeline
from ingestion.feeds import Append, Feed
from ingestion.pagination import OffsetLimit, PageNumber, SinglePage
from ingestion.parts import Windows
from ingestion.sources import Ftp, JsonApi
from tests.ingestion.catalog import COLUMNS, products, rows
from tests.ingestion.slices import in_slices
from tests.remote import Remote, Reply

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("tried_twice")]

START = datetime(2026, 1, 1, tzinfo=UTC)
MOST = 10
PAGED = PageNumber(param="page", size=4, size_param="size", total=("total",))


class Search:
    """Has records at hours of January, and gives the first MOST of them that a question finds."""

    def __init__(self, *hours):
        self.records = [(START + timedelta(hours=hour), code) for code, hour in enumerate(hours)]
        self.windows = []

    def __call__(self, request):
        since = datetime.fromisoformat(request.query["since"])
        until = datetime.fromisoformat(request.query.get("until", "2099-01-01T00:00:00+00:00"))
        self.windows.append((since, until))
        found = [code for at, code in self.records if since <= at < until]
        first = (int(request.query["page"]) - 1) * int(request.query["size"])
        if first >= MOST:
            return Reply(422)
        body = {"total": len(found), "found": products(*found[: MOST - 1][first : first + int(request.query["size"])])}
        return Reply(body=json.dumps(body).encode())


@pytest.fixture
def declare(monkeypatch, model):
    def declare(remote, **options):
        source = JsonApi(url=remote.url, pagination=PAGED, records=("found",))
        settings = {"start": START, "step": timedelta(days=3650), "most": MOST}
        windows = Windows(**{"since": "since", "until": "until"} | settings | options)
        # Nothing absorbs a record that is read twice.
        feed = Feed(name="search", source=source, columns=COLUMNS, target=Append(model), parts=windows, chunk_rows=1)
        monkeypatch.setattr("photos.feeds.SEARCH", feed, raising=False)
        return windows, source

    return declare


@pytest.mark.parametrize("hours", [[], [0], [*range(9)], [*range(10)], [*range(40)], [5, *[700] * 9, *[701] * 9]])
def test_every_record_is_read_once_in_windows_that_fit(declare, model, hours):
    search = Search(*hours)
    with Remote(search) as remote:
        declare(remote)
        summary = pipeline.run_here("search").summary
    assert (summary["state"], summary["read"]) == ("succeeded", len(hours)), summary["error"]
    assert rows(model, "code") == [*range(len(hours))]
    assert len(set(search.windows)) == 1 or len(hours) >= MOST


def test_a_window_goes_on_at_any_page_of_any_half(declare):
    search = Search(*range(30))
    with Remote(search) as remote:
        windows, source = declare(remote)
        until = START + timedelta(hours=30)
        bound = windows.bind(source, {"since": START.isoformat(), "until": until.isoformat()})
        pages = list(bound.pages(None))
        whole = [bytes(record) for page in pages for record in page.records]
        assert len(whole) == 30
        assert [page.number for page in pages] == [*range(1, len(pages) + 1)]
        for number, page in enumerate(pages[:-1], start=1):
            rest = list(bound.pages(json.loads(json.dumps(page.following))))
            before = [bytes(record) for earlier in pages[:number] for record in earlier.records]
            assert before + [bytes(record) for later in rest for record in later.records] == whole
            assert rest[0].number == number + 1
    assert pages[-1].following is None


def test_slices_take_over_in_the_middle_of_a_half(declare, model):
    with Remote(Search(*range(30))) as remote:
        declare(remote)
        run, _ = in_slices("search")
    assert run.state == "succeeded"
    assert rows(model, "code") == [*range(30)]


def test_a_window_that_cannot_be_halved_further_fails_with_what_it_holds(declare, model):
    with Remote(Search(*range(3), *[24.5] * 12)) as remote:
        declare(remote, smallest=timedelta(hours=1))
        summary = pipeline.run_here("search").summary
    assert summary["state"] == "failed"
    assert summary["error"].startswith("window_too_full: the remote has 12 records from 2026-01-0")
    assert "cannot be halved into windows of 1:00:00 or more" in summary["error"]
    assert rows(model, "code") == [0, 1, 2]


def test_a_format_without_a_time_halves_at_days(declare, model):
    class Days(Search):
        def __call__(self, request):
            for name in ("since", "until"):
                if name in request.query:
                    assert len(request.query[name]) == 10
                    request.query[name] += "T00:00:00+00:00"
            return super().__call__(request)

    search = Days(*[hour * 24 for hour in range(20)])
    with Remote(search) as remote:
        declare(remote, format="%Y-%m-%d")
        assert pipeline.run_here("search").summary["read"] == 20
    assert rows(model, "code") == [*range(20)]
    with Remote(Days(*range(10))) as remote:
        declare(remote, format="%Y-%m-%d")
        assert "window_too_full" in pipeline.run_here("search").summary["error"]


def test_a_window_that_becomes_too_full_while_it_is_read_fails_and_is_halved_by_the_next_run(declare, model):
    search = Search(*range(8))

    def answer(request):
        if request.query["page"] == "2" and len(search.records) == 8:
            search.records += [(START + timedelta(hours=9), code) for code in range(8, 12)]
        return search(request)

    with Remote(answer) as remote:
        declare(remote)
        summary = pipeline.run_here("search").summary
        assert summary["error"].startswith("window_too_full: the remote has 12 records")
        assert "which were fewer than 10 when it began; the next run halves it" in summary["error"]
        model.objects.all().delete()
        assert pipeline.run_here("search").summary["read"] == 12


def test_the_middle_is_a_moment_that_can_be_written():
    windows = Windows(since="a", until="b", step=timedelta(days=1), start=START, most=1)
    day, next_day = START.isoformat(), (START + timedelta(days=1)).isoformat()
    assert windows.middle(day, next_day, START) == "2026-01-01T12:00:00+00:00"
    assert windows.middle(day, None, START + timedelta(hours=4)) == "2026-01-01T02:00:00+00:00"
    assert windows.middle(day, None, START - timedelta(hours=4)) is None
    assert windows.middle(day, (START + timedelta(seconds=3)).isoformat(), START) == "2026-01-01T00:00:01+00:00"
    assert windows.middle(day, (START + timedelta(seconds=1)).isoformat(), START) is None
    assert replace(windows, format="%Y-%m-%d").middle(day, next_day, START) is None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, None),
        ({"format": "%Y-%m-%d"}, None),
        ({"most": 0}, "from 1 on"),
        ({"smallest": timedelta(0)}, "longer than nothing"),
        ({"format": "%s"}, "cannot be read back"),
    ],
)
def test_what_cannot_be_halved_says_why(changes, problem):
    windows = Windows(since="a", until="b", step=timedelta(days=1), start=START, most=10)
    found = replace(windows, **changes).problem(JsonApi(url="", pagination=PAGED))
    assert found is None if problem is None else problem in found


@pytest.mark.parametrize("pagination", [SinglePage(), OffsetLimit(param="at", size=1)])
def test_halving_needs_a_total(pagination):
    windows = Windows(since="a", until="b", step=timedelta(days=1), start=START, most=10)
    assert "a pagination that has total_header or total" in windows.problem(JsonApi(url="", pagination=pagination))
    assert "cannot be asked for a period" in windows.problem(Ftp(host=""))
