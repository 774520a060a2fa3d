"""The quarantine: each record that could not become a row, why, and its bytes."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from django.contrib import admin, messages
from django.contrib.admin.utils import flatten_fieldsets
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from ingestion import quarantine
from ingestion.admin import formats, links
from ingestion.admin.windows import ReadOnlyAdmin
from ingestion.errors import IngestionError
from ingestion.models import Reject

if TYPE_CHECKING:
    from django.contrib.admin.filters import _ListFilterChoices
else:
    _ListFilterChoices = dict

# Where a filter finds the values it offers. The whole quarantine may hold millions of records.
SAMPLED_REJECTS: Final = 5_000


class OpenFilter(admin.SimpleListFilter):
    """Show the open rejects, unless asked for others."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [("resolved", "resolved"), ("all", "all")]

    def choices(self, changelist: ChangeList) -> Iterator[_ListFilterChoices]:
        for number, choice in enumerate(super().choices(changelist)):
            # Django calls the choice without a value "All", but here that is the open ones.
            yield {**choice, "display": "open"} if number == 0 else choice

    def queryset(self, request: HttpRequest, queryset: QuerySet[Reject]) -> QuerySet[Reject]:
        if self.value() == "all":
            return queryset
        return queryset.filter(resolved_at__isnull=self.value() != "resolved")


class RecentValuesFilter(admin.SimpleListFilter):
    """Offer the values that one column has among the newest rejects."""

    parameter_name: str

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        newest = Reject.objects.order_by("-pk").values("pk")[:SAMPLED_REJECTS]
        found = Reject.objects.filter(pk__in=newest).order_by().values_list(self.parameter_name, flat=True).distinct()
        return [(value, value) for value in sorted(found) if value]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Reject]) -> QuerySet[Reject]:
        return queryset.filter(**{str(self.parameter_name): self.value()}) if self.value() else queryset


class ReasonFilter(RecentValuesFilter):
    title = "reason"
    parameter_name = "reason"


class FieldFilter(RecentValuesFilter):
    title = "field"
    parameter_name = "field"


@admin.register(Reject)
class RejectAdmin(ReadOnlyAdmin):
    """Rejects, newest first."""

    actions = ("replay",)
    list_display = (
        "shown_created", "shown_feed", "shown_where", "reason", "field", "key", "shown_detail", "shown_resolution",
    )  # fmt: skip
    list_filter = (OpenFilter, "feed", ReasonFilter, FieldFilter, ("created_at", admin.DateFieldListFilter))
    search_fields = ("key", "detail")
    search_help_text = "Words are looked for in the key and the detail."
    fieldsets = (
        (None, {"fields": ("reason", "field", "shown_detail_in_full", "key", "shown_resolution")}),
        (
            "Where it was",
            {"fields": (("shown_feed", "shown_run"), ("shown_part", "shown_page", "position", "shown_created"))},
        ),
        ("The record as received", {"fields": ("shown_raw", "shown_size", "digest")}),
    )
    readonly_fields = flatten_fieldsets(fieldsets)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Reject]:
        # A list of 50 rows would fetch up to 3 MiB of bytes that it does not show.
        return super().get_queryset(request).select_related("feed").defer("raw")

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("ingestion.replay_reject")

    @admin.action(description="Replay selected rejects", permissions=["replay"])
    def replay(self, request: HttpRequest, queryset: QuerySet[Reject]) -> None:
        """Load the selected records again, with today's feeds, and say what became of them."""
        for name in queryset.order_by().values_list("feed__name", flat=True).distinct():
            try:
                runs = list(quarantine.replay(name, queryset, by=request.user.get_username()))
            except IngestionError as error:
                self.message_user(request, f"Feed {name}: not replayed: {error}.", messages.ERROR)
                continue
            refused = sum(run.rejected for run in runs)
            loaded = sum(run.read for run in runs) - refused
            level = messages.WARNING if refused or not runs else messages.SUCCESS
            self.message_user(request, f"Feed {name}: {loaded} loaded, {refused} refused again.", level)

    @admin.display(description="resolved")
    def shown_resolution(self, reject: Reject) -> str:
        return f"{reject.resolution} {formats.moment(reject.resolved_at)}" if reject.resolved_at else "open"

    @admin.display(description="rejected (UTC)")
    def shown_created(self, reject: Reject) -> str:
        return formats.moment(reject.created_at)

    @admin.display(description="feed")
    def shown_feed(self, reject: Reject) -> str:
        return links.to_feed(reject.feed_id, reject.feed.name)

    @admin.display(description="run")
    def shown_run(self, reject: Reject) -> str:
        return links.to_run(reject.run_id)

    @admin.display(description="part")
    def shown_part(self, reject: Reject) -> str:
        return formats.number(reject.part)

    @admin.display(description="page")
    def shown_page(self, reject: Reject) -> str:
        return formats.number(reject.page)

    @admin.display(description="where")
    def shown_where(self, reject: Reject) -> str:
        return formats.two_lines(links.to_run(reject.run_id), reject.place)

    @admin.display(description="detail")
    def shown_detail(self, reject: Reject) -> str:
        return formats.short(reject.detail)

    @admin.display(description="detail")
    def shown_detail_in_full(self, reject: Reject) -> str:
        return formats.verbatim(reject.detail)

    @admin.display(description="size in bytes")
    def shown_size(self, reject: Reject) -> str:
        return formats.number(reject.size_bytes)

    @admin.display(description="bytes")
    def shown_raw(self, reject: Reject) -> str:
        block = formats.raw_block(bytes(reject.raw))
        shown = min(len(reject.raw), formats.RAW_SHOWN_BYTES)
        if shown == reject.size_bytes:
            return block
        return format_html("{}<p>The first {} of {} bytes.</p>", block, f"{shown:,}", f"{reject.size_bytes:,}")
