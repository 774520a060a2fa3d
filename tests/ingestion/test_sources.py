"""JsonApi against a real server: pages whole and in order, resumed anywhere, and loops found out."""

import itertools
import json

import pytest

from ingestion.errors import ConfigurationError, RunFailed
from ingestion.pagination import PageNumber, SinglePage
from ingestion.sources import JsonApi
from tests.ingestion.json_api import PAGES, api, failure, read
from tests.remote import Remote, Reply, in_turn, json_list, json_pages

COUNTED = PageNumber(param="_page", size_param="_limit", size=10, total_header="X-Total-Count")
PHOTOS = [{"id": number} for number in range(1, 26)]


# Pages


def test_reads_every_page_in_order():
    with Remote(json_pages(PHOTOS)) as remote:
        pages = list(api(remote).pages(None))
    assert [page.number for page in pages] == [1, 2, 3]
    assert [len(page.records) for page in pages] == [10, 10, 5]
    assert json_list(bytes(record) for page in pages for record in page.records) == json_list(PHOTOS)
    assert [request["_page"] for request in remote.queries] == ["1", "2", "3"]
    assert {request["_limit"] for request in remote.queries} == {"10"}
    assert [page.following is None for page in pages] == [False, False, True]
    assert [page.size_bytes for page in pages] == [len(json_list(PHOTOS[at : at + 10])) for at in (0, 10, 20)]


def test_sends_the_parameters_and_headers_of_the_feed_beside_the_url_s_own():
    with Remote(json_pages(PHOTOS)) as remote:
        read(api(remote, url=f"{remote.url}/photos?key=1", params={"album": "7"}, headers={"X-Team": "blue"}))
    assert remote.queries[1] == {"key": "1", "album": "7", "_page": "2", "_limit": "10"}
    assert {request.headers["x-team"] for request in remote.requests} == {"blue"}
    assert {request.path for request in remote.requests} == {"/photos"}


def test_the_url_is_asked_for_when_it_is_needed():
    def unset():
        raise ConfigurationError("PHOTOS_API_URL is not set")

    source = JsonApi(url=unset, pagination=SinglePage())
    with pytest.raises(ConfigurationError, match="PHOTOS_API_URL"):
        read(source)
    with Remote(Reply(body=b"[]")) as remote:
        assert read(api(remote, url=lambda: remote.url, pagination=SinglePage())) == [[]]


def test_an_empty_collection_is_one_empty_page():
    with Remote(json_pages([])) as remote:
        assert read(api(remote)) == [[]]
        assert read(api(remote, pagination=COUNTED)) == [[]]
    assert len(remote.requests) == 2


def test_a_server_that_caps_the_page_size_is_read_to_its_end():
    with Remote(json_pages(PHOTOS, max_size=4, total_header=None)) as remote:
        assert read(api(remote)) == [PHOTOS[at : at + 4] for at in range(0, 25, 4)] + [[]]
    with Remote(json_pages(PHOTOS, max_size=4)) as remote:
        assert read(api(remote, pagination=COUNTED)) == [PHOTOS[at : at + 4] for at in range(0, 25, 4)]


def test_pages_are_fetched_one_at_a_time_as_they_are_asked_for():
    def endless(request):
        return Reply(body=json_list([{"id": f"{request.query['_page']}-{n}"} for n in range(10)]))

    with Remote(endless) as remote:
        pages = api(remote).pages(None)
        assert len(remote.requests) == 0
        assert [page.number for page in itertools.islice(pages, 3)] == [1, 2, 3]
        assert len(remote.requests) == 3
        pages.close()


def test_a_cursor_is_json_without_secrets():
    with Remote(json_pages(PHOTOS)) as remote:
        first = next(api(remote, url=f"{remote.url}/?key=hush", headers={"X-Key": "hush"}).pages(None))
    assert json.loads(json.dumps(first.following)) == first.following
    assert "hush" not in json.dumps(first.following)
    assert remote.url not in json.dumps(first.following)


@pytest.mark.parametrize("pagination", [PAGES, COUNTED], ids=["plain", "counted"])
@pytest.mark.parametrize("options", [{}, {"max_size": 3}, {"max_size": 10}], ids=str)
def test_resuming_at_any_cursor_gives_the_rest(pagination, options):
    with Remote(json_pages(PHOTOS, **options)) as remote:
        source = api(remote, pagination=pagination)
        pages = list(source.pages(None))
        for number, page in enumerate(pages[:-1], start=1):
            cursor = json.loads(json.dumps(page.following))
            rest = list(source.pages(cursor))
            assert [later.number for later in rest] == list(range(number + 1, len(pages) + 1))
            assert [later.following for later in rest] == [later.following for later in pages[number:]]
            assert [list(map(bytes, p.records)) for p in rest] == [list(map(bytes, p.records)) for p in pages[number:]]


# Loops


def pages_in_rounds(bodies):
    """Serve these pages over and over."""
    return lambda request: Reply(body=bodies[(int(request.query["_page"]) - 1) % len(bodies)])


def full_pages(count):
    return [json_list([{"id": page * 10 + n} for n in range(10)]) for page in range(count)]


def test_a_server_that_ignores_the_page_number_is_found_out_at_once():
    with Remote(pages_in_rounds(full_pages(1))) as remote:
        failed = failure(api(remote))
    assert failed.code == "pagination_loop"
    assert "page 2 has the same records as page 1" in str(failed)
    assert len(remote.requests) == 2


@pytest.mark.parametrize("length", [2, 3, 5, 8, 13])
def test_a_loop_of_any_length_is_found_within_three_rounds(length):
    with Remote(pages_in_rounds(full_pages(length))) as remote:
        failed = failure(api(remote))
    assert failed.code == "pagination_loop"
    assert len(remote.requests) <= 3 * length + 1


def test_a_loop_is_found_after_a_resume():
    with Remote(pages_in_rounds(full_pages(3))) as remote:
        source, cursor, found = api(remote), None, ""
        for _ in range(10):
            try:
                cursor = next(source.pages(cursor)).following
            except RunFailed as failed:
                found = failed.code
                break
    assert found == "pagination_loop"


def test_what_is_around_the_records_does_not_hide_a_loop():
    def answer(request):
        body = {"asked": request.query["_page"], "photos": [{"id": n} for n in range(10)]}
        return Reply(body=json.dumps(body).encode())

    with Remote(answer) as remote:
        assert failure(api(remote, records=("photos",))).code == "pagination_loop"


def test_a_last_page_served_again_and_again_is_a_loop():
    bodies = full_pages(2)
    with Remote(in_turn(Reply(body=bodies[0]), Reply(body=bodies[1]))) as remote:
        source = api(remote)
        pages = source.pages(None)
        assert [next(pages).number, next(pages).number] == [1, 2]
        with pytest.raises(RunFailed, match="pagination_loop"):
            next(pages)


def test_more_pages_than_the_cap_fail():
    with Remote(json_pages(PHOTOS)) as remote:
        assert failure(api(remote, max_pages=2)).code == "too_many_pages"
        assert len(read(api(remote, max_pages=3))) == 3


def test_contradicting_totals_fail_with_the_pages_before_kept():
    lying = {2: Reply(body=json_list(PHOTOS[10:20]), headers={"X-Total-Count": "24"})}
    with Remote(json_pages(PHOTOS, overrides=lying)) as remote:
        pages = api(remote, pagination=COUNTED).pages(None)
        assert len(next(pages).records) == 10
        with pytest.raises(RunFailed, match="went from 25 to 24"):
            next(pages)
