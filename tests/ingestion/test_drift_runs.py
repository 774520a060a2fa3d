"""Drift from the remote to the run, the feed, the commands and the admin."""

import json
from dataclasses import replace

import pytest
from django.db import transaction

from ingestion import claims, drift, pipeline, quarantine, runs, sightings
from ingestion.management.commands.ingest import describe
from ingestion.models import FeedState, Part, Reject, Run, Trigger
from photos import feeds
from photos.models import Photo
from photos.sample_api import photo
from tests.ingestion.pages import FEEDS, RUNS, cells, make_run, page_of
from tests.ingestion.pages import text as page_text
from tests.ingestion.slices import in_slices
from tests.remote import Remote, Reply, json_pages
from tests.staff import VIEWS, session

pytestmark = pytest.mark.django_db(transaction=True)

KNOWN = ["albumId: number", "id: number", "thumbnailUrl: text", "title: text", "url: text"]


def photos(number, **changes):
    return [photo(n) | changes for n in range(1, number + 1)]


@pytest.fixture
def sync(settings, monkeypatch):
    def sync(records, *, policy="warn", overrides=None, chunk_rows=1000, **options):
        feed = replace(feeds.PHOTOS, drift=policy, chunk_rows=chunk_rows)
        monkeypatch.setattr(feeds, "PHOTOS", feed)
        with Remote(json_pages(records, overrides=overrides)) as remote:
            settings.PHOTOS_API_URL = remote.url
            return pipeline.run_here("photos", **options).summary

    return sync


def known():
    return list(drift.outline(drift.from_json(FeedState.objects.get(name="photos").shape)))


def told(summary):
    return [drift.describe(drift.change_from_json(change)) for change in summary["drift"]]


def test_the_first_run_learns_and_the_next_ones_tell_each_change_once(sync):
    assert told(sync(photos(2500))) == []
    assert known() == KNOWN
    changed = photos(2500)
    changed[2222] |= {"colour": "red"}
    changed[17] |= {"url": 5}
    summary = sync(changed)
    assert summary["state"] == "succeeded"
    assert summary["drift"] == [
        {"field": "url", "change": "type", "before": ["text"], "now": ["number"], "page": 1},
        {"field": "colour", "change": "new", "now": ["text"], "page": 3},
    ]
    assert Run.objects.first().drift == summary["drift"]
    assert told(sync(changed)) == []
    assert known() == ["albumId: number", "colour: text", *KNOWN[1:4], "url: number, text"]


def test_a_field_that_no_record_of_a_complete_run_has_is_told_and_forgotten(sync):
    sync([photo(1) | {"colour": "red"}, photo(2)])
    assert told(sync(photos(2))) == ["colour vanished, was text"]
    assert told(sync(photos(2))) == []
    assert told(sync([photo(1) | {"colour": "red"}])) == ["colour is new, text (page 1)"]


def test_nothing_vanishes_in_runs_that_saw_only_a_part_or_nothing(sync):
    sync([photo(1), photo(2) | {"colour": "red"}])
    assert told(sync([photo(1), photo(2) | {"colour": "red"}], limit=1)) == []
    assert told(sync([])) == []
    assert told(sync(photos(2000), overrides={2: Reply(404)})) == []
    assert "colour: text" in known()


def test_a_first_run_that_is_not_complete_leaves_the_learning_to_the_next(sync):
    assert told(sync([photo(1), photo(2) | {"colour": "red"}], limit=1)) == []
    assert known() == []
    assert told(sync([photo(1), photo(2) | {"colour": "red"}])) == []
    assert "colour: text" in known()


def test_what_a_run_saw_survives_the_process_that_saw_it(sync, settings):
    sync([photo(1), photo(2001) | {"colour": "red"}])
    pages = photos(3000)
    pages[1500] |= {"size": 5}
    pages[5] |= {"colour": "red"}
    with Remote(json_pages(pages)) as remote:
        settings.PHOTOS_API_URL = remote.url
        run, slices = in_slices("photos")
    assert (slices, run.state) == (3, "succeeded")
    # `colour` was there in the first slice only, and has not vanished.
    assert told(run.summary()) == ["size is new, number (page 2)"]


def test_fail_stops_the_run_before_the_page_and_keeps_what_was_committed(sync):
    sync(photos(10), policy="fail")
    changed = photos(3000)
    changed[2500] |= {"colour": "red", "size": 5}
    for _ in range(2):
        summary = sync(changed, policy="fail")
        assert summary["state"] == "failed"
        assert summary["error"] == (
            "drift: the source has changed: colour is new, text (page 3); size is new, number (page 3)"
        )
        assert told(summary) == ["colour is new, text (page 3)", "size is new, number (page 3)"]
        assert (summary["pages"], summary["read"], Photo.objects.count()) == (2, 2000, 2000)
        assert Part.objects.get(run=summary["run"]).cursor["pages"] == 2
    assert known() == KNOWN


def test_drift_that_fails_a_feed_can_be_accepted(sync):
    sync(photos(10), policy="fail")
    changed = photos(10, colour="red")
    assert sync(changed, policy="fail")["state"] == "failed"
    summary = sync(changed, policy="fail", accept_drift=True)
    assert (summary["state"], told(summary)) == ("succeeded", ["colour is new, text (page 1)"])
    assert sync(changed, policy="fail")["state"] == "succeeded"


