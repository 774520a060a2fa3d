"""A hostile remote for the tests of bad input: its pages are bytes, its feed is declared beside the photos feed."""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from django.db import models

from ingestion import pipeline
from ingestion.cleaning import whole_record
from ingestion.feeds import Feed, Upsert
from ingestion.models import Part, Reject
from ingestion.pagination import PageNumber
from ingestion.sources import JsonApi
from tests.remote import Remote, Reply, json_list

RECORDS = 3

FIELDS = {
    "id": models.BigIntegerField(primary_key=True),
    "v": models.TextField(null=True),
    "raw": models.JSONField(null=True),
}


def good(*numbers: int) -> list[dict[str, Any]]:
    return [{"id": number} for number in numbers]


def record(value: Any) -> bytes:
    """Return the record with the key 5 and a value: JSON text where it is bytes."""
    return b'{"id":5,"v":' + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"}"


def name_of(value: object) -> str:
    """Name a parameter, whatever is in it."""
    return ascii(value)[:40]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is left of a run: its summary, its table, its quarantine and its cursor."""

    summary: dict[str, Any]
    rows: list[tuple[Any, ...]]
    rejects: list[Reject]
    page: int | None

    @property
    def counts(self) -> dict[str, int]:
        names = ("read", "inserted", "updated", "unchanged", "duplicates", "rejected")
        return {name: self.summary[name] for name in names if self.summary[name]}

    @property
    def code(self) -> str:
        """The code of the run's error; empty for a run that succeeded."""
        return str(self.summary["error"] or "").split(":")[0]


class Hostile:
    """Serves pages, bytes or replies, in turn, and an empty one behind the last; runs a feed of them to its end."""

    def __init__(self, monkeypatch: Any, model: Any) -> None:
        self._monkeypatch = monkeypatch
        self.model = model

    def sync(self, *pages: bytes | Reply, columns: dict[str, Any] | None = None, **options: Any) -> Outcome:
        """Run the feed over the pages, each a chunk of its own.

        Args:
            columns: of the feed; `id`, `v` and the whole record as `raw` when not given.
            options: of the feed, or of its source.
        """
        replies = [page if isinstance(page, Reply) else Reply(body=page) for page in pages]

        def answer(request: Any) -> Reply:
            number = int(request.query["page"])
            return replies[number - 1] if number <= len(replies) else Reply(body=b"[]")

        with Remote(answer) as remote:
            source = JsonApi(url=remote.url, pagination=PageNumber(param="page", size=RECORDS))
            names = [name for name in options if hasattr(source, name)]
            source = replace(source, **{name: options.pop(name) for name in names})
            feed = Feed(
                name="hostile",
                source=source,
                columns=columns or {"id": "id", "v": "v", "raw": whole_record},
                **{"target": Upsert(self.model, key="id"), "chunk_rows": 1} | options,
            )
            self._monkeypatch.setattr("photos.feeds.HOSTILE", feed, raising=False)
            summary = pipeline.run_here("hostile").summary
        cursor = Part.objects.get(run_id=summary["run"]).cursor
        return Outcome(
            summary=summary,
            rows=list(self.model.objects.order_by("id").values_list(*feed.columns)),
            rejects=list(Reject.objects.filter(run_id=summary["run"]).order_by("page", "position")),
            page=cursor["pages"] if cursor else None,
        )

    def beside_good_ones(self, record: bytes, **options: Any) -> Outcome:
        """Run the feed over a page of good records and one that has the record between two good ones."""
        return self.sync(json_list(good(1, 2, 3)), json_list([b'{"id":4}', record, b'{"id":6}']), **options)


def assert_loaded(outcome: Outcome, value: Any, coercions: dict[str, int] | None = None) -> None:
    """Assert that the record between the good ones, with the key 5, was loaded with this value, as was all else."""
    assert (outcome.summary["state"], outcome.summary["error"]) == ("succeeded", None)
    assert outcome.counts == {"read": 6, "inserted": 6}
    assert [row[0] for row in outcome.rows] == [1, 2, 3, 4, 5, 6]
    stored = outcome.rows[4][1]
    assert (stored, type(stored)) == (value, type(value))
    assert outcome.summary["coercions"] == (coercions or {})


def assert_quarantined(outcome: Outcome, record: bytes, reason: str, field: str | None, key: str = "5") -> None:
    """Assert that the record between the good ones is in the quarantine as it was sent, and all others in the table."""
    assert (outcome.summary["state"], outcome.summary["error"]) == ("succeeded", None)
    assert outcome.counts == {"read": 6, "inserted": 5, "rejected": 1}
    assert [row[0] for row in outcome.rows] == [1, 2, 3, 4, 6]
    (reject,) = outcome.rejects
    assert (reject.reason, reject.field, reject.key) == (reason, field or "", key)
    assert (reject.page, reject.position) == (2, 1)
    assert (bytes(reject.raw), reject.size_bytes) == (record[: 64 * 1024], len(record))
    assert reject.digest == hashlib.sha256(record).hexdigest()


def assert_failed(outcome: Outcome, code: str, *fragments: str) -> None:
    """Assert that the run failed with a clear error; the page before is loaded, and the cursor stands behind it."""
    assert (outcome.summary["state"], outcome.code) == ("failed", code)
    assert [fragment for fragment in fragments if fragment not in outcome.summary["error"]] == []
    assert len(outcome.summary["error"]) < 500
    assert [row[0] for row in outcome.rows] == [1, 2, 3]
    assert outcome.page == 1
    assert outcome.rejects == []
