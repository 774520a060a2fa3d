"""Replaying rejects in the admin: who may, and what it says."""

import json

import pytest

from ingestion import runs
from ingestion.models import FeedState, Reject, Run, State, Trigger
from photos.models import Photo
from photos.sample_api import photo
from tests.staff import VIEWS, said, session

pytestmark = pytest.mark.django_db

LIST = "/admin/ingestion/reject/"
REPLAY = "ingestion.replay_reject"


@pytest.fixture
def rejects():
    """Keep two rejects of a feed whose definition has been mended since, and one that stays bad."""
    runs.remember_feeds()
    feed = FeedState.objects.get(name="photos")
    run = Run.objects.create(feed=feed, trigger=Trigger.COMMAND, state=State.FAILED, finished_at="2026-11-22T00:00Z")
    records = [photo(1), photo(2), photo(3) | {"title": "x" * 300}]
    common = {"feed": feed, "run": run, "reason": "too_long", "page": 1, "digest": ""}
    raws = [json.dumps(record).encode() for record in records]
    return [
        Reject.objects.create(**common, position=n, key=str(record["id"]), raw=raw, size_bytes=len(raw))
        for n, (record, raw) in enumerate(zip(records, raws, strict=True))
    ]


def post(client, rejects):
    return client.post(LIST, {"action": "replay", "_selected_action": [reject.pk for reject in rejects]}, follow=True)


def test_selected_rejects_are_replayed_and_it_says_what_became_of_them(rejects):
    response = post(session(*VIEWS, REPLAY), rejects[1:])
    assert response.status_code == 200
    assert "Feed photos: 1 loaded, 1 refused again." in said(response)
    assert Photo.objects.get().remote_id == 2
    assert list(Reject.objects.filter(resolved_at=None).values_list("key", flat=True)) == ["3", "1"]


def test_without_the_permission_there_is_no_action_and_its_post_is_refused(rejects):
    assert "Replay selected" not in session(*VIEWS).get(LIST).content.decode()
    assert post(session(*VIEWS, name="bob"), rejects).status_code == 403
    assert not Photo.objects.exists()


def test_while_the_feed_runs_it_says_so(rejects):
    run, _ = runs.request("photos", trigger=Trigger.COMMAND, wake_workers=False)
    response = post(session(*VIEWS, REPLAY), rejects)
    assert f"run {run.pk}" in said(response)[0]
    assert Reject.objects.filter(resolved_at=None).count() == 3


def test_the_list_shows_open_rejects_unless_asked_for_others(rejects):
    Reject.objects.filter(key="1").update(resolved_at="2026-11-22T00:00Z", resolution="replayed")
    client = session(*VIEWS)
    for query, number in (("", 2), ("?state=resolved", 1), ("?state=all", 3)):
        assert len(client.get(LIST + query).context["cl"].result_list) == number
