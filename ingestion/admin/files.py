"""Loaded files: which of them a feed knows, in which version, and forgetting some, so that they are read again."""

from django.contrib import admin, messages
from django.contrib.admin.utils import flatten_fieldsets
from django.db.models import QuerySet
from django.http import HttpRequest

from ingestion import remembering
from ingestion.admin import formats, links
from ingestion.admin.windows import ReadOnlyAdmin
from ingestion.models import SourceFile


@admin.register(SourceFile)
class SourceFileAdmin(ReadOnlyAdmin):
    """Files that were read to their end, the newest entries first."""

    actions = ("forget",)
    list_display = ("name", "shown_feed", "shown_records", "shown_size", "shown_version", "shown_loaded")
    list_filter = ("feed",)
    search_fields = ("name",)
    fieldsets = (
        (None, {"fields": ("name", "shown_feed", "version")}),
        ("What was read", {"fields": (("shown_records", "shown_size", "shown_modified"), "shown_loaded")}),
    )
    readonly_fields = flatten_fieldsets(fieldsets)

    def get_queryset(self, request: HttpRequest) -> QuerySet[SourceFile]:
        return super().get_queryset(request).select_related("feed")

    def has_forget_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("ingestion.forget_sourcefile")

    @admin.action(description="Forget selected files: the next run reads them again", permissions=["forget"])
    def forget(self, request: HttpRequest, queryset: QuerySet[SourceFile]) -> None:
        """Forget files of one feed after the other, and say how many."""
        chosen: dict[str, list[str]] = {}
        for feed, name in queryset.order_by("feed__name", "name").values_list("feed__name", "name"):
            chosen.setdefault(feed, []).append(name)
        for feed, names in chosen.items():
            forgotten = remembering.forget_files(feed, names)
            what = "1 file" if forgotten == 1 else f"{forgotten:,} files"
            text = f"Feed {feed}: forgot {what}; the next run reads what is still there."
            self.message_user(request, text, messages.SUCCESS)

    @admin.display(description="feed")
    def shown_feed(self, file: SourceFile) -> str:
        return links.to_feed(file.feed_id, file.feed.name)

    @admin.display(description="records")
    def shown_records(self, file: SourceFile) -> str:
        return formats.number(file.records)

    @admin.display(description="size in bytes")
    def shown_size(self, file: SourceFile) -> str:
        return formats.number(file.size_bytes)

    @admin.display(description="version")
    def shown_version(self, file: SourceFile) -> str:
        return formats.short(file.version, 40)

    @admin.display(description="changed (UTC)")
    def shown_modified(self, file: SourceFile) -> str:
        return formats.moment(file.modified_at)

    @admin.display(description="loaded (UTC)")
    def shown_loaded(self, file: SourceFile) -> str:
        loaded = formats.moment(file.loaded_at)
        return loaded if file.run_id is None else formats.two_lines(loaded, links.to_run(file.run_id))
