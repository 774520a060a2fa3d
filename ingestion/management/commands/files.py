"""`manage.py files FEED`: the files that a feed has loaded, and forgetting some, so that they are read again."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ingestion import feeds, remembering
from ingestion.errors import ConfigurationError
from ingestion.management.arguments import positive
from ingestion.models import SourceFile


class Command(BaseCommand):
    help = "List the files that a feed has loaded, the last ones first; or forget some, so that they are read again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("feed")
        parser.add_argument("--json", action="store_true", help="one JSON object a line")
        parser.add_argument("--limit", type=positive, default=50, metavar="N", help="list at most N files (default 50)")
        parser.add_argument("--forget", action="append", metavar="NAME", help="forget this file; may be given again")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            feed = feeds.get(options["feed"])
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
        if options["forget"]:
            forgotten = remembering.forget_files(feed.name, options["forget"])
            self.stdout.write(f"{feed.name}: forgot {forgotten} of {len(options['forget'])} files")
            return
        loaded = SourceFile.objects.filter(feed__name=feed.name).order_by("-loaded_at", "name")
        for file in loaded[: options["limit"]]:
            self.stdout.write(json.dumps(_values(file)) if options["json"] else _line(file))


def _values(file: SourceFile) -> dict[str, Any]:
    return {
        "name": file.name,
        "version": file.version,
        "size_bytes": file.size_bytes,
        "modified_at": file.modified_at.isoformat() if file.modified_at else None,
        "records": file.records,
        "loaded_at": file.loaded_at.isoformat(),
        "run": file.run_id,
    }


def _line(file: SourceFile) -> str:
    size = "" if file.size_bytes is None else f"{file.size_bytes:,} bytes, "
    records = "" if file.records is None else f"{file.records:,} record{'' if file.records == 1 else 's'}, "
    return f"{file.name}: {size}{records}loaded {file.loaded_at:%Y-%m-%d %H:%M:%S} by run {file.run_id}"
