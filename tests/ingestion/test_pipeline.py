"""The whole job in one process: a real remote on loopback, the photos feed, real commits."""

import json
import threading

import psycopg2
import pytest
from django.db import connection

from ingestion import pipeline
from ingestion.models import Part, Reject, Run
from photos.models import Photo
from photos.sample_api import photo
from tests.ingestion.catalog import counts
from tests.remote import Raw, Remote, Reply, in_turn, json_list, json_pages

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("tried_often")]

NAUGHTY = [
    "tab\there",
    "new\nline",
    "carriage\rreturn",
    "back\\slash",
    "\"quoted\" 'twice'",
    r"\N",
    r"\.",
    "🦔 é",
    "\\",
]


def photos(number, **changes):
    return [photo(n) | changes for n in range(1, number + 1)]


def test_loads_every_field_of_every_record(sync):
    with Remote(json_pages(photos(2500))) as remote:
        summary = sync(remote)
    assert (summary["state"], summary["pages"], summary["error"]) == ("succeeded", 3, None)
    assert counts(summary) == {"read": 2500, "inserted": 2500}
    for n, stored in enumerate(Photo.objects.order_by("remote_id"), start=1):
        expected = photo(n)
        assert stored.raw_data == expected
        assert [stored.remote_id, stored.album_id] == [expected["id"], expected["albumId"]]
        assert [stored.title, stored.url, stored.thumbnail_url] == [
            expected[name] for name in ("title", "url", "thumbnailUrl")
        ]
    assert n == 2500


def test_a_second_run_writes_no_tuple(sync):
    with Remote(json_pages(photos(2500))) as remote:
        sync(remote)
        before = written_tuples()
        summary = sync(remote)
    assert counts(summary) == {"read": 2500, "unchanged": 2500}
    assert written_tuples() == before == (2500, 0, 0, 0)


def written_tuples():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT n_tup_ins, n_tup_upd, n_tup_del, n_dead_tup FROM pg_stat_user_tables WHERE relname = 'photos'"
        )
        total = cursor.fetchone()
    since = written_tuples.start
    return tuple(now - then for now, then in zip(total, since, strict=True))


@pytest.fixture(autouse=True)
def _statistics_start():
    # What tests before rolled back is still in the table, until it is truncated, and autovacuum may count it meanwhile.
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE photos")
    written_tuples.start = (0, 0, 0, 0)
    inserted, updated, deleted, _ = written_tuples()
    written_tuples.start = (inserted, updated, deleted, 0)


def test_a_changed_record_is_updated_and_its_updated_time_moves(sync):
    with Remote(json_pages(photos(20))) as remote:
        sync(remote)
    before = dict(Photo.objects.values_list("remote_id", "updated"))
    changed = photos(20)
    changed[6]["title"] = "changed"
    with Remote(json_pages(changed)) as remote:
        assert counts(sync(remote)) == {"read": 20, "updated": 1, "unchanged": 19}
    after = dict(Photo.objects.values_list("remote_id", "updated"))
    assert {key for key in after if after[key] != before[key]} == {7}
    assert Photo.objects.get(remote_id=7).created == before[7]


@pytest.mark.parametrize("title", NAUGHTY)
def test_naughty_titles_come_out_as_they_went_in(sync, title):
    records = photos(12)
    records[4]["title"] = title
    with Remote(json_pages(records)) as remote:
        assert counts(sync(remote)) == {"read": 12, "inserted": 12}
    stored = Photo.objects.get(remote_id=5)
    assert (stored.title, stored.raw_data["title"]) == (title, title)


def test_bad_records_are_quarantined_with_reason_and_bytes_and_the_rest_loads(sync):
    records = photos(30)
    records[3]["title"] = "nul \x00"
    records[10]["title"] = "x" * 300
    del records[20]["id"]
    with Remote(json_pages(records)) as remote:
        summary = sync(remote)
    assert summary["state"] == "succeeded"
    assert counts(summary) == {"read": 30, "inserted": 27, "rejected": 3}
    rejects = Reject.objects.order_by("position")
    assert list(rejects.values_list("reason", "field", "page", "position", "key")) == [
        ("nul_character", "title", 1, 3, "4"),
        ("too_long", "title", 1, 10, "11"),
        ("missing_key", "remote_id", 1, 20, ""),
    ]
    assert [json.loads(bytes(reject.raw)) for reject in rejects] == [records[3], records[10], records[20]]
    assert Photo.objects.count() == 27


