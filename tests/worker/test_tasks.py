"""Tasks, dispatch and schedules, without a worker: the functions behind the messages."""

import json
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db.models.functions import Now
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from ingestion import claims, runs
from ingestion.models import Part, Reject, Run, Trigger
from photos.models import Photo
from photos.sample_api import photo
from tests.remote import Remote, json_pages
from worker import dispatch, schedules, tasks

pytestmark = pytest.mark.django_db(transaction=True)

woken: list[int] = []


def record_wake(part: int) -> None:
    woken.append(part)


@pytest.fixture(autouse=True)
def _wakes(settings, empty_queue):
    woken.clear()
    settings.INGESTION_WAKE = "tests.worker.test_tasks.record_wake"


def queued() -> Part:
    run, _ = runs.request("photos", trigger=Trigger.COMMAND, wake_workers=False)
    return run.parts.get()


def test_advance_finishes_a_queued_part(settings):
    with Remote(json_pages([photo(n) for n in range(1, 21)])) as remote:
        settings.PHOTOS_API_URL = remote.url
        tasks.advance(part=queued().pk, unknown_argument_of_newer_code=1)
    assert Photo.objects.count() == 20
    assert Run.objects.get().state == "succeeded"


def test_a_message_that_comes_twice_leaves_without_effect(settings):
    with Remote(json_pages([photo(n) for n in range(1, 21)])) as remote:
        settings.PHOTOS_API_URL = remote.url
        part = queued()
        for _ in range(2):
            tasks.advance(part=part.pk)
        tasks.advance(part=part.pk + 1000)
    assert Run.objects.get().read == 20


def test_sync_requests_a_run_as_its_schedule():
    tasks.sync(feed="photos")
    tasks.sync(feed="photos")
    run = Run.objects.get()
    assert (run.trigger, run.state) == ("schedule", "queued")
    assert woken == [run.parts.get().pk]


def test_sync_of_a_feed_that_is_gone_only_logs(caplog):
    tasks.sync(feed="removed")
    assert not Run.objects.exists()


def test_dispatch_wakes_each_due_part_once_per_interval():
    part = queued()
    assert dispatch.wake_due() == 1
    assert dispatch.wake_due() == 0
    Part.objects.update(woken_at=Now() - timedelta(minutes=1))
    tasks.dispatch_due()
    assert woken == [part.pk, part.pk]


def test_dispatch_leaves_owned_waiting_and_ended_parts_alone():
    claims.claim(queued().pk)
    assert dispatch.wake_due() == 0


def test_dispatch_wakes_a_part_whose_owner_stopped_renewing():
    part = claims.claim(queued().pk)
    Part.objects.update(leased_until=Now() - timedelta(seconds=1), owner="elsewhere/1:1:1")
    assert dispatch.wake_due() == 1
    assert woken == [part.pk]


def test_the_feeds_entry_is_created_once_and_then_belongs_to_the_operator():
    entry = PeriodicTask.objects.get(name="sync photos")
    assert (entry.task, json.loads(entry.kwargs), entry.enabled) == ("worker.sync", {"feed": "photos"}, True)
    assert (entry.interval.every, entry.interval.period) == (3600, "seconds")
    entry.interval = IntervalSchedule.objects.create(every=5, period="minutes")
    entry.enabled = False
    entry.save()
    schedules.remember_schedules()
    entry.refresh_from_db()
    assert (entry.interval.every, entry.enabled) == (5, False)
    entry.delete()
    schedules.remember_schedules()
    assert not PeriodicTask.objects.filter(name="sync photos").exists()


def test_next_run_follows_the_enabled_entries():
    at = schedules.next_runs()["photos"]
    assert timedelta(minutes=50) < at - timezone.now() <= timedelta(hours=1)
    PeriodicTask.objects.filter(name="sync photos").update(enabled=False)
    assert "photos" not in schedules.next_runs()


def test_old_rejects_are_forgotten_every_day(settings):
    entry = PeriodicTask.objects.get(task="worker.forget_rejects")
    assert (entry.interval.every, entry.interval.period) == (86_400, "seconds")
    part = queued()
    reject = {"feed": part.run.feed, "run": part.run, "reason": "x", "page": 1, "position": 0, "size_bytes": 0}
    for days in (10, 1000):
        Reject.objects.create(**reject, raw=b"", key=str(days), created_at=timezone.now() - timedelta(days=days))
    tasks.forget_rejects()
    assert list(Reject.objects.values_list("key", flat=True)) == ["10"]


def test_migrate_of_an_empty_database_and_back_works():
    call_command("migrate", "ingestion", "zero", "-v0")
    call_command("migrate", "-v0")
    call_command("migrate", "photos", "0001", "-v0")
    call_command("migrate", "-v0")
    assert PeriodicTask.objects.filter(name="sync photos").exists()
