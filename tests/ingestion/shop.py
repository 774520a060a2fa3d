"""A feed that skips unchanged pages, for the tests of it: its remote and its table are real."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from django.db import connection

from ingestion import pipeline
from ingestion.feeds import Feed, Upsert
from ingestion.models import Run
from ingestion.pagination import PageNumber
from ingestion.sources import JsonApi
from tests.ingestion.catalog import COLUMNS, products
from tests.ingestion.slices import in_slices
from tests.remote import Remote, Reply, Request, json_list


class Shop:
    """Serves pages of products, two on each, and syncs them; `asked` is called with the number of each page."""

    def __init__(self, monkeypatch: Any, model: Any, pages: int) -> None:
        self._monkeypatch = monkeypatch
        self.model = model
        self.pages: list[list[Any]] = [products(2 * number, 2 * number + 1) for number in range(1, pages + 1)]
        self.content_type = "application/json"
        self.asked: Any = lambda number: None
        self.broken: set[int] = set()
        self.remote = Remote(self._answer)
        self.options: dict[str, Any] = {"chunk_rows": 1}

    def _answer(self, request: Request) -> Reply:
        number = int(request.query["page"])
        self.asked(number)
        if number in self.broken:
            return Reply(404)
        total = str(sum(map(len, self.pages)))
        headers = {"X-Total-Count": total, "Content-Type": self.content_type}
        return Reply(body=json_list(self.pages[number - 1]), headers=headers)

    def declare(self, **options: Any) -> None:
        """Declare the feed; options stay for the next time."""
        self.options |= options
        options = {
            "source": JsonApi(
                url=self.remote.url,
                pagination=PageNumber(param="page", size=2, total_header="X-Total-Count"),
            ),
            "columns": COLUMNS,
            "target": Upsert(self.model, key="code"),
            "skip_unchanged_pages": True,
        } | self.options
        self._monkeypatch.setattr("photos.feeds.SHOP", Feed(name="shop", **options), raising=False)

    def sync(self, *, limit: int | None = None, dry_run: bool = False, full: bool = False, **options: Any) -> Any:
        """Run the feed to its end and return its summary."""
        self.declare(**options)
        return pipeline.run_here("shop", limit=limit, dry_run=dry_run, full=full).summary

    def in_slices(self) -> Run:
        """Run the feed in slices of one chunk, each claimed anew, as workers do that take over from each other."""
        self.declare()
        run, _ = in_slices("shop")
        return run

    def skipped(self, **options: Any) -> int:
        """Run the feed, which has to succeed, and return how many pages it skipped."""
        summary = self.sync(**options)
        assert summary["state"] == "succeeded", summary
        return int(summary["pages_skipped"])

    def names(self) -> dict[int, str]:
        return dict(self.model.objects.values_list("code", "name"))

    def expected(self) -> dict[int, str]:
        return {record["code"]: record["name"] for page in self.pages for record in page}


@contextmanager
def somebody() -> Iterator[Any]:
    """Give a cursor of another session, which commits each statement."""
    other = psycopg2.connect(**connection.get_connection_params())
    other.autocommit = True
    try:
        with other.cursor() as cursor:
            yield cursor
    finally:
        other.close()
