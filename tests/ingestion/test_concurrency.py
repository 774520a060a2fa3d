"""Several requests at once where addresses are known: the same pages in the same order, and no request too many."""

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from ingestion import pipeline, remembering
from ingestion.allowances import Allowance
from ingestion.errors import ConfigurationError, RetryLater, RunFailed
from ingestion.http import Rate
from ingestion.pagination import NextCursor, OffsetLimit, PageNumber, SinglePage
from ingestion.parts import PageRanges, Windows
from ingestion.sources import Csv, Disk, Files, ForEach, JsonApi
from photos.feeds import PHOTOS
from photos.models import Photo
from photos.sample_api import photo
from tests.remote import Remote, Reply, json_list, json_pages

pytestmark = pytest.mark.usefixtures("tried_twice")

COUNTED = PageNumber(param="_page", size_param="_limit", size=10, total_header="X-Total-Count")
OFFSETS = OffsetLimit(param="offset", size_param="limit", size=10, total_header="X-Total-Count")


def photos(number):
    return [photo(n) for n in range(1, number + 1)]


class Crowd:
    """Counts the requests that a server answers at the same time; lets so many meet before any is answered."""

    def __init__(self, answer, *, meet=0, alone=1):
        self.answer, self.most, self._now, self._alone = answer, 0, 0, alone
        self._lock = threading.Lock()
        self._barrier = threading.Barrier(meet) if meet else None

    def __call__(self, request):
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self._alone -= 1
            is_alone = self._alone >= 0
        try:
            if self._barrier is not None and not is_alone:
                self._barrier.wait(20)
            return self.answer(request)
        finally:
            with self._lock:
                self._now -= 1


def offsets(records, cap=None):
    def answer(request):
        start, size = int(request.query["offset"]), int(request.query["limit"])
        found = records[start : start + min(size, cap or size)]
        return Reply(body=json_list(found), headers={"X-Total-Count": str(len(records))})

    return answer


def api(remote, pagination=COUNTED, **options):
    return JsonApi(url=f"{remote.url}/photos", pagination=pagination, **{"concurrency": 4} | options)


def at_once(source, cursor=None, *, max_bytes=1_000_000):
    return source.pages_at_once(cursor, None, at_once=source.concurrency, max_bytes=max_bytes)


def told(pages):
    return [(page.number, [bytes(record) for record in page.records], page.following) for page in pages]


@pytest.mark.parametrize("records", [0, 5, 10, 11, 40, 41, 95])
@pytest.mark.parametrize(("pagination", "serve"), [(COUNTED, json_pages), (OFFSETS, offsets)])
def test_the_pages_are_those_of_one_request_after_the_other(pagination, serve, records):
    with Remote(serve(photos(records))) as remote:
        source = api(remote, pagination)
        one_by_one = told(source.pages(None))
        asked = sorted(json.dumps(query) for query in remote.queries)
        remote.requests.clear()
        assert told(at_once(source)) == one_by_one
        assert sorted(json.dumps(query) for query in remote.queries) == asked


def test_so_many_requests_are_under_way_and_never_more():
    crowd = Crowd(json_pages(photos(130)), meet=4)
    with Remote(crowd) as remote:
        assert sum(len(page.records) for page in at_once(api(remote))) == 130
    assert crowd.most == 4
    # One connection for the first page, and one for each thread.
    assert remote.accepted == 5


def test_reading_goes_on_at_any_page():
    with Remote(json_pages(photos(55))) as remote:
        source = api(remote)
        whole = told(source.pages(None))
        for number, (_, _, following) in enumerate(whole[:-1], start=1):
            assert told(at_once(source, json.loads(json.dumps(following)))) == whole[number:]


def test_an_error_is_that_of_its_page_and_what_came_behind_it_is_dropped():
    seen = threading.Event()

    def broken(request):
        assert seen.wait(20)
        return Reply(403)

    def later(request):
        seen.set()
        return Reply(503)

    with Remote(json_pages(photos(90), overrides={4: broken, 5: later})) as remote:
        pages = at_once(api(remote))
        numbers = []
        with pytest.raises(RunFailed, match="answered 403"):
            numbers.extend(page.number for page in pages)
    assert numbers == [1, 2, 3]


def test_a_total_that_grows_meanwhile_is_read_to_its_end():
    served = photos(40)

    def answer(request):
        if request.query["_page"] == "3":
            served.extend(photos(75)[len(served) :])
        return json_pages(served)(request)

    with Remote(answer) as remote:
        assert sum(len(page.records) for page in at_once(api(remote))) == 75
        pages = [int(query["_page"]) for query in remote.queries]
    assert sorted(pages) == [*range(1, 9)]


def test_a_total_that_shrinks_while_pages_are_under_way_is_found():
    served = photos(200)

    def answer(request):
        if request.query["_page"] == "5" and len(served) == 200:
            del served[20]
        return json_pages(served)(request)

    with Remote(answer) as remote, pytest.raises(RunFailed, match="X-Total-Count went from 200 to 199"):
        list(at_once(api(remote)))


