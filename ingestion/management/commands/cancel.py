"""`manage.py cancel RUN`: end an active run; what it has committed stays."""

import getpass
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ingestion import interventions
from ingestion.errors import WrongState
from ingestion.management.commands.ingest import describe


class Command(BaseCommand):
    help = "Cancel a run that is queued, running or waiting; nothing is written by it afterwards."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run", type=int, help="its number, as `runs` shows it")
        parser.add_argument("--json", action="store_true", help="print the summary as JSON in the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            run = interventions.cancel(options["run"], by=getpass.getuser())
        except WrongState as error:
            raise CommandError(str(error)) from error
        summary = run.summary()
        self.stdout.write(json.dumps(summary) if options["json"] else describe(summary))
