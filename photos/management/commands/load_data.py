"""`manage.py load_data`: the loaders of the article side by side."""

import io
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from ingestion.management.arguments import positive
from photos import article
from photos.profiling import LoaderError
from photos.sample_api import photo
from photos.sample_records import PHOTOS


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one loader; `error` is None when it stored exactly the photos."""

    loader: str
    rows: int
    seconds: float | None
    peak_mib: float | None
    error: str | None


class Command(BaseCommand):
    help = (
        "Load sample photos with each of the article's loaders and compare time and peak memory. "
        "They fill the table load_data_photos, which is dropped afterwards; the synced photos are not touched."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--loader",
            action="append",
            choices=list(article.LOADERS),
            help="load with this one; may be given several times (default: all)",
        )
        parser.add_argument(
            "--times",
            type=positive,
            default=1,
            metavar="N",
            help=f"load the {PHOTOS:,} photos N times over; 100 gives the article's 500,000 rows (default: 1)",
        )
        parser.add_argument("--keep", action="store_true", help="keep the table, filled by the last loader")
        parser.add_argument("--json", action="store_true", help="print the summary as JSON in the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.monotonic()
        names = list(dict.fromkeys(options["loader"] or article.LOADERS))
        article.create_table()
        try:
            with _terminated_as_interrupted():
                outcomes = list(self._load_with_each(names, options["times"]))
        except KeyboardInterrupt:
            raise CommandError("interrupted", returncode=130) from None  # as a shell reports SIGINT
        finally:
            if not options["keep"]:
                article.drop_table()
        self.stdout.write("\n" + _table(outcomes))
        error = "; ".join(f"{outcome.loader}: {outcome.error}" for outcome in outcomes if outcome.error) or None
        if options["json"]:
            summary = _summary(outcomes, rows=options["times"] * PHOTOS, seconds=time.monotonic() - started)
            self.stdout.write(json.dumps(summary | {"state": "failed" if error else "succeeded", "error": error}))
        if error:
            raise CommandError(error)

    def _load_with_each(self, names: list[str], times: int) -> Iterator[Outcome]:
        reference: article.Contents | None = None
        for name in names:
            outcome, contents = self._load(name, times, reference)
            if outcome.error is None:
                reference = reference or contents
            yield outcome

    def _load(self, name: str, times: int, reference: article.Contents | None) -> tuple[Outcome, article.Contents]:
        seconds = peak_mib = error = None
        try:
            found = article.LOADERS[name](
                lambda: make_photos(times), empty_table=article.empty_table, write=self.stdout.write
            )
            seconds, peak_mib = round(found.seconds, 3), round(found.peak_mib, 2)
        except LoaderError as failed:
            error = str(failed)
            self.stdout.write(f"Failed {error}")
        contents = article.read_contents()
        error = error or complaint(contents, rows=times * PHOTOS, reference=reference)
        outcome = Outcome(loader=name, rows=contents.rows, seconds=seconds, peak_mib=peak_mib, error=error)
        return outcome, contents


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does: the load is stopped and the table dropped."""
    if threading.current_thread() is not threading.main_thread():  # Python lets no other thread set handlers
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def make_photos(times: int) -> Iterator[article.Photo]:
    """Make the sample photos, so many times over; holds one."""
    return chain.from_iterable(map(photo, range(1, PHOTOS + 1)) for _ in range(times))


def complaint(contents: article.Contents, *, rows: int, reference: article.Contents | None) -> str | None:
    """Say what is wrong with what a loader stored, or None; `reference` is what another one stored."""
    if contents.rows != rows:
        return f"stored {contents.rows:,} rows of {rows:,}"
    if contents.spoilt:
        return f"stored {contents.spoilt:,} rows whose title or url is not the photo's"
    if reference is not None and contents != reference:
        return "stored other contents than the loader before it"
    return None


def _table(outcomes: list[Outcome]) -> str:
    table = Table()
    table.add_column("loader")
    for heading in ("rows", "seconds", "rows/s", "peak MiB"):
        table.add_column(heading, justify="right")
    for outcome in outcomes:
        if outcome.error is not None or outcome.seconds is None:
            table.add_row(outcome.loader, f"{outcome.rows:,}", "failed", "", "")
        else:
            rate = f"{outcome.rows / outcome.seconds:,.0f}"
            table.add_row(
                outcome.loader, f"{outcome.rows:,}", f"{outcome.seconds:.2f}", rate, f"{outcome.peak_mib:.2f}"
            )
    text = io.StringIO()
    Console(file=text, width=80).print(table)
    return text.getvalue()


def _summary(outcomes: list[Outcome], *, rows: int, seconds: float) -> dict[str, Any]:
    return {
        "state": None,
        "rows": rows,
        "loaders": [
            {name: getattr(outcome, name) for name in ("loader", "rows", "seconds", "peak_mib")} for outcome in outcomes
        ],
        "seconds": round(seconds, 3),
        "error": None,
    }
