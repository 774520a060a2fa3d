"""django-celery-beat's windows, with their actions closed to those who may only look."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django_celery_beat.admin import PeriodicTaskAdmin as BeatPeriodicTaskAdmin
from django_celery_beat.models import PeriodicTask
from kombu.exceptions import OperationalError

from ingestion.admin import GuardedActions

admin.site.unregister(PeriodicTask)


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(GuardedActions, BeatPeriodicTaskAdmin):  # type: ignore[misc]  # beat ships no types
    """Beat's own window; in 2.9.0 its actions run, enable and disable tasks for whoever may view them."""

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Offer beat's actions, whichever it has, to those who may change the tasks."""
        actions: dict[str, Any] = super().get_actions(request)
        if self.has_change_permission(request):
            return actions
        return {name: action for name, action in actions.items() if name not in BeatPeriodicTaskAdmin.actions}

    @admin.action(description="Run selected tasks")
    def run_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Run the tasks now; says so when the broker is down."""
        try:
            super().run_tasks(request, queryset)
        except OperationalError as error:
            self.message_user(request, f"The broker does not answer, nothing was started: {error}", messages.ERROR)
