"""A remote that can be asked for what has changed, and an incremental feed of it, for the tests: both are real."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ingestion import pipeline
from ingestion.incremental import Incremental
from ingestion.models import FeedState, Run
from ingestion.pagination import PageNumber
from ingestion.sources import JsonApi
from photos.feeds import PHOTOS
from photos.models import Photo
from photos.sample_api import photo
from tests.remote import Remote, Reply, Request, json_list

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
# Long ago, so that no run's start is before it.
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


INCREMENTAL = Incremental(field="changedAt", since="since", overlap=timedelta(0))


class Changes:
    """Serves photos of which each has its time, ten on a page, those from `since` on in the order they were added.

    `write` is how the remote writes times, `read` how it reads them. `broken` is a page that is not there; `asked` is
    called with the number of each page.
    """

    def __init__(self, monkeypatch: Any) -> None:
        self._monkeypatch = monkeypatch
        self.records: dict[int, dict[str, Any]] = {}
        self.read: Any = datetime.fromisoformat
        self.write: Any = datetime.isoformat
        self.broken: int | None = None
        self.asked: Any = lambda number: None
        self.remote = Remote(self._answer)

    def add(self, number: int, at: Any, **more: Any) -> None:
        """Add a photo, or change it, at a time; None for a photo without a time."""
        self.records.pop(number, None)
        self.records[number] = photo(number) | {"at": at, "changedAt": self._written(at)} | more

    def _written(self, at: Any) -> Any:
        return self.write(at) if isinstance(at, datetime) else at

    def _answer(self, request: Request) -> Reply:
        number = int(request.query["page"])
        self.asked(number)
        if number == self.broken:
            return Reply(404)
        since = request.query.get("since")
        found = [record for record in list(self.records.values()) if since is None or self._is_from(record, since)]
        sent = [{name: value for name, value in record.items() if name != "at"} for record in found]
        return Reply(body=json_list(sent[(number - 1) * 10 : number * 10]))

    def _is_from(self, record: dict[str, Any], since: str) -> bool:
        return record["at"] is not None and record["at"] >= self.read(since)

    def declare(self, incremental: Incremental | None = INCREMENTAL, **options: Any) -> None:
        source = JsonApi(url=self.remote.url, pagination=PageNumber(param="page", size=10))
        options = {"source": source, "incremental": incremental, "chunk_rows": 1} | options
        self._monkeypatch.setattr("photos.feeds.PHOTOS", replace(PHOTOS, **options))

    def sync(self, **options: Any) -> dict[str, Any]:
        """Run the feed to its end and return its summary."""
        summary = pipeline.run_here("photos", **options).summary
        assert summary["state"] == "succeeded", summary["error"]
        return summary

    def asks(self, **options: Any) -> str | None:
        """Run the feed, and return what all requests of the run asked from."""
        before = len(self.remote.requests)
        self.sync(**options)
        (since,) = {query.get("since") for query in self.remote.queries[before:]}
        return since

    @property
    def watermark(self) -> Any:
        return FeedState.objects.get(name="photos").watermark

    def is_in_step(self) -> bool:
        """Whether the table has exactly what the remote has now."""
        rows = {row.remote_id: row.raw_data["changedAt"] for row in Photo.objects.all()}
        return rows == {number: record["changedAt"] for number, record in self.records.items()}


@contextmanager
def changes(monkeypatch: Any) -> Iterator[Changes]:
    """Serve changes, and declare the feed photos as an incremental one of them."""
    remote = Changes(monkeypatch)
    remote.declare()
    with remote.remote:
        yield remote


def last_run() -> Run:
    return Run.objects.latest("pk")
