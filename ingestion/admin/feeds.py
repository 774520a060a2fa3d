"""Feeds: how each one is doing, and the button that starts it."""

from collections.abc import Iterable
from typing import Any, Final

from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets, unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join

from ingestion import drift
from ingestion.admin import formats, links
from ingestion.admin.moving import MovingAdmin, moves_table, next_text, status_of, watermark_text
from ingestion.admin.outlook import UNDECLARED, Outlook, in_last_state, outlooks, source_text, target_text
from ingestion.admin.runs import drift_text, is_active, took
from ingestion.admin.syncing import sync
from ingestion.admin.windows import REFRESH_SECONDS, CappedChangeList
from ingestion.models import FeedState, Run, State
from ingestion.sources import Files

RECENT_RUNS: Final = 10
NEVER: Final = "never"


class FeedList(CappedChangeList):
    """The feeds of one page of the list, with the outlook of each."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        _look_ahead(list(self.result_list))


def _look_ahead(states: list[FeedState]) -> None:
    found = outlooks(states)
    for state in states:
        state.__dict__["outlook"] = found[state.pk]


def _outlook(state: FeedState) -> Outlook:
    outlook: Outlook = state.__dict__["outlook"]
    return outlook


class LastStateFilter(admin.SimpleListFilter):
    title = "state of the last run"
    parameter_name = "last"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [*((state.value, state.label) for state in State), (NEVER, "Never ran")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[FeedState]) -> QuerySet[FeedState]:
        if not self.value():
            return queryset
        return in_last_state(queryset, None if self.value() == NEVER else self.value())


@admin.register(FeedState)
class FeedStateAdmin(MovingAdmin):
    """The feeds, and "Sync now"."""

    actions = ("sync_now", "sync_every_page")
    list_display = ("name", "shown_last", "shown_outcome", "shown_next", "shown_source_and_target", "shown_links")
    list_filter = (LastStateFilter,)
    search_fields = ("name",)
    ordering = ("name",)
    fieldsets = (
        (None, {"fields": ("name", "shown_source", "shown_target", ("shown_next", "shown_every"), "shown_links")}),
        ("Last run", {"fields": ("shown_last", "shown_error", "shown_drift")}),
        ("Watermark", {"fields": (("shown_watermark", "shown_since"), "shown_from", "shown_moves")}),
        ("Recent runs", {"fields": ("shown_runs",)}),
        ("Fields of the source", {"fields": ("shown_policy", "shown_fields"), "classes": ("collapse",)}),
    )
    readonly_fields = flatten_fieldsets(fieldsets)

    def get_fieldsets(self, request: HttpRequest, obj: FeedState | None = None) -> Any:
        """Leave the watermark out of the pages of feeds that have none."""
        is_shown = obj is not None and (obj.watermark is not None or status_of(obj) is not None)
        return [each for each in super().get_fieldsets(request, obj) if is_shown or each[0] != "Watermark"]

    def has_sync_permission(self, request: HttpRequest) -> bool:
        """Whether the user may start runs; Django asks this for the action."""
        return request.user.has_perm("ingestion.sync_feedstate")

    @admin.action(description="Sync now", permissions=["sync"])
    def sync_now(self, request: HttpRequest, queryset: QuerySet[FeedState]) -> None:
        for answer in sync(queryset.values_list("name", flat=True), by=request.user.get_username()):
            self.message_user(request, answer.text, answer.level)

    @admin.action(description="Sync now, every page", permissions=["sync"])
    def sync_every_page(self, request: HttpRequest, queryset: QuerySet[FeedState]) -> None:
        for answer in sync(queryset.values_list("name", flat=True), by=request.user.get_username(), full=True):
            self.message_user(request, answer.text, answer.level)

    def sync_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Do what the button asks, and go to the run."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not (self.has_view_permission(request) and self.has_sync_permission(request)):
            raise PermissionDenied
        feed = self.get_object(request, unquote(object_id))
        if feed is None:
            raise Http404(f"There is no feed {object_id}.")
        (answer,) = sync([feed.name], by=request.user.get_username())
        self.message_user(request, answer.text, answer.level)
        if answer.run is not None and request.user.has_perm("ingestion.view_run"):
            return HttpResponseRedirect(links.run_url(answer.run.pk))
        return HttpResponseRedirect(reverse("admin:ingestion_feedstate_change", args=(feed.pk,)))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.sync_view)
        move = self.admin_site.admin_view(self.watermark_view)
        return [
            path("<path:object_id>/sync/", view, name="ingestion_feedstate_sync"),
            path("<path:object_id>/watermark/", move, name="ingestion_feedstate_watermark"),
            *super().get_urls(),
        ]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return FeedList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> FeedState | None:
        feed: FeedState | None = super().get_object(request, object_id, from_field)
        if feed is not None:
            _look_ahead([feed])
        return feed

    def page_context(self, request: HttpRequest, shown: FeedState) -> dict[str, Any]:
        outlook = _outlook(shown)
        may_move = self.has_move_permission(request) and status_of(shown) is not None
        move_url = reverse("admin:ingestion_feedstate_watermark", args=(shown.pk,))
        may_sync = outlook.declared is not None and self.has_sync_permission(request)
        return {
            "refresh_seconds": REFRESH_SECONDS if is_active(outlook.last_run) else None,
            "buttons": [(reverse("admin:ingestion_feedstate_sync", args=(shown.pk,)), "Sync now")] if may_sync else [],
            "pages": [(move_url, "Move the watermark")] if may_move else [],
        }

    @admin.display(description="last run (UTC)")
    def shown_last(self, state: FeedState) -> str:
        run = _outlook(state).last_run
        if run is None:
            return "never ran"
        when = format_html("{}, {}", formats.moment(run.requested_at), formats.duration(took(run)))
        return formats.two_lines(format_html("{} {}", formats.badge(run.state), links.to_run(run.pk)), when)

    @admin.display(description="outcome")
    def shown_outcome(self, state: FeedState) -> str:
        run = _outlook(state).last_run
        if run is None:
            return formats.NOTHING
        rejected = links.to_rejects(f"{run.rejected:,}", run_pk=run.pk) if run.rejected else "0"
        counted = format_html("{}&nbsp;read, {}&nbsp;rejected", f"{run.read:,}", rejected)
        if run.error:
            return formats.two_lines(formats.short(run.error), counted)
        return formats.two_lines(counted, formats.short(drift_text(run))) if run.drift else counted

    @admin.display(description="error")
    def shown_error(self, state: FeedState) -> str:
        run = _outlook(state).last_run
        return formats.verbatim(run.error if run else "")

    @admin.display(description="drift")
    def shown_drift(self, state: FeedState) -> str:
        return formats.verbatim(drift_text(_outlook(state).last_run))

    @admin.display(description="when they change")
    def shown_policy(self, state: FeedState) -> str:
        declared = _outlook(state).declared
        return declared.drift if declared else formats.NOTHING

    @admin.display(description="known fields")
    def shown_fields(self, state: FeedState) -> str:
        return formats.verbatim("\n".join(drift.outline(drift.from_json(state.shape))))

    @admin.display(description="next run (UTC)")
    def shown_next(self, state: FeedState) -> str:
        at = _outlook(state).next_run_at
        return formats.moment(at) if at else "not scheduled"

    @admin.display(description="default schedule")
    def shown_every(self, state: FeedState) -> str:
        declared = _outlook(state).declared
        return f"every {formats.duration(declared.every)}" if declared and declared.every else "none"

    @admin.display(description="source")
    def shown_source(self, state: FeedState) -> str:
        declared = _outlook(state).declared
        return source_text(declared) if declared else UNDECLARED

    @admin.display(description="target")
    def shown_target(self, state: FeedState) -> str:
        declared = _outlook(state).declared
        return target_text(declared) if declared else formats.NOTHING

    @admin.display(description="source and target")
    def shown_source_and_target(self, state: FeedState) -> str:
        return formats.two_lines(self.shown_source(state), self.shown_target(state))

    @admin.display(description="history")
    def shown_links(self, state: FeedState) -> str:
        declared = _outlook(state).declared
        shown = [links.to_runs(state.pk), links.to_rejects(feed_pk=state.pk)]
        if declared is not None and isinstance(declared.source, Files):
            shown.append(links.to_files(state.pk))
        return format_html_join("", "{}<br>", ((link,) for link in shown))

    @admin.display(description="watermark")
    def shown_watermark(self, state: FeedState) -> str:
        return watermark_text(state)

    @admin.display(description="there since (UTC)")
    def shown_since(self, state: FeedState) -> str:
        return formats.moment(state.watermark_at)

    @admin.display(description="next run reads")
    def shown_from(self, state: FeedState) -> str:
        return next_text(state)

    @admin.display(description="moved by hand")
    def shown_moves(self, state: FeedState) -> str:
        return moves_table(state)

    @admin.display(description="runs")
    def shown_runs(self, state: FeedState) -> str:
        rows = [
            (
                links.to_run(run.pk),
                formats.badge(run.state),
                formats.moment(run.requested_at),
                formats.duration(took(run)),
                *(formats.number(value) for value in (run.read, run.inserted + run.updated, run.rejected)),
            )
            for run in Run.objects.filter(feed=state)[:RECENT_RUNS]
        ]
        heads = ("Run", "State", "Requested (UTC)", "Took", "Read", "Written", "Rejected")
        return formats.table(heads, rows, kind="recent") if rows else formats.NOTHING
