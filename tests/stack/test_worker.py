"""Real worker processes against real servers: the main job as an operator runs it."""

import json
import threading
from pathlib import Path

import pytest

from photos.sample_api import photo
from tests import placeholder
from tests.processes import children, wait_until
from tests.remote import Remote, json_pages

COUNTS = ("pages", "read", "inserted", "updated", "unchanged", "duplicates", "rejected")


def counts(summary):
    return {name: summary[name] for name in COUNTS if summary[name]}


@pytest.fixture
def jsonplaceholder(tmp_path, corpora):
    with placeholder.serve(tmp_path, corpora) as url:
        yield url


def test_a_worker_copies_the_real_jsonplaceholder(stack, jsonplaceholder, corpora):
    stack.start_worker(PHOTOS_API_URL=jsonplaceholder)
    summary = stack.summary("trigger", "photos", "--wait", "--json")
    assert (summary["state"], counts(summary)) == ("succeeded", {"pages": 5, "read": 5000, "inserted": 5000})
    expected = json.loads((corpora / "jsonplaceholder.json").read_text())["photos"]
    stored = stack.query(
        "SELECT remote_id, album_id, title, url, thumbnail_url, raw_data FROM photos ORDER BY remote_id"
    )
    assert stored == [(p["id"], p["albumId"], p["title"], p["url"], p["thumbnailUrl"], p) for p in expected]
    again = stack.summary("trigger", "photos", "--wait", "--json")
    assert (again["state"], counts(again)) == ("succeeded", {"pages": 5, "read": 5000, "unchanged": 5000})
    written = "SELECT n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables WHERE relname = 'photos'"
    assert stack.query(written) == [(5000, 0, 0)]


def test_a_run_goes_on_after_its_worker_was_killed(stack):
    """kill -9 of the whole worker in mid-run; another one finishes it, nothing lost, nothing twice."""
    pages = json_pages([photo(n) for n in range(1, 60_001)])
    is_killed = threading.Event()

    def answer(request):
        # However fast the worker is, it is killed in mid-run.
        if request.query["_page"] == "40":
            assert is_killed.wait(60)
        return pages(request)

    remote = Remote(answer)
    with remote:
        worker = stack.start_worker(PHOTOS_API_URL=remote.url)
        run = stack.summary("trigger", "photos", "--json")["run"]
        progress = f"SELECT read FROM ingestion_run WHERE id = {run} AND read > 0"
        wait_until(lambda: stack.query(progress), what="the first commit")
        stack.stop(worker, kill=True)
        is_killed.set()
        [(read, state)] = stack.query(f"SELECT read, state FROM ingestion_run WHERE id = {run}")
        assert (0 < read < 60_000, state) == (True, "running")
        assert stack.query("SELECT count(*) FROM photos") == [(read,)]
        stack.start_worker(PHOTOS_API_URL=remote.url)
        ended = f"SELECT state FROM ingestion_run WHERE id = {run} AND finished_at IS NOT NULL"
        assert wait_until(lambda: stack.query(ended), what="the end of the run") == [("succeeded",)]
    assert stack.query("SELECT count(*), count(DISTINCT remote_id), max(remote_id) FROM photos") == [
        (60_000, 60_000, 60_000)
    ]
    [totals] = stack.query(f"SELECT read, inserted, updated, unchanged, rejected FROM ingestion_run WHERE id = {run}")
    assert totals == (60_000, 60_000, 0, 0, 0)


def test_a_run_requested_while_no_worker_runs_starts_with_the_next_worker(stack):
    url = stack.start_api(photos=1000)
    queued = stack.summary("trigger", "photos", "--json", PHOTOS_API_URL=url)
    assert queued["state"] == "queued"
    stack.query("SELECT 1")
    stack.start_worker(PHOTOS_API_URL=url)
    ended = "SELECT state, inserted FROM ingestion_run WHERE finished_at IS NOT NULL"
    assert wait_until(lambda: stack.query(ended), what="the end of the run") == [("succeeded", 1000)]


def test_beat_creates_the_feeds_entry_once_and_starts_its_runs(stack):
    """The entry belongs to the operator: set to every second it fires, deleted it stays deleted."""
    url = stack.start_api(photos=1000)
    [(every,)] = stack.query(
        "SELECT every FROM django_celery_beat_periodictask t JOIN django_celery_beat_intervalschedule s"
        " ON s.id = t.interval_id WHERE t.name = 'sync photos' AND t.enabled"
    )
    assert every == 3600
    stack.manage("shell", "-c", (
        "from django_celery_beat.models import *;"
        "task = PeriodicTask.objects.get(name='sync photos');"
        "task.interval = IntervalSchedule.objects.create(every=1, period='seconds'); task.save()"
    ))  # fmt: skip
    stack.start_worker(PHOTOS_API_URL=url)
    stack.start("beat", "celery", "-A", "config", "beat", "-l", "INFO")
    twice = "SELECT count(*) FROM ingestion_run WHERE trigger = 'schedule' AND state = 'succeeded' HAVING count(*) > 1"
    wait_until(lambda: stack.query(twice), what="the second scheduled run")
    stack.manage(
        "shell", "-c", "from django_celery_beat.models import *; PeriodicTask.objects.get(name='sync photos').delete()"
    )
    stack.manage("migrate", "-v0")
    assert stack.query("SELECT count(*) FROM django_celery_beat_periodictask WHERE name = 'sync photos'") == [(0,)]


def test_memory_does_not_grow_with_the_number_of_records(stack):
    """Peak RSS of the pool child: 100 times the records, at most 10 MiB more."""
    peaks = {}
    for photos in (5_000, 500_000):
        url = stack.start_api(photos=photos)
        worker = stack.start_worker(PHOTOS_API_URL=url)
        summary = stack.summary("trigger", "photos", "--wait", "--json")
        assert (summary["state"], summary["read"]) == ("succeeded", photos)
        peaks[photos] = max(peak_rss_mib(child) for child in children(worker.pid))
        stack.stop(worker)
    print(f"peak RSS of the worker in MiB: {peaks}")
    assert peaks[500_000] - peaks[5_000] <= 10


def peak_rss_mib(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