def test_offsets_that_turn_out_otherwise_are_asked_for_one_after_the_other():
    served = photos(95)

    def answer(request):
        # From the third page on the remote gives fewer than it is asked for.
        start = int(request.query["offset"])
        found = served[start : start + (10 if start < 20 else 7)]
        body = {"found": found, "total": 95, "more": start + len(found) < 95}
        return Reply(body=json.dumps(body).encode())

    pagination = replace(OFFSETS, total_header=None, total=("total",), has_more=("more",))
    with Remote(answer) as remote:
        whole = list(at_once(api(remote, pagination, records=("found",))))
    assert [bytes(record) for page in whole for record in page.records] == json_records(served)
    # Those that were sent ahead for nothing; not as many for every page.
    assert len(remote.requests) <= len(whole) + 5


def json_records(records):
    return [json.dumps(record).encode() for record in records]


def test_a_remote_that_gives_less_than_it_is_asked_for_from_the_start_is_never_guessed():
    with Remote(offsets(photos(40), cap=7)) as remote:
        assert sum(len(page.records) for page in at_once(api(remote, OFFSETS))) == 40
    assert [int(query["offset"]) for query in remote.queries] == [0, 7, 14, 21, 28, 35]


def test_memory_bounds_what_is_under_way():
    crowd = Crowd(json_pages(photos(200)))
    with Remote(crowd) as remote:
        size = len(json_list(photos(10)))
        assert len(list(at_once(api(remote), max_bytes=size))) == 20
    assert crowd.most == 1


def test_a_budget_is_kept_by_all_of_them(settings):
    arrived = []

    def answer(request):
        arrived.append(time.monotonic())
        return json_pages(photos(120))(request)

    window = 0.3
    rate = Rate(name="concurrency", requests=4, within=timedelta(seconds=window))
    with Remote(answer) as remote:
        assert len(list(at_once(api(remote, rates=(rate,))))) == 12
    arrived.sort()
    assert all(later - earlier >= window for earlier, later in zip(arrived, arrived[4:], strict=False))


@pytest.fixture
def sync(monkeypatch):
    def sync(source, **feed):
        monkeypatch.setattr("photos.feeds.PHOTOS", replace(PHOTOS, source=source, **feed))
        return pipeline.run_here("photos").summary

    return sync


@pytest.mark.django_db(transaction=True)
def test_a_run_asks_at_once_within_the_room_of_the_host(sync, settings):
    settings.PARTS_PER_HOST = 3
    crowd = Crowd(json_pages(photos(400)), meet=3)
    with Remote(crowd) as remote:
        summary = sync(api(remote, concurrency=8))
    assert (summary["state"], summary["read"], summary["pages"], crowd.most) == ("succeeded", 400, 40, 3)


@pytest.mark.django_db(transaction=True)
def test_ranges_are_read_by_several_requests_each(sync):
    crowd = Crowd(json_pages(photos(330)))
    with Remote(crowd) as remote:
        summary = sync(api(remote), parts=PageRanges(pages=7))
        pages = sorted(int(query["_page"]) for query in remote.queries)
    assert (summary["state"], summary["read"]) == ("succeeded", 330)
    assert pages == sorted([1, *range(1, 34)])


@pytest.mark.django_db(transaction=True)
def test_unchanged_pages_are_skipped_as_ever(sync):
    with Remote(json_pages(photos(100))) as remote:
        source = api(remote)
        sync(source, skip_unchanged_pages=True)
        summary = sync(source, skip_unchanged_pages=True)
    assert (summary["pages_skipped"], summary["unchanged"], Photo.objects.count()) == (10, 100, 100)


def test_several_requests_at_once_take_no_more_memory_than_one():
    alone = Allowance.of(replace(PHOTOS, source=replace(PHOTOS.source, concurrency=1)))
    together = Allowance.of(replace(PHOTOS, source=replace(PHOTOS.source, concurrency=8)))
    chunk = PHOTOS.chunk_rows * PHOTOS.chunk_bytes
    assert (alone.open, alone.held_bytes) == (chunk, 0)
    assert together.open + together.held_bytes * PHOTOS.chunk_rows == chunk
    # What one transaction takes is the same, and there is room for more than that beside what the source holds.
    assert alone.transaction == together.transaction == chunk * 3 // 5 < together.open < chunk


def test_windows_that_are_halved_are_read_at_once():
    records = photos(60)

    def answer(request):
        since, until = (datetime.fromisoformat(request.query[name]).hour for name in ("since", "until"))
        found, page = records[since * 10 : until * 10], int(request.query["_page"]) - 1
        return Reply(body=json_list(found[page * 10 : page * 10 + 10]), headers={"X-Total-Count": str(len(found))})

    windows = Windows(since="since", until="until", step=timedelta(hours=1), start=timedelta(1), most=35)
    share = {"since": "2026-01-01T00:00:00+00:00", "until": "2026-01-01T06:00:00+00:00"}
    with Remote(answer) as remote:
        source = windows.bind(api(remote), share)
        assert told(at_once(source)) == told(source.pages(None))


# Children