def test_the_last_record_of_a_key_wins_within_a_chunk(sync):
    records = [*photos(15), photo(3) | {"title": "again"}, photo(3) | {"title": "and again"}]
    with Remote(json_pages(records)) as remote:
        assert counts(sync(remote)) == {"read": 17, "inserted": 15, "duplicates": 2}
    assert Photo.objects.get(remote_id=3).title == "and again"


def test_an_empty_collection_succeeds_with_nothing(sync):
    with Remote(json_pages([])) as remote:
        summary = sync(remote)
    assert (summary["state"], counts(summary)) == ("succeeded", {})


def test_a_page_that_fails_three_times_and_then_works_does_not_matter(sync):
    page = Reply(body=json_list(photos(2000)[1000:]), headers={"X-Total-Count": "2000"})
    flaky = in_turn(Reply(500), Reply(500), Reply(500), page)
    with Remote(json_pages(photos(2000), overrides={2: flaky})) as remote:
        summary = sync(remote)
    assert (summary["state"], counts(summary)) == ("succeeded", {"read": 2000, "inserted": 2000})
    assert [query["_page"] for query in remote.queries] == ["1", "2", "2", "2", "2"]


def test_a_page_that_never_works_fails_the_run_and_what_was_committed_stays(sync):
    with Remote(json_pages(photos(3500), overrides={3: Reply(500)})) as remote:
        summary = sync(remote)
        assert summary["state"] == "failed"
        assert "500 Internal Server Error (5 tries)" in summary["error"]
        assert Photo.objects.count() == 2000
        assert Part.objects.get().cursor["pages"] == 2
    with Remote(json_pages(photos(3500))) as remote:
        summary = sync(remote)
    assert (summary["state"], counts(summary)) == ("succeeded", {"read": 3500, "inserted": 1500, "unchanged": 2000})


def test_a_short_answer_is_never_taken_for_a_whole_page(sync):
    body = json_list(photos(1000))
    cut = Raw([b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body[:-400]])
    whole = Reply(body=body, headers={"X-Total-Count": "1000"})
    with Remote(in_turn(cut, whole)) as remote:
        assert counts(sync(remote)) == {"read": 1000, "inserted": 1000}


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(404), "http_status: GET http://127.0.0.1:"),
        (Reply(200, b"<html>sign in</html>", {"Content-Type": "text/html"}), "not_json: "),
        (Reply(200, b""), "not_json: empty body with status 200"),
        (Reply(200, b'{"error": "no"}'), "shape: expected a list of records"),
    ],
)
def test_an_unusable_answer_fails_the_run_and_says_what_came(sync, reply, error):
    with Remote(json_pages(photos(3500), overrides={3: reply})) as remote:
        summary = sync(remote)
    assert summary["state"] == "failed"
    assert summary["error"].startswith(error)
    assert Photo.objects.count() == 2000


def test_the_same_page_twice_fails_the_run_instead_of_looping(sync):
    with Remote(Reply(body=json_list(photos(1000)))) as remote:
        summary = sync(remote)
    assert (summary["state"], summary["read"]) == ("failed", 1000)
    assert summary["error"].startswith("pagination_loop: page 2")


def test_too_many_rejects_fail_the_run_and_roll_their_chunk_back(sync):
    records = photos(1000)
    for record in records[:150]:
        record["title"] = "x" * 300
    with Remote(json_pages(records)) as remote:
        summary = sync(remote)
    assert summary["state"] == "failed"
    assert summary["error"].startswith(
        "reject_limit: 150 of 1000 records were rejected; in the last chunk: 150 × too_long"
    )
    assert (Photo.objects.count(), Reject.objects.count(), Part.objects.get().cursor) == (0, 0, None)


def test_a_page_rejected_whole_fails_the_run(sync):
    with Remote(json_pages([*photos(1000), *photos(50, title=7.5)])) as remote:
        summary = sync(remote)
    assert summary["error"].startswith("reject_limit: all 50 records of page 2 were rejected: 50 × wrong_type in title")
    committed = (Part.objects.get().cursor or {"pages": 0})["pages"]
    assert (Photo.objects.count(), committed < 2) == (1000 * committed, True)


