"""`manage.py feeds`: the feeds, their state, last run and next run."""

import json
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.utils.module_loading import import_string

from ingestion import feeds, runs
from ingestion.models import Run


class Command(BaseCommand):
    help = "List the feeds with their state, last run and next run."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object a line")

    def handle(self, *args: Any, **options: Any) -> None:
        runs.remember_feeds()
        next_runs: dict[str, datetime] = import_string(settings.INGESTION_NEXT_RUNS)()
        for feed in sorted(feeds.declared(), key=lambda feed: feed.name):
            last = Run.objects.select_related("feed").filter(feed__name=feed.name).first()
            following = next_runs.get(feed.name)
            if options["json"]:
                summary = last.summary() if last else None
                at = following.isoformat() if following else None
                self.stdout.write(json.dumps({"feed": feed.name, "last_run": summary, "next_run_at": at}))
            else:
                state = f"{last.state} (run {last.pk}, {last.requested_at:%Y-%m-%d %H:%M:%S})" if last else "never ran"
                when = f"{following:%Y-%m-%d %H:%M:%S}" if following else "not scheduled"
                self.stdout.write(f"{feed.name:<24} {state:<44} next: {when}")
