"""Runs: what each one did, how long it took and why it ended; an active one refreshes itself."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html, format_html_join

from ingestion import drift
from ingestion.admin import formats, links, parts, requests
from ingestion.admin.intervening import InterventionsAdmin
from ingestion.admin.windows import REFRESH_SECONDS
from ingestion.models import ACTIVE, Attempt, Run, Trigger

# A long run has one for each minute of each of its parts; the newest tell what is going on.
SHOWN_ATTEMPTS: Final = 50
# What becomes of a record that was read, or of a row that the source no longer has.
OUTCOMES: Final = ("inserted", "updated", "unchanged", "deleted", "duplicates", "rejected", "skipped")


def took(run: Run) -> timedelta | None:
    """Return from the first take-up to the end, or to now while the run is active."""
    if run.started_at is None:
        return None
    return (run.finished_at or timezone.now()) - run.started_at


def drift_text(run: Run | None) -> str:
    """Return what had changed in the source, one change a line."""
    return "\n".join(drift.describe(drift.change_from_json(change)) for change in run.drift) if run else ""


def is_active(run: Run | None) -> bool:
    return run is not None and run.state in ACTIVE


def _counter(name: str) -> Callable[["RunAdmin", Run], str]:
    def shown(self: "RunAdmin", run: Run) -> str:
        text = formats.number(getattr(run, name))
        return links.to_rejects(text, run_pk=run.pk) if name == "rejected" and run.rejected else text

    return admin.display(description=name.replace("_", " "))(shown)


@admin.register(Run)
class RunAdmin(InterventionsAdmin):
    """The history of runs, and what people do to them."""

    list_display = ("number", "shown_feed", "shown_state", "shown_asked", "shown_took", "shown_read", "shown_outcome")
    list_filter = ("state", "feed", "trigger", ("requested_at", admin.DateFieldListFilter))
    search_fields = ("feed__name", "requested_by", "error")
    search_help_text = "A number finds that run; words are looked for in the feed, who asked, and the error."
    fieldsets = (
        (None, {"fields": ("shown_feed", "shown_state", "shown_parts", "shown_error", "shown_trigger")}),
        ("Records", {"fields": (
            ("shown_pages", "shown_pages_skipped"),
            ("shown_read", "shown_inserted", "shown_updated"),
            ("shown_unchanged", "shown_deleted", "shown_duplicates", "shown_rejected", "shown_skipped"),
            "shown_coercions", "shown_drift", "shown_warnings", "shown_watermark",
        )}),
        ("Times (UTC)", {"fields": (
            ("shown_requested", "shown_started", "shown_first_commit", "shown_finished", "shown_took"),
        )}),
        ("Attempts", {"fields": ("shown_attempts",)}),
        ("Requests", {"fields": ("shown_totals", "shown_slowest", "shown_newest")}),
    )  # fmt: skip
    readonly_fields = flatten_fieldsets(fieldsets)
    inlines = (parts.PartInline,)

    shown_pages = _counter("pages")
    shown_pages_skipped = _counter("pages_skipped")
    shown_read = _counter("read")
    shown_inserted = _counter("inserted")
    shown_updated = _counter("updated")
    shown_unchanged = _counter("unchanged")
    shown_deleted = _counter("deleted")
    shown_duplicates = _counter("duplicates")
    shown_rejected = _counter("rejected")
    shown_skipped = _counter("skipped")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        return super().get_queryset(request).select_related("feed")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Run], search_term: str
    ) -> tuple[QuerySet[Run], bool]:
        number = search_term.strip().removeprefix("#")
        if number.isdecimal():
            return queryset.filter(pk=number), False
        return super().get_search_results(request, queryset, search_term)

    def page_context(self, request: HttpRequest, shown: Run) -> dict[str, Any]:
        refresh_seconds = REFRESH_SECONDS if is_active(shown) else None
        return super().page_context(request, shown) | {"refresh_seconds": refresh_seconds}

    @admin.display(description="run")
    def number(self, run: Run) -> str:
        return f"{run.pk}"

    @admin.display(description="feed")
    def shown_feed(self, run: Run) -> str:
        return links.to_feed(run.feed_id, run.feed.name)

    @admin.display(description="state")
    def shown_state(self, run: Run) -> str:
        return formats.badge(run.state)

    @admin.display(description="parts")
    def shown_parts(self, run: Run) -> str:
        return parts.summed_up(run)

    @admin.display(description="asked by")
    def shown_trigger(self, run: Run) -> str:
        label = Trigger(run.trigger).label.lower()
        asked = f"{label}: {run.requested_by}" if run.requested_by else label
        if not run.resumes:
            return asked
        times = f"{asked}, resumed {run.resumes}×"
        return f"{times}, last by {run.resumed_by}" if run.resumed_by else times

    @admin.display(description="requested (UTC)")
    def shown_asked(self, run: Run) -> str:
        return formats.two_lines(formats.moment(run.requested_at), self.shown_trigger(run))

    @admin.display(description="watermark")
    def shown_watermark(self, run: Run) -> str:
        """Return where an incremental feed's run asked from, and where it has left the watermark."""
        if not run.watermark:
            return formats.NOTHING
        start, after = run.watermark["from"], run.watermark.get("after")
        moved = "not moved" if after is None else f"moved from {run.watermark['before']} to {after}"
        return f"asked for {'everything' if start is None else f'what is from {start} on'}; {moved}"

    @admin.display(description="requested")
    def shown_requested(self, run: Run) -> str:
        return formats.moment(run.requested_at)

    @admin.display(description="started")
    def shown_started(self, run: Run) -> str:
        return formats.moment(run.started_at)

    @admin.display(description="first commit")
    def shown_first_commit(self, run: Run) -> str:
        return formats.moment(run.first_commit_at)

    @admin.display(description="finished")
    def shown_finished(self, run: Run) -> str:
        return formats.moment(run.finished_at)

    @admin.display(description="took")
    def shown_took(self, run: Run) -> str:
        return formats.duration(took(run))

    @admin.display(description="outcome")
    def shown_outcome(self, run: Run) -> str:
        """Return the error, and what happened to the records that were read."""
        counts = [
            format_html("{}&nbsp;{}", getattr(self, f"shown_{name}")(run), name)
            for name in OUTCOMES
            if getattr(run, name)
        ]
        counted = format_html_join(", ", "{}", ((count,) for count in counts))
        if run.error:
            return formats.two_lines(formats.short(run.error), counted)
        noted = "\n".join([*run.warnings, drift_text(run)]).strip()
        return formats.two_lines(counted, formats.short(noted)) if noted else counted

    @admin.display(description="error")
    def shown_error(self, run: Run) -> str:
        return formats.verbatim(run.error)

    @admin.display(description="drift")
    def shown_drift(self, run: Run) -> str:
        return formats.verbatim(drift_text(run))

    @admin.display(description="warnings")
    def shown_warnings(self, run: Run) -> str:
        return formats.verbatim("\n".join(run.warnings))

    @admin.display(description="coerced values")
    def shown_coercions(self, run: Run) -> str:
        """Return how many values each rule of each column coerced, the most first."""
        most_first = sorted(run.coercions.items(), key=lambda pair: (-pair[1], pair[0]))
        pieces = ((formats.number(count), rule) for rule, count in most_first)
        return format_html_join(", ", "{} {}", pieces) or formats.NOTHING

    @admin.display(description="newest first")
    def shown_attempts(self, run: Run) -> str:
        """Return who took the run's parts up, when, and how that ended."""
        newest = Attempt.objects.filter(part__run=run).select_related("part")[:SHOWN_ATTEMPTS]
        rows = [
            (
                f"{attempt.part.number}",
                f"{attempt.epoch}",
                attempt.worker or "foreground",
                attempt.owner,
                formats.moment(attempt.taken_at),
                formats.duration((attempt.ended_at or timezone.now()) - attempt.taken_at),
                formats.two_lines(attempt.get_outcome_display() or "going on", formats.short(attempt.detail)),
            )
            for attempt in newest
        ]
        heads = ("Part", "Epoch", "Worker", "Process", "Taken up (UTC)", "Took", "Ended")
        return formats.table(heads, rows, kind="attempts") if rows else formats.NOTHING

    @admin.display(description="by host and status")
    def shown_totals(self, run: Run) -> str:
        return requests.totals(run)

    @admin.display(description="slowest")
    def shown_slowest(self, run: Run) -> str:
        return requests.slowest(run)

    @admin.display(description="newest")
    def shown_newest(self, run: Run) -> str:
        return requests.newest(run)
