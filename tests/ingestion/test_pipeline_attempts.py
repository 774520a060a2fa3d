"""Runs that are tried again, taken over, interrupted and told to come back later."""

import signal
import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from ingestion import claims, pipeline, runs
from ingestion.errors import AlreadyRunning, PartTaken
from ingestion.models import Part, Run, State, Trigger
from ingestion.streams import StringIteratorIO
from photos.models import Photo
from photos.sample_api import photo
from tests.ingestion.catalog import counts
from tests.ingestion.slices import in_slices
from tests.remote import Remote, Reply, json_pages

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("tried_often")]

# More than fits into the prefetcher and one chunk, so that a run has several commits.
MANY = 40_000


def photos(number, **changes):
    return [photo(n) | changes for n in range(1, number + 1)]


def test_a_run_in_slices_reads_every_page_once(settings):
    with Remote(json_pages(photos(MANY))) as remote:
        settings.PHOTOS_API_URL = remote.url
        run, slices = in_slices("photos")
    assert slices > 1
    assert (run.state, counts(run.summary())) == ("succeeded", {"read": MANY, "inserted": MANY})
    assert (run.pages, Photo.objects.count()) == (MANY // 1000, MANY)


def test_a_zombie_cannot_commit_what_was_taken_over(settings):
    """The part is taken over between the zombie's first chunk and its next; the new owner finishes alone."""
    served, go_on = threading.Event(), threading.Event()

    def slow(request):
        served.set()
        go_on.wait(10)
        return json_pages(photos(2000))(request)

    with Remote(json_pages(photos(2000), overrides={2: slow})) as remote:
        settings.PHOTOS_API_URL = remote.url
        zombie = claims.request_and_claim("photos", trigger=Trigger.COMMAND)

        def take_over():
            served.wait(10)
            while not Photo.objects.exists():
                pass
            Part.objects.update(leased_until=Now() - timedelta(seconds=1))
            claims.claim(zombie.pk)
            go_on.set()
            connection.close()

        thief = threading.Thread(target=take_over)
        thief.start()
        with pytest.raises(PartTaken):
            pipeline.advance_claimed(zombie)
        thief.join()
    run = Run.objects.get()
    assert (run.read, Photo.objects.count(), run.state) == (1000, 1000, "running")


def test_a_transient_failure_waits_for_another_attempt_when_a_worker_advances(settings):
    with Remote(json_pages(photos(2500), overrides={2: Reply(503)})) as remote:
        settings.PHOTOS_API_URL = remote.url
        run, _ = runs.request("photos", trigger=Trigger.COMMAND, wake_workers=False)
        assert pipeline.advance(run.parts.get().pk, slice_seconds=60) == State.WAITING
        part = run.parts.get()
        assert "503" in part.waiting_for
        remote.answer = json_pages(photos(2500))
        assert pipeline.advance_claimed(claims.claim(part.pk, now=True)) == State.SUCCEEDED
    run.refresh_from_db()
    assert counts(run.summary()) == {"read": 2500, "inserted": 2500}


def test_a_long_retry_after_frees_the_worker_for_that_long(settings):
    busy = Reply(429, headers={"Retry-After": "1800"})
    with Remote(json_pages(photos(2500), overrides={2: busy})) as remote:
        settings.PHOTOS_API_URL = remote.url
        run, _ = runs.request("photos", trigger=Trigger.COMMAND, wake_workers=False)
        assert pipeline.advance(run.parts.get().pk, slice_seconds=60) == State.WAITING
    part = run.parts.get()
    assert part.next_attempt_at - run.requested_at > timedelta(minutes=29)
    assert len([query for query in remote.queries if query["_page"] == "2"]) == 1


def test_a_part_that_always_kills_its_worker_fails_after_a_bounded_number_of_attempts(settings):
    settings.PHOTOS_API_URL = "http://127.0.0.1:9"
    run, _ = runs.request("photos", trigger=Trigger.COMMAND, wake_workers=False)
    part = run.parts.get()
    for _ in range(5):
        claims.claim(part.pk)  # and then the process is gone
        Part.objects.update(leased_until=Now() - timedelta(seconds=1))
    assert pipeline.advance(part.pk, slice_seconds=60) == State.FAILED
    run.refresh_from_db()
    assert run.error.startswith("no_progress: 5 attempts")


def test_a_foreground_run_of_a_feed_that_is_advanced_elsewhere_says_so(sync):
    claims.request_and_claim("photos", trigger=Trigger.COMMAND)
    with Remote(json_pages([])) as remote, pytest.raises(AlreadyRunning):
        sync(remote)
    assert remote.requests == []


def test_no_remote_configured_says_which_variable(settings):
    settings.PHOTOS_API_URL = ""
    summary = pipeline.run_here("photos").summary
    assert (summary["state"], summary["error"][:26]) == ("failed", "PHOTOS_API_URL is not set:")


def test_ctrl_c_inside_copy_ends_the_run_as_cancelled(sync, monkeypatch):
    """The signal arrives while psycopg2 reads: it must not pass for a database that says "not now"."""
    texts = StringIteratorIO._take_some
    turns = iter(range(10))

    def interrupted(self, limit=-1):
        if next(turns) == 1:
            signal.raise_signal(signal.SIGINT)
        return texts(self, limit)

    monkeypatch.setattr(StringIteratorIO, "_take_some", interrupted)
    with Remote(json_pages(photos(2000))) as remote:
        summary = sync(remote)
    assert (summary["state"], summary["error"], summary["read"]) == ("cancelled", "interrupted", 0)


def test_a_dry_run_does_not_stand_in_the_way_of_a_real_run(settings):
    with Remote(json_pages(photos(20))) as remote, transaction.atomic():
        settings.PHOTOS_API_URL = remote.url
        claims.rehearse("photos")
        assert runs.request("photos", trigger=Trigger.ADMIN, wake_workers=False)[1]