def shelves(request):
    if request.path == "/shelves":
        page = int(request.query["page"])
        return Reply(body=json.dumps([{"id": n} for n in range(page * 5, page * 5 + (5 if page < 3 else 2))]).encode())
    shelf, page = int(request.path.split("/")[2]), int(request.query["page"])
    return Reply(body=json_list([{"shelf": shelf, "n": n} for n in range(shelf % 5)][page * 2 : page * 2 + 2]))


def children(remote, **options):
    parents = JsonApi(url=f"{remote.url}/shelves", pagination=PageNumber(param="page", size=5, start=0))
    books = JsonApi(url=f"{remote.url}/shelves/{{parent}}/books", pagination=PageNumber(param="page", size=2, start=0))
    return ForEach(**{"parents": parents, "field": ("id",), "source": books, "concurrency": 3, **options})


@pytest.mark.parametrize("values", [None, [3, 9, 4, 0, 12]])
def test_children_are_those_of_one_parent_after_the_other(values):
    with Remote(shelves) as remote:
        source = children(remote) if values is None else children(remote).of(values)
        whole = told(source.pages(None))
        assert told(at_once(source)) == whole
        for number in range(1, len(whole), 3):
            cursor = json.loads(json.dumps(whole[number - 1][2]))
            assert told(at_once(source, cursor)) == whole[number:]


def test_children_of_several_parents_are_asked_for_at_the_same_time():
    crowd = Crowd(shelves, meet=3)
    with Remote(crowd) as remote:
        source = replace(children(remote), source=replace(children(remote).source, pagination=SinglePage()))
        source = replace(source, source=replace(source.source, params={"page": "0"}))
        assert len(list(at_once(source.of(range(10))))) == 10
    assert crowd.most == 3


# Files


@contextmanager
def folder(path, *, files=9, rows=20):
    for number in range(files):
        lines = "".join(f"{number * 1000 + row},a\n" for row in range(rows))
        (path / f"{number}.csv").write_text(f"code,name\n{lines}")
    yield Files(place=Disk(folder=path), pattern="*.csv", format=Csv(page_bytes=60), order="name", concurrency=4)


def test_files_are_those_of_one_after_the_other(tmp_path):
    with folder(tmp_path) as source:
        bound = source.for_feed(remembering.Facts())
        whole = told(bound.pages(None))
        assert told(at_once(bound)) == whole
        for number in range(1, len(whole), 5):
            assert told(at_once(bound, json.loads(json.dumps(whole[number - 1][2])))) == whole[number:]
    assert [later - earlier for earlier, later in pairwise(number for number, _, _ in whole)] == [1] * (len(whole) - 1)


def test_a_file_that_fails_fails_in_its_place(tmp_path):
    with folder(tmp_path) as source:
        (tmp_path / "2.csv").write_text('code,name\n1,"open\n')
        pages = at_once(source.for_feed(remembering.Facts()))
        files = []
        with pytest.raises(RunFailed, match=r"2\.csv"):
            files.extend(page.file.name for page in pages if page.file)
    assert files == ["0.csv", "1.csv"]


def test_a_place_that_is_away_for_one_of_them_is_tried_again_later(tmp_path):
    with folder(tmp_path) as source:
        pages = at_once(source.for_feed(remembering.Facts()))
        next(pages)
        # Five may be open by now, and one that is open can be read on.
        (tmp_path / "8.csv").unlink()
        with pytest.raises(RetryLater, match=r"8\.csv"):
            list(pages)


# Secrets


@pytest.mark.parametrize("kind", ["pages", "children"])
def test_what_was_sent_is_not_said_whichever_thread_finds_the_error(kind):
    secret = "s3cr3t-0f-the-header"

    def answer(request):
        if request.path == "/shelves" or request.query.get("_page") == "1":
            return shelves(request) if kind == "children" else json_pages(photos(90))(request)
        return Reply(body=f"you sent {request.headers['x-api-key']}".encode())

    with Remote(answer) as remote:
        headers = {"X-Api-Key": secret}
        books = children(remote).source
        source = api(remote, headers=headers)
        if kind == "children":
            source = children(remote, source=replace(books, headers=headers))
        with pytest.raises(RunFailed, match=r"not_json: .*you sent …") as raised:
            list(at_once(source))
    assert secret not in f"{raised.value}{raised.value.message}"


@pytest.mark.parametrize(
    "make",
    [
        lambda: JsonApi(url="", pagination=COUNTED, concurrency=0),
        lambda: JsonApi(url="", pagination=replace(COUNTED, total_header=None), concurrency=2),
        lambda: JsonApi(url="", pagination=SinglePage(), concurrency=2),
        lambda: JsonApi(url="", pagination=NextCursor(param="a", cursor=("b",)), concurrency=2),
        lambda: ForEach(parents=None, field=("id",), source=JsonApi(url="", pagination=COUNTED, concurrency=2)),
        lambda: ForEach(parents=None, field=("id",), source=JsonApi(url="", pagination=SinglePage()), concurrency=0),
        lambda: Files(place=Disk(folder="."), format=Csv(), concurrency=0),
    ],
)
def test_what_cannot_be_asked_for_at_once_is_a_configuration_error(make):
    with pytest.raises(ConfigurationError, match="concurrency"):
        make()
