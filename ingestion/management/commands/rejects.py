"""`manage.py rejects FEED`: the quarantine, listed, counted or exported."""

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Count

from ingestion import feeds, quarantine
from ingestion.errors import ConfigurationError
from ingestion.management.arguments import positive
from ingestion.models import Reject

WRITERS = {"csv": quarantine.write_csv, "ndjson": quarantine.write_ndjson}


class Command(BaseCommand):
    help = "List a feed's open rejects, newest first, and count them by reason; or export them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("feed")
        parser.add_argument("--all", action="store_true", help="resolved ones too")
        parser.add_argument("--json", action="store_true", help="one JSON object a line, without the counts")
        parser.add_argument(
            "--limit", type=positive, default=50, metavar="N", help="list at most N records (default 50)"
        )
        parser.add_argument("--export", choices=sorted(WRITERS), help="write all of them in this format instead")
        parser.add_argument("--output", type=Path, metavar="FILE", help="where to export to (default: stdout)")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            feed = feeds.get(options["feed"])
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
        found = Reject.objects.select_related("feed").filter(feed__name=feed.name)
        if not options["all"]:
            found = found.filter(resolved_at=None)
        if options["export"]:
            output: Path | None = options["output"]
            with output.open("w", newline="", encoding="utf-8") if output else nullcontext(sys.stdout) as file:
                WRITERS[options["export"]](found.iterator(chunk_size=100), file)
            return
        for reject in found[: options["limit"]]:
            self.stdout.write(json.dumps(quarantine.as_values(reject)) if options["json"] else _line(reject))
        if not options["json"]:
            counts = found.order_by().values("reason", "field").annotate(records=Count("pk")).order_by("-records")
            for count in counts:
                self.stdout.write(f"{count['records']:>8,}  {count['reason']}  {count['field']}".rstrip())


def _line(reject: Reject) -> str:
    key = f" key {reject.key}" if reject.key else ""
    part = "" if reject.part is None else f" part {reject.part}"
    where = f"run {reject.run_id}{part} page {reject.page} record {reject.position}{key}"
    return f"{where}: {reject.reason} {reject.field}: {reject.detail}"
