"""Windows on tables that the engine writes: nothing is added, changed or deleted, and no list counts a big table."""

from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property

from ingestion.admin.formats import NOTHING
from ingestion.admin.permissions import GuardedActions

# How often the page of something that is going on asks for news.
REFRESH_SECONDS: Final = 2
# Nobody pages further; filters and search find the rest. Counting more takes time with every page of a big table.
COUNTED_ROWS: Final = 10_000

if TYPE_CHECKING:
    _Admin = admin.ModelAdmin[Any]
    _Inline = admin.TabularInline[Any, Any]
    _Paginator = Paginator[Any]
else:
    _Admin, _Inline, _Paginator = admin.ModelAdmin, admin.TabularInline, Paginator


class ReadOnly:
    """Refuse to add, change and delete, whatever permissions the user has."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class CappedPaginator(_Paginator):
    """Count up to COUNTED_ROWS rows, and page through those."""

    @cached_property
    def _counted(self) -> int:
        rows = self.object_list
        assert isinstance(rows, QuerySet)
        return rows.order_by()[: COUNTED_ROWS + 1].count()

    @cached_property
    def count(self) -> int:
        return min(self._counted, COUNTED_ROWS)

    @property
    def is_capped(self) -> bool:
        """Whether there are more rows than were counted."""
        return self._counted > COUNTED_ROWS


class CappedChangeList(ChangeList):
    """A list that says so when it was not counted to the end."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        is_capped = isinstance(self.paginator, CappedPaginator) and self.paginator.is_capped
        if is_capped or not (self.query or self.has_active_filters):
            # The search form then shows no number: the line below the list tells how many there are.
            self.full_result_count = self.result_count


class ReadOnlyAdmin(ReadOnly, GuardedActions, _Admin):
    """A window on a table that only the engine writes: 50 rows a page, newest first, without counting them all."""

    change_list_template = "ingestion/window_list.html"
    change_form_template = "ingestion/window.html"
    list_per_page = 50
    # "Show all" of a big table would be a way to take the site down.
    list_max_show_all = 0
    show_full_result_count = False
    # Each facet counts the table once more.
    show_facets = admin.ShowFacets.NEVER
    empty_value_display = NOTHING
    paginator = CappedPaginator
    ordering = ("-pk",)
    # Sorting a big table by a column without an index reads it whole; windows name the columns that may be sorted by.
    sortable_by: ClassVar[tuple[str, ...] | None] = ()

    class Media:
        css = {"all": ("ingestion/admin.css",)}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return CappedChangeList

    def page_context(self, request: HttpRequest, shown: Any) -> dict[str, Any]:
        """Return what the page of one row needs besides the row; `refresh_seconds` makes it refresh itself."""
        return {}

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        context |= self.page_context(request, kwargs["obj"])
        return super().render_change_form(request, context, *args, **kwargs)


class ReadOnlyInline(ReadOnly, _Inline):
    """A window on the rows that belong to the one shown."""

    extra = 0
    can_delete = False
    empty_value_display = NOTHING
