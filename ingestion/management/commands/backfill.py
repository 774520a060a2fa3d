"""`manage.py backfill FEED --from DATE --to DATE`: read a period of a feed's past beside its other runs."""

import getpass
from argparse import ArgumentTypeError
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ingestion import backfills, runs
from ingestion.errors import ConfigurationError
from ingestion.management.commands.trigger import report


class Command(BaseCommand):
    help = "Ask the workers to read a period of a feed's past, window by window, beside its other runs."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("feed")
        parser.add_argument("--from", dest="start", type=moment, required=True, metavar="DATE", help="the first day")
        parser.add_argument(
            "--to", dest="end", type=moment, required=True, metavar="DATE", help="the day after the last"
        )
        parser.add_argument("--wait", action="store_true", help="wait for it to end and report it")
        parser.add_argument("--json", action="store_true", help="print the summary as JSON in the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            run, created = backfills.request(options["feed"], options["start"], options["end"], by=getpass.getuser())
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
        if not created:
            self.stderr.write(runs.already_running(run))
        report(self.stdout, run, is_json=options["json"], is_waiting=options["wait"])


def moment(text: str) -> datetime:
    """Read a date or a time as ISO 8601 writes it; in UTC where it names no zone."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no date like 2026-11-23, and no time like 2026-11-23T12:00") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
