"""The quarantine after a record got there: superseded by a newer version, replayed, exported, forgotten."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, TextIO

import msgspec
from django.db.models import F, Max, QuerySet
from django.db.models.functions import Length, Now

from ingestion import chunks, claims, feeds, runs
from ingestion.collecting import Chunk
from ingestion.errors import AlreadyRunning
from ingestion.feeds import Plan, RejectLimit
from ingestion.models import Part, Reject, Resolution, Run, Trigger
from ingestion.preparation import Prepared, Preparer
from ingestion.transactions import brief
from ingestion.types import Page

# Records replayed together, in one transaction.
BATCH: Final = 1_000
# Rows removed by one statement, so that forgetting holds no lock for long.
FORGET_BATCH: Final = 5_000
# A spreadsheet takes a cell that begins so for a formula (OWASP, "CSV Injection").
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")

COLUMNS: Final = (
    "id", "feed", "run", "reason", "field", "detail", "part", "page", "position", "key", "size_bytes", "digest",
    "created_at", "resolved_at", "resolution", "raw",
)  # fmt: skip


def replay(name: str, rejects: QuerySet[Reject], *, by: str = "") -> Iterator[Run]:
    """Replay open rejects of a feed with today's definition, oldest first; yields a finished run per BATCH records.

    Each run is one transaction: its rows, the resolution of the rejects it replayed, and the rejects of those that
    were refused again. Records whose bytes were cut to fit the quarantine stay open.

    Raises:
        AlreadyRunning: the feed has an active run.
        ConfigurationError: there is no such feed.
    """
    plan = feeds.resolve(feeds.get(name))
    # Refused again is what some of them will be: no reason to give up on the others.
    plan = replace(plan, feed=replace(plan.feed, reject_limit=RejectLimit(records=BATCH, share=1.0)))
    whole = rejects.annotate(kept=Length("raw")).filter(feed__name=name, resolved_at=None, kept=F("size_bytes"))
    # What is refused again comes back as a new reject: not to be replayed once more.
    newest = whole.aggregate(pk=Max("pk"))["pk"]
    whole = whole.filter(pk__lte=newest or 0)
    while batch := list(whole.order_by("pk")[:BATCH]):
        records = [msgspec.Raw(bytes(reject.raw)) for reject in batch]
        page = Page(number=1, records=records, size_bytes=sum(map(len, records)), following=None)
        # Before the transaction: a feed's own rules may take their time.
        prepared = Preparer(plan.columns, plan.feed.rules)(page)
        with brief():
            run = _replay(plan, batch, prepared, by)
        yield run


def _replay(plan: Plan, batch: Sequence[Reject], prepared: Prepared, by: str) -> Run:
    run, created = runs.request(plan.feed.name, trigger=Trigger.REPLAY, by=by, wake_workers=False)
    if not created:
        raise AlreadyRunning(f"{runs.already_running(run)}; replay when it has ended")
    part: Part = claims.claim(run.parts.get().pk)
    chunks.load(Chunk(pages=[prepared]), part, plan)
    Reject.objects.filter(pk__in=[reject.pk for reject in batch]).update(
        resolved_at=Now(), resolution=Resolution.REPLAYED
    )
    return Run.objects.select_related("feed").get(pk=run.pk)


def forget(*, resolved_for: timedelta, kept_for: timedelta) -> int:
    """Delete rejects resolved longer ago than `resolved_for`, and any older than `kept_for`; return how many."""
    forgotten = 0
    for old in (
        Reject.objects.filter(resolved_at__lt=Now() - resolved_for),
        Reject.objects.filter(created_at__lt=Now() - kept_for),
    ):
        while batch := list(old.order_by("pk").values_list("pk", flat=True)[:FORGET_BATCH]):
            forgotten += Reject.objects.filter(pk__in=batch).delete()[0]
    return forgotten


def as_values(reject: Reject) -> dict[str, Any]:
    """Return a reject as plain values under the names of COLUMNS; bytes that are not UTF-8 become backslash escapes."""
    return {
        "id": reject.pk,
        "feed": reject.feed.name,
        "run": reject.run_id,
        "reason": reject.reason,
        "field": reject.field or None,
        "detail": reject.detail,
        "part": reject.part,
        "page": reject.page,
        "position": reject.position,
        "key": reject.key or None,
        "size_bytes": reject.size_bytes,
        "digest": reject.digest,
        "created_at": reject.created_at.isoformat(),
        "resolved_at": reject.resolved_at.isoformat() if reject.resolved_at else None,
        "resolution": reject.resolution or None,
        "raw": bytes(reject.raw).decode("utf-8", "backslashreplace"),
    }


def write_ndjson(rejects: Iterable[Reject], file: TextIO) -> int:
    """Write one JSON object a line; holds one reject. Returns how many."""
    written = 0
    for written, reject in enumerate(rejects, start=1):  # noqa: B007 - the count is the result
        file.write(json.dumps(as_values(reject), ensure_ascii=False) + "\n")
    return written


def write_csv(rejects: Iterable[Reject], file: TextIO) -> int:
    """Write CSV with a header; holds one reject. An apostrophe disarms cells that a spreadsheet takes for formulas."""
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    written = 0
    for written, reject in enumerate(rejects, start=1):  # noqa: B007 - the count is the result
        values = as_values(reject)
        writer.writerow([_harmless(values[name]) for name in COLUMNS])
    return written


def _harmless(value: Any) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
