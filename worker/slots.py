"""The slots of schedules: which one a due entry stands for, so that each starts at most one run. Pure.

Note [Slots]: a slot is named by what a clock on the wall shows, not by when beat noticed it. Two beats, a beat that was
killed before it noted what it sent, and a missed slot that is made up later all come to the same name. A local time
that the end of summer time repeats is one slot; one that its beginning skips is made up within the hour.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from celery.schedules import crontab, solar
from django_celery_beat.clockedschedule import clocked

# Around which hour of the day, by the sun, each kind of event comes.
_HOURS: Final = {"dawn": 6, "sunrise": 6, "solar": 12, "sunset": 18, "dusk": 18}


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A moment of a schedule: its name, unique for a feed, and since when it is due."""

    name: str
    due_at: datetime


def slot_of(due: Any, last_run_at: datetime, now: datetime) -> Slot:
    """Return the slot that an entry with this schedule of Celery's, due now, stands for: the first one missed."""
    if isinstance(due, crontab):
        start, until_next, _ = due.remaining_delta(last_run_at)
        at = start + until_next
        return Slot(name=f"{at:%Y-%m-%d %H:%M} {at.tzinfo}", due_at=at)
    if isinstance(due, clocked):
        return Slot(name=f"once {due.clocked_time.astimezone(UTC):%Y-%m-%d %H:%M:%S}", due_at=due.clocked_time)
    if isinstance(due, solar):
        return _of_sun(due, now + due.remaining_estimate(last_run_at))
    return _of_interval(due.run_every, last_run_at, now)


def _of_sun(due: solar, at: datetime) -> Slot:
    """Name the day, which is there once, instead of the time, which is computed anew each time, to the second or so.

    The day by the sun of that place, begun when the event is farthest: a sunset that is earlier each day stays in it.
    """
    day = at.astimezone(UTC) + timedelta(hours=float(due.lon) / 15 + 12 - _HOURS[due.event.partition("_")[0]])
    return Slot(name=f"{due.event} at {due.lat:.6f} {due.lon:.6f} {day:%Y-%m-%d}", due_at=at)


def _of_interval(every: timedelta, last_run_at: datetime, now: datetime) -> Slot:
    """Count intervals from the epoch on: one beat fires at least an interval apart, so never twice in one of them."""
    seconds = every.total_seconds()
    number = int(now.timestamp() // seconds)
    start = datetime.fromtimestamp(number * seconds, UTC)
    return Slot(name=f"{start:%Y-%m-%d %H:%M:%S} every {seconds:g} s", due_at=last_run_at + every)
