"""The sample API over real HTTP on loopback; it runs as its own process, as operators start it."""

import json
import re
import urllib.request

import pytest

from photos.sample_api import PageCache, photo
from photos.sample_records import Collection
from tests.photos.sample_server import PHOTOS, TIMEOUT_SECONDS, Server, sample_api

# Records


def test_a_record_depends_on_its_id_alone_and_stays_the_same_for_ever() -> None:
    # Feeds, snapshots and benchmarks compare runs of different days: a change of these values is a change of the data.
    assert photo(1) == {
        "albumId": 1,
        "id": 1,
        "title": "dolores in dicta unde",
        "url": "https://via.placeholder.com/600/aa1edc",
        "thumbnailUrl": "https://via.placeholder.com/150/aa1edc",
    }
    assert photo(500_000) == {
        "albumId": 10000,
        "id": 500000,
        "title": "facere non velit iusto",
        "url": "https://via.placeholder.com/600/8a539d",
        "thumbnailUrl": "https://via.placeholder.com/150/8a539d",
    }


@pytest.mark.parametrize(("photo_id", "album_id"), [(1, 1), (50, 1), (51, 2), (100, 2), (101, 3), (5000, 100)])
def test_an_album_has_fifty_photos(photo_id: int, album_id: int) -> None:
    assert photo(photo_id)["albumId"] == album_id


def test_titles_differ_and_fit_the_column() -> None:
    titles = [str(photo(photo_id)["title"]) for photo_id in range(1, 5001)]
    assert len(set(titles)) > 4_900
    assert max(map(len, titles)) <= 255
    assert all(re.fullmatch("[a-z]+( [a-z]+)+", title) for title in titles)


def test_two_servers_give_the_same_bytes(server: Server) -> None:
    with sample_api("--photos", str(PHOTOS), "--cache-mb", "0") as other:
        response, body = server.get("/photos")
        again, other_body = other.get("/photos")
    assert body == other_body
    assert response.headers["ETag"] == again.headers["ETag"]


# Listings


def test_without_parameters_everything_is_listed(server: Server) -> None:
    response, body = server.get("/photos")
    assert json.loads(body) == [photo(photo_id) for photo_id in range(1, 124)]
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert response.headers["Content-Length"] == str(len(body))
    assert response.headers["Link"] is None
    assert response.headers["X-Total-Count"] is None


def test_a_listing_is_laid_out_as_json_server_does(server: Server) -> None:
    _, body = server.get("/photos?_page=2&_limit=60")
    assert body.decode() == json.dumps([photo(photo_id) for photo_id in range(61, 121)], indent=2)


def test_a_page_without_limit_has_ten_records(server: Server) -> None:
    assert server.json("/photos?_page=2") == [photo(photo_id) for photo_id in range(11, 21)]


def test_a_limit_without_page_gives_the_first_records(server: Server) -> None:
    response, body = server.get("/photos?_limit=3")
    assert json.loads(body) == [photo(1), photo(2), photo(3)]
    assert response.headers["X-Total-Count"] == "123"
    assert response.headers["Link"] is None


def test_the_last_page_has_the_rest(server: Server) -> None:
    response, body = server.get("/photos?_page=13&_limit=10")
    assert json.loads(body) == [photo(121), photo(122), photo(123)]
    assert response.headers["X-Total-Count"] == "123"


@pytest.mark.parametrize("page", ["14", "15", "999999999999999999"])
def test_a_page_beyond_the_end_is_empty(server: Server, page: str) -> None:
    response, body = server.get(f"/photos?_page={page}&_limit=10")
    assert (response.status, body) == (200, b"[]")
    assert response.headers["X-Total-Count"] == "123"
    assert response.headers["Link"] == ""


@pytest.mark.parametrize(
    ("page", "links"),
    [
        (1, [("first", 1), ("next", 2), ("last", 13)]),
        (2, [("first", 1), ("prev", 1), ("next", 3), ("last", 13)]),
        (12, [("first", 1), ("prev", 11), ("next", 13), ("last", 13)]),
        (13, [("first", 1), ("prev", 12), ("last", 13)]),
    ],
)
def test_the_link_header_is_written_as_json_server_does(
    server: Server, page: int, links: list[tuple[str, int]]
) -> None:
    response, _ = server.get(f"/photos?_page={page}&_limit=10")
    assert response.headers["Link"] == ", ".join(
        f'<http://{server.address}/photos?_page={number}&_limit=10>; rel="{rel}"' for rel, number in links
    )


def test_links_keep_the_other_parameters_and_the_name_the_client_used(server: Server) -> None:
    response, _ = server.get("/photos?x_page=7&_limit=100&_page=1&q=a%20b", Host="photos.example:80")
    assert response.headers["Link"] == (
        '<http://photos.example:80/photos?x_page=7&_limit=100&_page=1&q=a%20b>; rel="first", '
        '<http://photos.example:80/photos?x_page=7&_limit=100&_page=2&q=a%20b>; rel="next", '
        '<http://photos.example:80/photos?x_page=7&_limit=100&_page=2&q=a%20b>; rel="last"'
    )


