"""`manage.py resume RUN`: let the workers go on with a run that failed or was cancelled."""

import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ingestion import interventions
from ingestion.errors import IngestionError
from ingestion.management.commands.trigger import report


class Command(BaseCommand):
    help = "Ask the workers to go on with a run from its cursor; with --wait the exit status is 0 when it succeeded."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run", type=int, help="its number, as `runs` shows it")
        parser.add_argument("--wait", action="store_true", help="wait for the run to end and report it")
        parser.add_argument("--json", action="store_true", help="print the summary as JSON in the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            run = interventions.resume(options["run"], by=getpass.getuser())
        except IngestionError as error:
            raise CommandError(str(error)) from error
        report(self.stdout, run, is_json=options["json"], is_waiting=options["wait"])
