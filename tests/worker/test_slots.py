"""Slots of schedules: one run each, whatever beat, the clock and summer time do."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import schedule, solar
from django.db import DatabaseError
from django.utils import timezone
from django_celery_beat.clockedschedule import clocked
from django_celery_beat.models import IntervalSchedule, PeriodicTask, SolarSchedule
from django_celery_beat.tzcrontab import TzAwareCrontab

from config.celery import app
from ingestion import slots
from ingestion.models import Run, Slot
from photos.feeds import PHOTOS
from worker import beat
from worker.schedules import next_runs
from worker.slots import slot_of

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def fired(zone, start, *, days, hour, minute="30"):
    """Return the slots that a beat comes to that looks every five minutes, as day and local time."""
    now = last = datetime.fromisoformat(start).replace(tzinfo=UTC)
    crontab = TzAwareCrontab(minute=minute, hour=hour, tz=ZoneInfo(zone), app=app)
    crontab.nowfun = lambda: now
    names, until = [], now + timedelta(days=days)
    while now < until:
        now += timedelta(minutes=5)
        if crontab.is_due(last).is_due:
            names.append(slot_of(crontab, last, now).name.removeprefix("2026-").removesuffix(f" {zone}"))
            last = now
    return names


@pytest.mark.parametrize(
    ("zone", "start", "hour", "expected"),
    [
        # 02:30 on the 29th does not exist; on the 25th of October it is there twice.
        ("Europe/Berlin", "2026-03-27T12", "2", ["03-28 02:30", "03-29 02:30", "03-30 02:30"]),
        ("Europe/Berlin", "2026-10-23T12", "2", ["10-24 02:30", "10-25 02:30", "10-26 02:30"]),
        ("America/New_York", "2026-03-06T12", "2", ["03-07 02:30", "03-08 02:30", "03-09 02:30"]),
        ("America/New_York", "2026-10-30T12", "1", ["10-31 01:30", "11-01 01:30", "11-02 01:30"]),
        # The clock is moved by half an hour.
        ("Australia/Lord_Howe", "2026-10-01T20", "2", ["10-03 02:30", "10-04 02:30", "10-05 02:30"]),
        ("Australia/Lord_Howe", "2026-04-02T20", "1", ["04-04 01:30", "04-05 01:30", "04-06 01:30"]),
    ],
)
def test_each_local_day_has_one_slot_when_summer_time_begins_and_ends(zone, start, hour, expected):
    assert fired(zone, start, hour=hour, days=3) == expected


def test_an_hour_that_is_there_twice_is_one_slot_and_one_that_is_not_there_is_made_up():
    hourly = {"hour": "*", "minute": "0", "days": 0.2}
    assert fired("Europe/Berlin", "2026-10-24T23:30", **hourly)[:3] == ["10-25 02:00", "10-25 03:00", "10-25 04:00"]
    assert fired("Europe/Berlin", "2026-03-28T23:30", **hourly)[:3] == ["03-29 01:00", "03-29 02:00", "03-29 04:00"]


def test_a_slot_that_comes_again_when_the_clock_goes_back_has_the_same_name():
    crontab = TzAwareCrontab(minute="0", hour="*", tz=UTC, app=app)
    hour = timedelta(hours=1)
    names = [slot_of(crontab, last, NOW).name for last in (NOW - hour, NOW - timedelta(minutes=1), NOW, NOW + hour)]
    assert names == ["2026-11-23 12:00 UTC", "2026-11-23 12:00 UTC", "2026-11-23 13:00 UTC", "2026-11-23 14:00 UTC"]


def test_two_beats_name_the_slots_of_an_interval_alike_wherever_they_began():
    every = schedule(timedelta(minutes=10), app=app)
    names = [
        slot_of(every, NOW - timedelta(minutes=10), NOW + timedelta(seconds=late)).name for late in (0, 1, 599, 600)
    ]
    assert names == ["2026-11-23 12:00:00 every 600 s"] * 3 + ["2026-11-23 12:10:00 every 600 s"]


def test_a_clocked_schedule_has_one_slot():
    assert slot_of(clocked(NOW, app=app), NOW, NOW).name == "once 2026-11-23 12:00:00"


def test_a_solar_schedule_is_due_when_the_sun_sets():
    # London, by the almanac of the Royal Observatory: 21:21 summer time.
    now = datetime(2026, 6, 21, 20, 0, tzinfo=UTC)
    sunset = solar("sunset", Decimal("51.477900"), Decimal("-0.001500"), nowfun=lambda: now, app=app)
    last = now - timedelta(hours=12)
    assert not sunset.is_due(last).is_due
    found = slot_of(sunset, last, now)
    assert found.name == "sunset at 51.477900 -0.001500 2026-06-21"
    assert f"{found.due_at:%H:%M}" in ("20:20", "20:21", "20:22")
    now += timedelta(minutes=23)
    assert sunset.is_due(last).is_due
    assert slot_of(sunset, last, now).name == found.name


def test_each_day_has_one_sunset_where_it_is_around_midnight_in_utc():
    """New Orleans: from the end of October on two sunsets are less than a day apart, on one day in UTC."""
    now = last = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    sunset = solar("sunset", 29.95, -90.07, nowfun=lambda: now, app=app)
    days = []
    for _ in range(365):
        now += sunset.remaining_estimate(last) + timedelta(seconds=3)
        days.append(slot_of(sunset, last, now).name.removeprefix("sunset at 29.950000 -90.070000 "))
        last = now
    assert days == [f"{date(2026, 1, 1) + timedelta(days=day)}" for day in range(365)]


@pytest.mark.django_db(transaction=True)
def test_beat_starts_a_run_by_the_sun(settings, entry):
    settings.INGESTION_WAKE = "builtins.id"
    place = SolarSchedule.objects.create(event="solar_noon", latitude="52.520000", longitude="13.405000")
    PeriodicTask.objects.update(interval=None, solar=place, last_run_at=timezone.now() - timedelta(hours=25))
    beat_of_now = scheduler()
    beat_of_now.tick()
    assert Slot.objects.get().name.startswith("solar_noon at 52.520000 13.405000 20")
    assert Run.objects.get().trigger == "schedule"
    assert timezone.now() < next_runs()["photos"] < timezone.now() + timedelta(hours=25)


def take(slot="a", late=timedelta(0)):
    return slots.start("photos", slot, due_at=NOW - late, now=NOW)


@pytest.mark.django_db(transaction=True)
def test_a_slot_starts_one_run_however_often_it_fires(settings):
    settings.INGESTION_WAKE = "builtins.id"
    assert [take(), take(), take()] == [True, False, False]
    run = Run.objects.get()
    assert (run.trigger, Slot.objects.get().run) == ("schedule", run)


@pytest.mark.django_db(transaction=True)
def test_a_run_that_is_still_active_serves_the_next_slot_too(settings):
    settings.INGESTION_WAKE = "builtins.id"
    assert [take("a"), take("b")] == [True, True]
    assert list(Slot.objects.values_list("name", "run")) == [("a", Run.objects.get().pk), ("b", Run.objects.get().pk)]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("missed", "late", "runs"), [("once", 3600, 1), ("skip", 3600, 0), ("skip", 30, 1)])
def test_a_missed_slot_is_made_up_or_skipped_as_the_feed_says(settings, monkeypatch, missed, late, runs):
    settings.INGESTION_WAKE = "builtins.id"
    # Frozen: as if it had been declared so.
    monkeypatch.setitem(PHOTOS.__dict__, "missed", missed)
    assert take(late=timedelta(seconds=late))
    assert (Run.objects.count(), Slot.objects.count()) == (runs, 1)


@pytest.fixture
def entry(db):
    """The entry of the photos feed alone, due since an hour."""
    interval = IntervalSchedule.objects.create(every=10, period="minutes")
    PeriodicTask.objects.all().delete()
    return PeriodicTask.objects.create(
        name="sync photos", task="worker.sync", interval=interval, kwargs=json.dumps({"feed": "photos"}),
        last_run_at=timezone.now() - timedelta(hours=1),
    )  # fmt: skip


def scheduler():
    return beat.Scheduler(app=app, lazy=False)


@pytest.mark.django_db(transaction=True)
def test_beat_starts_the_run_itself_and_notes_it(settings, entry):
    settings.INGESTION_WAKE = "builtins.id"
    beat_of_now = scheduler()
    beat_of_now.tick()
    assert Run.objects.get().trigger == "schedule"
    entry.refresh_from_db()
    assert timezone.now() - entry.last_run_at < timedelta(minutes=1)


@pytest.mark.django_db(transaction=True)
def test_two_beats_start_one_run(settings, entry):
    settings.INGESTION_WAKE = "builtins.id"
    for each in [scheduler(), scheduler()]:
        each.tick()
    assert (Run.objects.count(), Slot.objects.count()) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_what_the_database_does_not_take_is_started_at_the_next_tick(settings, entry, monkeypatch):
    settings.INGESTION_WAKE = "builtins.id"
    beat_of_now = scheduler()
    with monkeypatch.context() as broken:

        def refuse(*arguments, **options):
            message = "restarting"
            raise DatabaseError(message)

        broken.setattr(slots, "start", refuse)
        beat_of_now.tick()
    assert Run.objects.count() == 0
    beat_of_now.tick()
    assert Run.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_clock_that_was_ahead_silences_no_entry(settings, entry):
    settings.INGESTION_WAKE = "builtins.id"
    PeriodicTask.objects.update(last_run_at=timezone.now() + timedelta(days=90))
    found = scheduler().schedule["sync photos"]
    assert found.is_due().next <= 600
    assert found.last_run_at <= timezone.now()


@pytest.mark.django_db(transaction=True)
def test_a_clock_that_goes_back_under_beat_delays_nothing(settings, entry, monkeypatch):
    settings.INGESTION_WAKE = "builtins.id"
    beat_of_now = scheduler()
    with monkeypatch.context() as ahead:
        now = timezone.now() + timedelta(hours=1)
        ahead.setattr(timezone, "now", lambda: now)
        # What Celery orders its entries by.
        ahead.setattr(beat.PatientEntry, "_default_now", lambda self: now)
        beat_of_now.tick()
    beat_of_now.schedule["sync photos"].last_run_at = timezone.now() - timedelta(hours=1)
    beat_of_now.tick()
    assert Slot.objects.count() == 2
