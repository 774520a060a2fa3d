"""The engine with workers: a run of several parts, advanced by one or more processes that do what a worker's task does.

Messages go through pipes instead of the broker, and nothing else is left out: the first part divides the run and wakes
the others, whoever is free takes the next message, claims its part and advances it.
"""

import json
import os
import queue
import subprocess
import sys
import threading

from tests.bench.loads import Job, Timed


def one(job: Job) -> Timed:
    """Run the feed `job.option` with one worker."""
    return _run(job, workers=1)


def two(job: Job) -> Timed:
    """Run the feed `job.option` with two workers."""
    return _run(job, workers=2)


def _run(job: Job, *, workers: int) -> Timed:
    import django

    django.setup()
    from ingestion import runs
    from ingestion.models import ENDED, Run, Trigger

    started = [Worker() for _ in range(workers)]

    def run():
        run, _ = runs.request(job.option, trigger=Trigger.COMMAND, wake_workers=False)
        messages: queue.Queue[int | None] = queue.Queue()
        messages.put(run.parts.get().pk)
        threads = [threading.Thread(target=worker.work, args=(messages, run.pk)) for worker in started]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        run.refresh_from_db()
        summary = run.summary()
        assert summary["state"] == "succeeded", summary
        assert run.state in ENDED
        notes = {name: summary[name] for name in ("read", "inserted", "updated", "unchanged")}
        return notes | {
            "parts": Run.objects.get(pk=run.pk).parts.count(),
            "parts_of_workers": [worker.parts for worker in started],
            "cpu_seconds": sum(worker.cpu_seconds for worker in started),
            "peak_bytes": max(worker.peak_bytes for worker in started),
        }

    return run


class Worker:
    """A process that is ready to advance parts."""

    def __init__(self) -> None:
        self.parts = 0
        self.cpu_seconds = 0.0
        self.peak_bytes = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.loads.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == {"ready": True}

    def work(self, messages: "queue.Queue[int | None]", run: int) -> None:
        """Take messages until the run has ended, and hand on those that the process sends."""
        while (part := messages.get()) is not None:
            assert self._process.stdin is not None
            self._process.stdin.write(f"{part}\n")
            self._process.stdin.flush()
            while "ended" not in (said := self._read()):
                messages.put(said["wake"])
            self.parts += 1
            self.cpu_seconds += said["cpu_seconds"]
            self.peak_bytes = said["peak_bytes"]
            if said["ended"]:
                messages.put(None)
        messages.put(None)

    def _read(self):
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def wake(part: int) -> None:
    """Ask for a worker, as INGESTION_WAKE says."""
    _say(wake=part)


def _say(**said) -> None:
    print(json.dumps(said), flush=True)


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django
    from django.conf import settings

    django.setup()
    settings.INGESTION_WAKE = "tests.bench.loads.workers.wake"
    from django.db import connection

    from ingestion import pipeline, waking
    from ingestion.models import ENDED, Part
    from tests.bench.child import cpu_seconds, peak_bytes

    connection.ensure_connection()
    _say(ready=True)
    for line in sys.stdin:
        part, cpu = int(line), cpu_seconds()
        pipeline.advance(part, slice_seconds=3600)
        waking.wake(waking.due_parts(beside=part))
        ended = Part.objects.select_related("run").get(pk=part).run.state in ENDED
        _say(ended=ended, cpu_seconds=cpu_seconds() - cpu, peak_bytes=peak_bytes())


if __name__ == "__main__":
    main()
