"""`manage.py rejects FEED`: the quarantine."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Count

from ingestion import feeds
from ingestion.errors import ConfigurationError
from ingestion.models import Reject


class Command(BaseCommand):
    help = "List a feed's quarantined records, newest first, and count them by reason."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("feed")
        parser.add_argument("--json", action="store_true", help="one JSON object a line, without the counts")
        parser.add_argument("--limit", type=int, default=50, metavar="N", help="at most N records (default 50)")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            feed = feeds.get(options["feed"])
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
        found = Reject.objects.filter(feed__name=feed.name)
        for reject in found[: options["limit"]]:
            self.stdout.write(json.dumps(_shown(reject)) if options["json"] else _line(reject))
        if not options["json"]:
            counts = found.order_by().values("reason", "field").annotate(records=Count("pk")).order_by("-records")
            for count in counts:
                self.stdout.write(f"{count['records']:>8,}  {count['reason']}  {count['field']}".rstrip())


def _shown(reject: Reject) -> dict[str, Any]:
    """Return a reject as JSON; bytes that are not UTF-8 are shown as backslash escapes."""
    return {
        "id": reject.pk,
        "run": reject.run_id,
        "reason": reject.reason,
        "field": reject.field or None,
        "detail": reject.detail,
        "page": reject.page,
        "position": reject.position,
        "key": reject.key or None,
        "size_bytes": reject.size_bytes,
        "digest": reject.digest,
        "raw": bytes(reject.raw).decode("utf-8", "backslashreplace"),
    }


def _line(reject: Reject) -> str:
    key = f" key {reject.key}" if reject.key else ""
    where = f"run {reject.run_id} page {reject.page} record {reject.position}{key}"
    return f"{where}: {reject.reason} {reject.field}: {reject.detail}"
