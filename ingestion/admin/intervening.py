"""Cancel and resume: two actions of the list of runs, a button on a run's page, each with its own permission."""

from collections.abc import Callable
from typing import Any, Final

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from ingestion import interventions
from ingestion.admin import links
from ingestion.admin.windows import ReadOnlyAdmin
from ingestion.errors import IngestionError
from ingestion.models import ACTIVE, Run, State

# What may be asked of a run in each state; a page offers nothing that would be refused for the state alone.
OFFERED: Final = {
    **dict.fromkeys(ACTIVE, "cancel"),
    State.FAILED: "resume",
    State.CANCELLED: "resume",
}
DONE: Final = {"cancel": "cancelled", "resume": "resumed"}


class InterventionsAdmin(ReadOnlyAdmin):
    """Let people with the permission cancel and resume runs."""

    actions = ("cancel_runs", "resume_runs")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("ingestion.cancel_run")

    def has_resume_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("ingestion.resume_run")

    @admin.action(description="Cancel selected runs", permissions=["cancel"])
    def cancel_runs(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        self._ask(request, "cancel", list(queryset.values_list("pk", flat=True)))

    @admin.action(description="Resume selected runs", permissions=["resume"])
    def resume_runs(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        # The oldest first: of several runs of one feed, the others then hear that it is running.
        self._ask(request, "resume", list(queryset.order_by("pk").values_list("pk", flat=True)))

    def get_urls(self) -> list[URLPattern]:
        buttons = [
            path(
                f"<path:object_id>/{verb}/",
                self.admin_site.admin_view(self._view(verb)),
                name=f"ingestion_run_{verb}",
            )
            for verb in DONE
        ]
        return [*buttons, *super().get_urls()]

    def page_context(self, request: HttpRequest, shown: Run) -> dict[str, Any]:
        verb = OFFERED.get(State(shown.state))
        is_offered = verb is not None and self._may(request, verb)
        url = reverse(f"admin:ingestion_run_{verb}", args=(shown.pk,)) if is_offered else ""
        return {"buttons": [(url, f"{verb} this run".capitalize())] if is_offered else []}

    def _view(self, verb: str) -> Callable[..., HttpResponse]:
        def view(request: HttpRequest, object_id: str) -> HttpResponse:
            """Do what the button asks, and go back to the run."""
            if request.method != "POST":
                return HttpResponseNotAllowed(["POST"])
            if not (self.has_view_permission(request) and self._may(request, verb)):
                raise PermissionDenied
            run = self.get_object(request, unquote(object_id))
            if run is None:
                raise Http404(f"There is no run {object_id}.")
            self._ask(request, verb, [run.pk])
            return HttpResponseRedirect(links.run_url(run.pk))

        return view

    def _may(self, request: HttpRequest, verb: str) -> bool:
        return self.has_cancel_permission(request) if verb == "cancel" else self.has_resume_permission(request)

    def _ask(self, request: HttpRequest, verb: str, run_ids: list[int]) -> None:
        do = interventions.cancel if verb == "cancel" else interventions.resume
        for run_id in run_ids:
            try:
                run = do(run_id, by=request.user.get_username())
            except IngestionError as error:
                text = format_html("{}: not {}: {}.", links.to_run(run_id), DONE[verb], error)
                self.message_user(request, text, messages.WARNING)
            else:
                text = format_html("{} of {}: {}.", links.to_run(run.pk), run.feed.name, DONE[verb])
                self.message_user(request, text, messages.SUCCESS)
