"""`manage.py ingest FEED`: a sync in the foreground, without broker or worker."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ingestion import drift, pipeline
from ingestion.errors import IngestionError
from ingestion.loaders import Difference
from ingestion.models import State

SHOWN_CHARACTERS = 300


class Command(BaseCommand):
    help = "Run a sync of a feed in the foreground; exit status 0 when it succeeded."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("feed")
        parser.add_argument("--json", action="store_true", help="print the summary as JSON in the last line")
        parser.add_argument(
            "--full", action="store_true", help="load everything: ignore the watermark, and what is unchanged"
        )
        parser.add_argument("--limit", type=int, metavar="N", help="stop after N records")
        parser.add_argument(
            "--confirm-deletes", action="store_true", help="let the run delete more rows than its feed allows"
        )
        parser.add_argument(
            "--accept-drift", action="store_true", help="go on where the feed lets changes of the source fail the run"
        )
        parser.add_argument("--dry-run", action="store_true", help="roll everything back and show the diff")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["limit"] is not None and options["limit"] < 1:
            raise CommandError("--limit takes a number of records, at least 1")
        try:
            report = pipeline.run_here(
                options["feed"],
                limit=options["limit"],
                dry_run=options["dry_run"],
                confirm_deletes=options["confirm_deletes"],
                accept_drift=options["accept_drift"],
                full=options["full"],
            )
        except IngestionError as error:
            raise CommandError(str(error)) from error
        for difference in report.differences:
            self.stdout.write(show(difference))
        self.stdout.write(json.dumps(report.summary) if options["json"] else describe(report.summary))
        if report.summary["state"] != State.SUCCEEDED:
            raise SystemExit(1)


def show(difference: Difference) -> str:
    """Return one row of a dry run's diff as a line: `+` for a new row, `~` with the columns that change."""
    key = ", ".join(f"{name}={value}" for name, value in difference.key.items())
    before = difference.before
    if before is None:
        return f"+ {key}: {_shortened(difference.after)}"
    changed = {name: value for name, value in difference.after.items() if before[name] != value}
    was = {name: before[name] for name in changed}
    return f"~ {key}: {_shortened(was)} -> {_shortened(changed)}"


def _shortened(values: dict[str, Any]) -> str:
    text = json.dumps(values, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def describe(summary: dict[str, Any]) -> str:
    """Return a run's summary as one line for people."""
    counts = ", ".join(
        f"{summary[name]:,} {name}"
        for name in ("read", "inserted", "updated", "unchanged", "deleted", "duplicates", "rejected", "skipped")
        if summary[name] or name == "read"
    )
    if summary["pages_skipped"]:
        counts += f", {summary['pages_skipped']:,} of {summary['pages']:,} pages skipped"
    took = f" in {summary['seconds']} s" if summary["seconds"] is not None else ""
    reason = summary["error"] or summary["waiting_for"]
    error = f": {reason}" if reason else ""
    changed = "; ".join(drift.describe(drift.change_from_json(change)) for change in summary["drift"])
    run = "dry run" if summary["run"] is None else f"run {summary['run']}"
    warned = "".join(f"; warning: {warning}" for warning in summary["warnings"])
    return (
        f"{summary['feed']}: {run} {summary['state']}{took}: {counts}{error}"
        + (f"; drift: {changed}" if changed and not summary["error"] else "")
        + warned
    )
