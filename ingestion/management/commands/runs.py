"""`manage.py runs`: the run history."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ingestion.management.commands.ingest import describe
from ingestion.models import Run


class Command(BaseCommand):
    help = "List the latest runs, newest first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("feed", nargs="?", help="only this feed's")
        parser.add_argument("--json", action="store_true", help="one JSON object a line")
        parser.add_argument("--limit", type=int, default=20, metavar="N", help="at most N runs (default 20)")

    def handle(self, *args: Any, **options: Any) -> None:
        found = Run.objects.select_related("feed")
        if options["feed"]:
            found = found.filter(feed__name=options["feed"])
        for run in found[: options["limit"]]:
            summary = run.summary()
            self.stdout.write(json.dumps(summary) if options["json"] else describe(summary))
