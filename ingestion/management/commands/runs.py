"""`manage.py runs`: the run history, and what the requests of runs cost."""

import json
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ingestion import tracing
from ingestion.management.arguments import positive
from ingestion.management.commands.ingest import describe
from ingestion.models import Run


class Command(BaseCommand):
    help = "List the latest runs, newest first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("feed", nargs="?", help="only this feed's")
        parser.add_argument("--json", action="store_true", help="one JSON object a line")
        parser.add_argument("--limit", type=positive, default=20, metavar="N", help="at most N runs (default 20)")
        parser.add_argument("--run", type=int, metavar="RUN", help="only this run")
        parser.add_argument("--requests", action="store_true", help="with what their requests cost")

    def handle(self, *args: Any, **options: Any) -> None:
        # Traces are some kilobytes a run.
        found = Run.objects.select_related("feed", *(["traced"] if options["requests"] else []))
        if options["feed"]:
            found = found.filter(feed__name=options["feed"])
        if options["run"]:
            found = found.filter(pk=options["run"])
        for run in found[: options["limit"]]:
            summary = run.summary()
            requests = tracing.summary(tracing.load(getattr(run, "traced", None))) if options["requests"] else {}
            if options["json"]:
                self.stdout.write(json.dumps(summary | ({"requests": requests} if requests else {})))
                continue
            self.stdout.write(describe(summary))
            for line in _lines(requests):
                self.stdout.write(f"  {line}")


def _lines(requests: dict[str, Any]) -> Iterator[str]:
    for total in requests.get("totals", ()):
        yield (
            f"{total['host']} answered {total['requests']:,} × {total['status'] or 'nothing'}: "
            f"{total['size_bytes']:,} bytes in {total['seconds']:,.3f} s, after {total['waited']:,.3f} s of waiting"
        )
    for kind in ("slowest", "newest"):
        for trace in requests.get(kind, ()):
            page = "" if trace["page"] is None else f", page {trace['page']:,}"
            yield (
                f"{kind}: {trace['at']} {trace['request']} {trace['status'] or 'no answer'}, "
                f"{trace['size_bytes']:,} bytes in {trace['seconds']:,.3f} s, after {trace['waited']:,.3f} s, "
                f"attempt {trace['attempt']}{page}"
            )
