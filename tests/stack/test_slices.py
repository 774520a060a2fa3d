"""Slices in real processes: a worker that is to stop, one that is frozen, a run that is cancelled and resumed."""

import os
import signal
import time

import pytest

from photos.sample_api import photo
from tests.processes import children, wait_until
from tests.remote import Remote, json_pages

# 60 pages; each takes a moment, so that a chunk is a page or two and the run lasts far longer than a chunk.
PAGES, PAGE_SECONDS = 60, 0.25


@pytest.fixture
def remote():
    served = json_pages([photo(n) for n in range(1, PAGES * 1000 + 1)])

    def slowly(request):
        time.sleep(PAGE_SECONDS)
        return served(request)

    with Remote(slowly) as remote:
        yield remote


def started(stack) -> int:
    run: int = stack.summary("trigger", "photos", "--json")["run"]
    wait_until(lambda: stack.query(f"SELECT 1 FROM ingestion_run WHERE id = {run} AND read > 0"), what="a commit")
    return run


def test_sigterm_ends_the_slice_at_the_next_chunk_and_the_next_worker_goes_on_at_once(stack, remote):
    worker = stack.start_worker(PHOTOS_API_URL=remote.url)
    run = started(stack)
    asked_at = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    part = f"SELECT owner, attempts, epoch FROM ingestion_part WHERE run_id = {run} AND state = 'queued'"
    assert wait_until(lambda: stack.query(part), seconds=10, what="the part given back") == [("", 0, 1)]
    took = time.monotonic() - asked_at
    print(f"the part was given back {took:.2f} s after SIGTERM")
    assert worker.wait(20) == 0
    [(read, rows)] = stack.query(f"SELECT read, (SELECT count(*) FROM photos) FROM ingestion_run WHERE id = {run}")
    assert 0 < read == rows < PAGES * 1000
    pages = len(remote.requests)
    stack.start_worker(PHOTOS_API_URL=remote.url)
    wait_until(lambda: stack.query(f"SELECT 1 FROM ingestion_part WHERE run_id = {run} AND epoch = 2"), seconds=10)
    wait_until(lambda: len(remote.requests) > pages)
    # What was read ahead and not committed is read again, and no more than that.
    assert int(remote.queries[pages]["_page"]) == read // 1000 + 1
    assert stack.summary("cancel", str(run), "--json")["state"] == "cancelled"
    history = stack.query("SELECT epoch, outcome FROM ingestion_attempt WHERE worker LIKE 'celery@%' ORDER BY epoch")
    assert history == [(1, "released"), (2, "cancelled")]


def test_a_frozen_owner_that_wakes_up_after_a_takeover_writes_nothing_more(stack, remote):
    worker = stack.start_worker(PHOTOS_API_URL=remote.url)
    run = started(stack)
    frozen = [worker.pid, *children(worker.pid)]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    # Its lease runs out, without 20 s of waiting for it.
    stack.query(
        f"UPDATE ingestion_part SET leased_until = now() - interval '1 s' WHERE run_id = {run} RETURNING 1", commit=True
    )
    remote.answer = json_pages([photo(n) for n in range(1, PAGES * 1000 + 1)])
    second = stack.start_worker("-n", "second@%h", PHOTOS_API_URL=remote.url)
    ended = f"SELECT state, read, inserted FROM ingestion_run WHERE id = {run} AND finished_at IS NOT NULL"
    total = PAGES * 1000
    assert wait_until(lambda: stack.query(ended), what="the end") == [("succeeded", total, total)]
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    # It takes the next message: it has left its slice.
    stack.stop(second)
    assert stack.summary("trigger", "photos", "--wait", "--json")["unchanged"] == total
    assert stack.query(ended) == [("succeeded", total, total)]


def test_a_running_run_is_cancelled_at_once_and_resumed_from_its_cursor(stack, remote):
    stack.start_worker(PHOTOS_API_URL=remote.url)
    run = started(stack)
    cancelled = stack.summary("cancel", str(run), "--json")
    assert (cancelled["state"], cancelled["run"]) == ("cancelled", run)
    read = cancelled["read"]
    # Its worker is free again at once, and what it was doing has left nothing.
    remote.answer = json_pages([photo(n) for n in range(1, PAGES * 1000 + 1)])
    assert stack.query("SELECT count(*) FROM photos") == [(read,)]
    resumed = stack.summary("resume", str(run), "--wait", "--json")
    assert (resumed["state"], resumed["read"], resumed["inserted"]) == ("succeeded", PAGES * 1000, PAGES * 1000)
    again = stack.manage("resume", str(run), check=False)
    assert (again.returncode, "cannot be resumed: it has succeeded" in again.stderr) == (1, True)