def test_the_only_page_has_an_empty_link_header(server: Server) -> None:
    response, body = server.get("/photos?_page=1&_limit=123")
    assert response.headers["Link"] == ""
    assert len(json.loads(body)) == 123


def test_following_the_links_visits_every_photo_once(server: Server) -> None:
    url: str | None = f"http://{server.address}/photos?_page=1&_limit=7"
    ids: list[int] = []
    while url:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
            ids += [record["id"] for record in json.load(response)]
            following = re.search('<([^>]+)>; rel="next"', response.headers["Link"])
            url = following and following[1]
    assert ids == list(range(1, 124))


def test_albums_are_listed_and_found_by_id(server: Server) -> None:
    response, body = server.get("/albums?_page=1&_limit=2")
    albums = json.loads(body)
    assert response.headers["X-Total-Count"] == "3"
    assert [(record["userId"], record["id"]) for record in albums] == [(1, 1), (1, 2)]
    assert body.decode() == json.dumps(albums, indent=2)
    assert server.json("/albums/2") == albums[1]
    assert server.get("/albums/4")[0].status == 404


def test_a_photo_is_found_by_id(server: Server) -> None:
    response, body = server.get("/photos/123")
    assert json.loads(body) == photo(123)
    assert response.headers["ETag"]


@pytest.mark.parametrize(
    "path", ["/photos/0", "/photos/124", "/photos/abc", "/photos/-1", "/photos/1/2", "/nope", "/", "//photos"]
)
def test_what_does_not_exist_is_an_empty_object(server: Server, path: str) -> None:
    response, body = server.get(path)
    assert (response.status, body) == (404, b"{}")


def test_more_records_than_are_built_at_once_are_streamed() -> None:
    with sample_api("--photos", "10001") as server:
        response, body = server.get("/photos")
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert body.decode() == json.dumps([photo(photo_id) for photo_id in range(1, 10_002)], indent=2)
        old = server.send(b"GET /photos HTTP/1.0\r\n\r\n")
        assert old.partition(b"\r\n\r\n")[2] == body
        whole, _ = server.get("/photos?_page=1&_limit=10000")
        assert whole.headers["Content-Length"]


def test_an_empty_collection_has_empty_pages() -> None:
    with sample_api("--photos", "0") as server:
        assert server.json("/photos") == []
        response, body = server.get("/photos?_page=1")
        assert (body, response.headers["X-Total-Count"], response.headers["Link"]) == (b"[]", "0", "")


# The cache of pages


def counted_collection(written: list[int]) -> Collection:
    def text(number: int) -> str:
        written.append(number)
        return "x" * 9_000

    return Collection(total=100, record=photo, text=text)


def test_a_page_asked_for_again_is_not_written_again() -> None:
    written: list[int] = []
    collection, cache = counted_collection(written), PageCache(limit_bytes=100_000)
    first = cache.page("/photos", collection, range(1, 3))
    assert cache.page("/photos", collection, range(1, 3)) == first
    assert cache.page("/albums", collection, range(1, 3)) == first
    assert written == [1, 2, 1, 2]


def test_the_page_not_asked_for_longest_is_forgotten_first() -> None:
    written: list[int] = []
    collection, cache = counted_collection(written), PageCache(limit_bytes=25_000)  # two pages of 9.5 kB
    for number in (1, 2, 1, 3, 1, 2):
        cache.page("/photos", collection, range(number, number + 1))
    assert written == [1, 2, 3, 2]


def test_a_cache_of_nothing_writes_every_page() -> None:
    written: list[int] = []
    collection, cache = counted_collection(written), PageCache(limit_bytes=0)
    for _ in range(2):
        body, _ = cache.page("/photos", collection, range(1, 2))
        assert len(body) == 9_004
    assert written == [1, 1]


# Conditional requests


def test_the_same_page_is_not_sent_twice(server: Server) -> None:
    first, _ = server.get("/photos?_page=2")
    tag = first.headers["ETag"]
    for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        response, body = server.get("/photos?_page=2", If_None_Match=known)
        assert (response.status, body) == (304, b"")
        assert response.headers["ETag"] == tag
        assert response.headers["Link"] == first.headers["Link"]
        assert response.headers["X-Total-Count"] == "123"


def test_another_page_is_sent_although_a_tag_is_known(server: Server) -> None:
    tag = server.get("/photos?_page=2")[0].headers["ETag"]
    response, body = server.get("/photos?_page=3", If_None_Match=tag)
    assert response.status == 200
    assert len(json.loads(body)) == 10
    assert response.headers["ETag"] != tag
