"""`manage.py trigger FEED`: ask the workers to run a sync."""

import getpass
import json
import sys
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser, OutputWrapper
from rich.console import Console
from rich.status import Status

from ingestion import runs
from ingestion.errors import ConfigurationError
from ingestion.management.commands.ingest import describe
from ingestion.models import ENDED, TURN, Run, State, Trigger

POLL_SECONDS = 0.2


class Command(BaseCommand):
    help = "Ask the workers to sync a feed; with --wait the exit status is 0 when the run succeeded."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("feed")
        parser.add_argument(
            "--full", action="store_true", help="load everything: ignore the watermark, and what is unchanged"
        )
        parser.add_argument("--wait", action="store_true", help="wait for the run to end and report it")
        parser.add_argument("--json", action="store_true", help="print the summary as JSON in the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            run, created = runs.request(
                options["feed"], trigger=Trigger.COMMAND, by=getpass.getuser(), full=options["full"]
            )
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
        if not created:
            self.stderr.write(runs.already_running(run))
        report(self.stdout, run, is_json=options["json"], is_waiting=options["wait"])


def report(stdout: OutputWrapper, run: Run, *, is_json: bool, is_waiting: bool) -> None:
    """Print a run that the workers were asked for, once it has ended if that is waited for.

    Raises:
        SystemExit: 1, when it was waited for and has not succeeded.
    """
    if is_waiting:
        run = _wait(run)
    summary = run.summary()
    stdout.write(json.dumps(summary) if is_json else describe(summary))
    if is_waiting and run.state != State.SUCCEEDED:
        raise SystemExit(1)


def _wait(run: Run) -> Run:
    """Poll the run until it ended, showing its progress on stderr."""
    console = Console(file=sys.stderr)
    with console.status(f"run {run.pk}: waiting for a worker") as status:
        while (run := Run.objects.select_related("feed").get(pk=run.pk)).state not in ENDED:
            _show(run, status)
            time.sleep(POLL_SECONDS)
    return run


def _show(run: Run, status: Status) -> None:
    waiting = run.parts.exclude(waiting_for__in=("", TURN)).values_list("waiting_for", flat=True).first()
    progress = (
        f"{run.pages:,} pages, {run.read:,} records, {run.inserted + run.updated:,} written, {run.rejected:,} rejected"
    )
    status.update(f"{run.feed.name} run {run.pk} {run.state}: {progress}" + (f"; {waiting}" if waiting else ""))
