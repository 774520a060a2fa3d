"""Rules for whole records, and coercions, from the remote to the run."""

from dataclasses import replace

import pytest

from ingestion import pipeline
from ingestion.cleaning import text
from ingestion.errors import RecordRejected
from ingestion.models import FeedState, Run
from photos import feeds
from photos.models import Photo
from photos.sample_api import photo
from tests.ingestion.pages import make_run, page_of
from tests.ingestion.pages import text as page_text
from tests.remote import Remote, json_pages
from tests.staff import session

pytestmark = pytest.mark.django_db(transaction=True)


def select(record):
    """Leave out odd albums, refuse one record, and shout the titles of the others."""
    if record["albumId"] % 2:
        return None
    if record["id"] == 60:
        raise RecordRejected("not_ours", detail="made up")
    return record | {"title": record["title"].upper()}


@pytest.fixture
def sync(settings, monkeypatch):
    def sync(records, **changes):
        monkeypatch.setattr(feeds, "PHOTOS", replace(feeds.PHOTOS, **changes))
        with Remote(json_pages(records)) as remote:
            settings.PHOTOS_API_URL = remote.url
            return pipeline.run_here("photos").summary

    return sync


def test_records_that_a_rule_leaves_out_are_not_among_those_read(sync):
    records = [photo(number) for number in range(1, 201)]
    summary = sync(records, rules=(select,))
    even = [record for record in records if record["albumId"] % 2 == 0]
    assert (summary["state"], summary["skipped"]) == ("succeeded", 200 - len(even))
    assert (summary["read"], summary["inserted"], summary["rejected"]) == (len(even), len(even) - 1, 1)
    assert set(Photo.objects.values_list("title", flat=True)) == {
        record["title"].upper() for record in even if record["id"] != 60
    }
    # The record as received is kept as it was.
    assert Photo.objects.first().raw_data["title"].islower()


def test_a_run_that_leaves_everything_out_succeeds(sync):
    summary = sync([photo(number) for number in range(1, 21)], rules=(lambda record: None,))
    assert (summary["state"], summary["read"], summary["skipped"], summary["pages"]) == ("succeeded", 0, 20, 1)


def test_a_page_of_which_all_that_is_left_is_rejected_fails_the_run(sync):
    def refuse_or_leave_out(record):
        return None if record["id"] <= 5 else record["missing"]

    summary = sync([photo(number) for number in range(1, 21)], rules=(refuse_or_leave_out,))
    assert summary["state"] == "failed"
    assert "all 15 records of page 1 were rejected: 15 × rule_failed" in summary["error"]


def test_coercions_are_summed_over_the_chunks_of_a_run(sync):
    records = [photo(number) for number in range(1, 2501)]
    for number, record in enumerate(records):
        if number % 100 == 0:
            record |= {"id": str(record["id"]), "albumId": f" {record['albumId']} "}
        if number % 500 == 0:
            record["title"] = f" {record['title']} "
    columns = {**feeds.PHOTOS.columns, "title": text("title", strip=True)}
    summary = sync(records, columns=columns, chunk_rows=1000)
    assert (summary["state"], summary["inserted"], summary["skipped"]) == ("succeeded", 2500, 0)
    assert summary["coercions"] == {"album_id:text": 25, "remote_id:text": 25, "title:strip": 5}
    assert Run.objects.get().coercions == summary["coercions"]


def test_a_clean_run_has_no_coercions(sync):
    assert sync([photo(1)])["coercions"] == {}


def test_the_run_page_shows_what_was_coerced_and_left_out():
    feed, _ = FeedState.objects.get_or_create(name="photos")
    run = make_run(feed, coercions={"title:strip": 7, "remote_id:text": 1200}, skipped=1234)
    shown = page_text(session("ingestion.view_run"), page_of(run))
    assert "1,200 remote_id:text, 7 title:strip" in shown
    assert "1,234" in shown
