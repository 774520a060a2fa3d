"""The engine as it is used: `manage.py ingest`, without the start of Python and Django, which is timed apart."""

import os

from tests.bench.loads import Job, Timed
from tests.bench.loads.bookkeeping import timed


def ingest(job: Job) -> Timed:
    """Run the feed `job.option`: run rows, cursor, fences and commits of chunks included."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    from django.db import connection

    from ingestion.pipeline import run_here

    connection.ensure_connection()

    def run():
        with timed() as bookkeeping:
            summary = run_here(job.option).summary
        assert summary["state"] == "succeeded", summary
        counted = {name: summary[name] for name in ("read", "inserted", "updated", "unchanged", "deleted", "rejected")}
        return counted | {"bookkeeping_seconds": bookkeeping.seconds}

    return run