def test_a_vanished_field_fails_before_the_last_chunk(sync):
    sync(photos(10, colour="red"), policy="fail")
    summary = sync(photos(3000), policy="fail")
    assert (summary["state"], summary["pages"]) == ("failed", 2)
    assert summary["error"] == "drift: the source has changed: colour vanished, was text"
    assert told(summary) == ["colour vanished, was text"]
    summary = sync(photos(3000), policy="fail", accept_drift=True)
    assert (summary["state"], summary["read"]) == ("succeeded", 3000)
    assert sync(photos(3000), policy="fail")["drift"] == []


def test_ignore_notes_nothing(sync):
    sync(photos(10))
    summary = sync(photos(10, colour="red"), policy="ignore")
    assert (summary["state"], summary["drift"]) == ("succeeded", [])
    assert known() == KNOWN


def test_a_run_that_its_rejects_fail_tells_the_drift_that_may_be_why(sync):
    sync(photos(20))
    summary = sync(photos(20, url=None, link="https://example.org"))
    assert summary["error"].startswith("reject_limit")
    assert told(summary) == ["link is new, text (page 1)"]
    assert known() == KNOWN


def test_a_dry_run_tells_and_remembers_nothing(sync):
    sync(photos(10))
    assert told(sync(photos(10, colour="red"), dry_run=True)) == ["colour is new, text (page 1)"]
    assert known() == KNOWN


def test_a_replay_is_no_news_of_the_source(sync):
    records = photos(20)
    records[3] |= {"title": "x" * 300, "colour": "red"}
    sync(records)
    FeedState.objects.update(shape={"fields": {"id": {"types": {"number": 1}}}})
    Reject.objects.update(raw=b'{"id": 4, "albumId": 1, "title": "t", "url": "u", "size": 1}', size_bytes=60)
    (run,) = quarantine.replay("photos", Reject.objects.all())
    assert (run.state, run.drift) == ("succeeded", [])
    assert known() == ["id: number"]


def test_what_parts_saw_at_the_same_time_is_merged(sync):
    """Two slices that learned different fields, committed one after the other in either order."""
    sync(photos(10))
    run, _ = runs.request("photos", trigger=Trigger.COMMAND, wake_workers=False)
    part = claims.claim(run.parts.get().pk)
    one = {"fields": {"size": {"types": {"number": 3}}, "id": {"types": {"number": 1}}}}
    other = {"fields": {"colour": {"types": {"text": 2}}, "size": {"types": {"number": 7}}}}
    for shape in (one, other, one):
        with transaction.atomic():
            sightings.note(part, feeds.PHOTOS, shape)
    run.refresh_from_db()
    assert told(run.summary()) == ["size is new, number (page 3)", "colour is new, text (page 2)"]
    assert set(run.shape["fields"]) == {"size", "id", "colour"}
    assert {"colour: text", "size: number"} <= set(known())


def test_warnings_are_logged_and_described(sync, caplog):
    sync(photos(10))
    assert "the source has changed" not in caplog.text
    summary = sync(photos(10, colour="red"))
    assert "the source has changed" in caplog.text
    assert describe(summary).endswith("; drift: colour is new, text (page 1)")


def test_the_admin_shows_drift_on_the_run_and_the_feed_and_what_is_known():
    feed, _ = FeedState.objects.get_or_create(name="photos")
    feed.shape = {
        "fields": {
            "id": {"types": {"number": 1}},
            "o": {"types": {"object": 1}, "fields": {"x": {"types": {"text": 1}}}},
        }
    }
    feed.save()
    changed = {"field": "<b>", "change": "new", "now": ["text"], "page": 12}
    run = make_run(feed, drift=[changed, {"field": "size", "change": "vanished", "before": ["number"]}])
    client = session(*VIEWS)
    phrase = "&lt;b&gt; is new, text (page 12)"
    for page in (page_of(run), page_of(feed)):
        shown = page_text(client, page)
        assert f"{phrase}\nsize vanished, was number" in shown
    assert "id: number\no: object\no.x: text" in shown
    assert cells(client, RUNS)[0]["shown_outcome"].endswith("<b> is new, text (page 12)")
    (row,) = cells(client, FEEDS)
    assert row["shown_outcome"].endswith("<b> is new, text (page 12)")


def test_names_that_are_there_twice_are_counted_on_the_run(sync):
    records = [json.dumps(record).encode() for record in photos(2500)]
    for number in (5, 700, 1800):
        records[number] = records[number][:-1] + b', "title": "the last one"}'
    summary = sync(records)
    assert (summary["state"], summary["inserted"], summary["rejected"]) == ("succeeded", 2500, 0)
    assert summary["coercions"] == {"raw_data:repeated_name": 3, "title:repeated_name": 3}
    last = Photo.objects.filter(title="the last one").order_by("remote_id")
    assert [stored.remote_id for stored in last] == [6, 701, 1801]
    assert Photo.objects.get(remote_id=701).raw_data["title"] == "the last one"
