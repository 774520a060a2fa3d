"""What Django's admin leaves open: it answers a hidden action's POST with a message instead of refusing it."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse

if TYPE_CHECKING:
    _Admin = admin.ModelAdmin[Any]
else:
    _Admin = object


class GuardedActions(_Admin):
    """Answer 403 to the POST of an action that the user is not offered. Put it before the ModelAdmin."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        # Django puts one list of actions above the table and may put another below it; both are sent.
        asked = {action for action in request.POST.getlist("action") if action}
        if asked and not asked <= self.get_actions(request).keys():
            raise PermissionDenied
        return super().changelist_view(request, extra_context)