@pytest.fixture
def album_check():
    """Add a rule that cleaning does not know: the database has the last word."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE photos ADD CONSTRAINT small_album CHECK (album_id < 1000)")
    yield
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE photos DROP CONSTRAINT small_album")


@pytest.mark.usefixtures("album_check")
@pytest.mark.parametrize("loaded_before", [False, True])
def test_records_that_the_database_refuses_are_found_and_the_rest_loads(sync, loaded_before):
    records = photos(2000)
    if loaded_before:
        with Remote(json_pages(records[::2])) as remote:
            sync(remote)
    for position in (0, 700, 701, 1999):
        records[position] |= {"albumId": 5000, "title": "changed"}
    with Remote(json_pages([*records, photo(3) | {"title": "again"}])) as remote:
        summary = sync(remote)
    assert (summary["state"], summary["rejected"]) == ("succeeded", 4)
    assert sum(summary[name] for name in ("inserted", "updated", "unchanged", "duplicates")) == 1997
    assert list(Reject.objects.order_by("key").values_list("reason", "field", "page", "position", "key")) == [
        ("check_violation", "small_album", 1, 0, "1"),
        ("check_violation", "small_album", 2, 999, "2000"),
        ("check_violation", "small_album", 1, 700, "701"),
        ("check_violation", "small_album", 1, 701, "702"),
    ]
    assert Photo.objects.get(remote_id=3).title == "again"
    assert Photo.objects.filter(title="changed").count() == 0


@pytest.mark.usefixtures("album_check")
def test_a_database_that_refuses_too_much_fails_the_run(sync):
    with Remote(json_pages(photos(1000, albumId=1000))) as remote:
        summary = sync(remote)
    assert summary["state"] == "failed"
    assert summary["error"].startswith(
        "reject_limit: the database refused more than 100 records of one chunk: 101 × check"
    )
    assert Photo.objects.count() == 0


def test_a_missing_column_fails_the_run_with_its_name(sync):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE photos RENAME COLUMN title TO heading")
    try:
        with Remote(json_pages(photos(10))) as remote:
            summary = sync(remote)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE photos RENAME COLUMN heading TO title")
    assert summary["error"].startswith('database error 42703: column "title"')


def test_a_lock_held_for_a_while_is_waited_out(sync, monkeypatch):
    monkeypatch.setattr("ingestion.loaders.copying.LOCK_TIMEOUT", "100ms")
    other = psycopg2.connect(**connection.get_connection_params())
    with Remote(json_pages(photos(10))) as remote, other.cursor() as cursor:
        cursor.execute("LOCK TABLE photos")
        release = threading.Timer(0.5, other.rollback)
        release.start()
        summary = sync(remote)
        release.join()
    other.close()
    assert counts(summary) == {"read": 10, "inserted": 10}


def test_a_connection_killed_in_mid_run_is_replaced(sync):
    """pg_terminate_backend while the second page is fetched: the next chunk finds a dead connection."""
    connection.ensure_connection()
    pid = connection.connection.info.backend_pid

    def kill(request):
        other = psycopg2.connect(**connection.get_connection_params())
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
        other.close()
        return json_pages(photos(2000))(request)

    with Remote(json_pages(photos(2000), overrides={2: kill})) as remote:
        assert counts(sync(remote)) == {"read": 2000, "inserted": 2000}


def test_a_dry_run_changes_nothing_and_shows_what_would_change(settings):
    with Remote(json_pages(photos(30))) as remote:
        settings.PHOTOS_API_URL = remote.url
        pipeline.run_here("photos", limit=20)
        Photo.objects.filter(remote_id=4).update(title="old")
        report = pipeline.run_here("photos", dry_run=True)
    assert counts(report.summary) == {"read": 30, "inserted": 10, "updated": 1, "unchanged": 19}
    assert [difference.key["remote_id"] for difference in report.differences] == [4, *range(21, 31)]
    assert report.differences[0].before["title"] == "old"
    assert report.differences[0].after["title"] == photo(4)["title"]
    assert (Photo.objects.count(), Run.objects.count()) == (20, 1)
    assert Photo.objects.get(remote_id=4).title == "old"


def test_limit_reads_no_more_records_than_asked(sync):
    with Remote(json_pages(photos(3500))) as remote:
        assert counts(sync(remote, limit=1500)) == {"read": 1500, "inserted": 1500}
    assert Photo.objects.order_by("-remote_id")[0].remote_id == 1500
