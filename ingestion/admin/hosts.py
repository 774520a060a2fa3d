"""Hosts that have failed: which ones are left alone, since when and why, and the action that ends it."""

from typing import Any, Final

from django.contrib import admin, messages
from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from ingestion import breakers
from ingestion.admin import formats
from ingestion.admin.windows import ReadOnlyAdmin
from ingestion.errors import WrongState
from ingestion.models import Host, State

# In the colours of what it means for the host's runs.
COLOURS: Final = {"closed": State.SUCCEEDED, "open": State.FAILED, "half-open": State.RUNNING}


@admin.register(Host)
class HostAdmin(ReadOnlyAdmin):
    """The circuit breakers of hosts; a host is listed once an attempt has failed because of it."""

    actions = ("close_breakers",)
    list_display = (
        "name",
        "shown_state",
        "shown_since",
        "shown_probe",
        "shown_waiting",
        "shown_reason",
        "shown_closed",
    )
    search_fields = ("name",)
    fieldsets = (
        (None, {"fields": ("name", "shown_state", "shown_since", "shown_probe", "probes", "shown_waiting")}),
        ("Failures", {"fields": ("failures", "shown_failed", "shown_whole_reason", "shown_closed")}),
    )
    readonly_fields = (
        "name", "shown_state", "shown_since", "shown_probe", "probes", "shown_waiting", "failures", "shown_failed",
        "shown_whole_reason", "shown_closed",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Host]:
        return breakers.listed()

    def get_ordering(self, request: HttpRequest) -> list[Any]:
        """Return the order of the list: those that are open first, the newest of them on top."""
        return [F("opened_at").desc(nulls_last=True), "name"]

    def has_close_permission(self, request: HttpRequest) -> bool:
        """Whether the user may close breakers; Django asks this for the action."""
        return request.user.has_perm("ingestion.close_host")

    @admin.action(description="Close the breakers: their feeds go on", permissions=["close"])
    def close_breakers(self, request: HttpRequest, queryset: QuerySet[Host]) -> None:
        for name in queryset.values_list("name", flat=True):
            try:
                breakers.close(name, by=request.user.get_username())
            except WrongState as error:
                self.message_user(request, f"Not closed: {error}.", messages.WARNING)
            else:
                self.message_user(request, f"The breaker of {name} is closed; its feeds go on.", messages.SUCCESS)

    @admin.display(description="breaker")
    def shown_state(self, host: Host) -> str:
        state = breakers.state_of(host)
        return format_html('<span class="state state-{}">{}</span>', COLOURS[state].value, state)

    @admin.display(description="since (UTC)")
    def shown_since(self, host: Host) -> str:
        return formats.moment(host.opened_at)

    @admin.display(description="next probe (UTC)")
    def shown_probe(self, host: Host) -> str:
        return formats.moment(host.probe_at)

    @admin.display(description="parts that wait")
    def shown_waiting(self, host: Host) -> str:
        return formats.number(host.waiting)  # type: ignore[attr-defined]  # annotated

    @admin.display(description="last failure")
    def shown_reason(self, host: Host) -> str:
        return formats.two_lines(formats.short(host.reason), formats.moment(host.failed_at))

    @admin.display(description="last failure")
    def shown_whole_reason(self, host: Host) -> str:
        return formats.verbatim(host.reason)

    @admin.display(description="at (UTC)")
    def shown_failed(self, host: Host) -> str:
        return formats.moment(host.failed_at)

    @admin.display(description="closed last (UTC)")
    def shown_closed(self, host: Host) -> str:
        if host.closed_at is None:
            return formats.NOTHING
        return formats.two_lines(
            formats.moment(host.closed_at), f"by {host.closed_by}" if host.closed_by else "by a probe"
        )
