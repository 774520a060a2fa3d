"""Runs in slices of one chunk, each claimed anew, as by workers that take over from each other."""

from ingestion import pipeline, runs, waking
from ingestion.models import Part, Run, State, Trigger


def begin(feed: str) -> Run:
    """Ask for a run; nobody is woken."""
    run, _ = runs.request(feed, trigger=Trigger.COMMAND, wake_workers=False)
    return run


def in_slices(feed: str) -> tuple[Run, int]:
    """Run a feed that is not divided; return its run and how many slices that took."""
    run = begin(feed)
    slices = finish(run.parts.get().pk)
    run.refresh_from_db()
    return run, slices


def finish(part: int) -> int:
    """Advance a part until it is not given back any more; return how many slices that took."""
    slices = 1
    while pipeline.advance(part, slice_seconds=0) == State.QUEUED:
        slices += 1
    return slices


def work_off(run: Run) -> Run:
    """Advance whatever is due until nothing is, a chunk at a time."""
    Part.objects.update(woken_at=None)
    while due := waking.due_parts():
        for part in due:
            pipeline.advance(part, slice_seconds=0)
        Part.objects.update(woken_at=None)
    run.refresh_from_db()
    return run
