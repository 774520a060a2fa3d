"""The photos as they were loaded: a window, for the sync would overwrite what is edited."""

from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.db.models import QuerySet
from django.http import HttpRequest

from ingestion.admin import ReadOnlyAdmin, formats
from photos.models import Photo


@admin.register(Photo)
class PhotoAdmin(ReadOnlyAdmin):
    """Photos, those loaded last first."""

    list_display = ("remote_id", "album_id", "title", "url", "shown_created", "shown_updated")
    sortable_by = ("remote_id",)
    search_fields = ("title",)
    search_help_text = (
        "A number finds the photo with that id at the source, and its album; words are looked for in titles."
    )
    fieldsets = (
        (None, {"fields": (("remote_id", "album_id"), "title", "url", "thumbnail_url")}),
        ("Times (UTC)", {"fields": (("shown_created", "shown_updated"),)}),
        ("As received", {"fields": ("shown_raw_data",)}),
    )
    readonly_fields = flatten_fieldsets(fieldsets)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Photo]:
        return super().get_queryset(request).defer("raw_data")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Photo], search_term: str
    ) -> tuple[QuerySet[Photo], bool]:
        if search_term.strip().isdecimal():
            return queryset.filter(remote_id=search_term), False
        return super().get_search_results(request, queryset, search_term)

    @admin.display(description="created (UTC)")
    def shown_created(self, photo: Photo) -> str:
        return formats.moment(photo.created)

    @admin.display(description="updated (UTC)")
    def shown_updated(self, photo: Photo) -> str:
        return formats.moment(photo.updated)

    @admin.display(description="record")
    def shown_raw_data(self, photo: Photo) -> str:
        return formats.json_block(photo.raw_data)
