"""A feed of files for the tests: one table, and whatever source and format each test wants."""

from datetime import timedelta
from typing import Any

from ingestion import pipeline
from ingestion.feeds import Feed, Upsert
from ingestion.http import Retry
from ingestion.models import Run, SourceFile
from ingestion.sources import Csv, Disk, Files
from tests.ingestion.catalog import COLUMNS
from tests.ingestion.slices import begin, finish

# Tries again at once, and not often.
QUICK = {"retry": Retry(attempts=3, wait_initial=timedelta(milliseconds=5))}


class Shelf:
    """Declares a feed `shelf` beside the photos feed, and runs it."""

    def __init__(self, monkeypatch: Any, model: Any, folder: Any) -> None:
        self.monkeypatch, self.model, self.folder = monkeypatch, model, folder

    def write(self, name: str, *codes: int, header: str = "code,name") -> None:
        """Write a CSV file of products."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([header, *(f"{code},product {code}" for code in codes)]) + "\n")

    def declare(self, *, target: Any = None, place: Any = None, feed: dict[str, Any] | None = None, **options: Any):
        options = {"pattern": "*.csv", "format": Csv()} | QUICK | options
        source = Files(place=place or Disk(folder=self.folder), **options)
        declared = {"columns": COLUMNS} | (feed or {})
        self.monkeypatch.setattr(
            "photos.feeds.SHELF",
            Feed(name="shelf", source=source, target=target or Upsert(self.model, key="code"), **declared),
            raising=False,
        )
        return source

    def sync(self, *, limit: int | None = None, dry_run: bool = False, **options: Any) -> dict[str, Any]:
        """Run the feed to its end and return the summary."""
        self.declare(**options)
        return pipeline.run_here("shelf", limit=limit, dry_run=dry_run).summary

    def in_slices(self, **options: Any) -> Run:
        """Run the feed in slices of one chunk."""
        finish(self.begin(**options))
        return Run.objects.latest("pk")

    def begin(self, **options: Any) -> int:
        """Ask for a run of chunks of one page, and return its part."""
        feed = {"chunk_rows": 1} | options.pop("feed", {})
        self.declare(feed=feed, **options)
        part: int = begin("shelf").parts.get().pk
        return part

    def codes(self) -> list[int]:
        return list(self.model.objects.order_by("code").values_list("code", flat=True))

    def loaded(self) -> list[str]:
        return list(SourceFile.objects.order_by("name").values_list("name", flat=True))
