"""`manage.py replay FEED`: load quarantined records again, with today's feed."""

import getpass
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ingestion import quarantine
from ingestion.errors import IngestionError
from ingestion.management.commands.ingest import describe
from ingestion.models import Reject


class Command(BaseCommand):
    help = "Replay a feed's open rejects with today's feed definition; exit status 0 when none was refused again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("feed")
        parser.add_argument("--reason", help="only rejects with this reason")
        parser.add_argument("--run", type=int, help="only rejects of this run")
        parser.add_argument(
            "--id", type=int, action="append", dest="ids", metavar="ID", help="only this reject; repeatable"
        )
        parser.add_argument("--json", action="store_true", help="print each run's summary as a JSON line")

    def handle(self, *args: Any, **options: Any) -> None:
        rejects = Reject.objects.all()
        if options["reason"]:
            rejects = rejects.filter(reason=options["reason"])
        if options["run"]:
            rejects = rejects.filter(run=options["run"])
        if options["ids"]:
            rejects = rejects.filter(pk__in=options["ids"])
        refused = replayed = 0
        try:
            for run in quarantine.replay(options["feed"], rejects, by=getpass.getuser()):
                summary = run.summary()
                refused += run.rejected
                replayed += 1
                self.stdout.write(json.dumps(summary) if options["json"] else describe(summary))
        except IngestionError as error:
            raise CommandError(str(error)) from error
        if not replayed:
            self.stdout.write("" if options["json"] else "no open reject to replay")
        if refused:
            raise SystemExit(1)
