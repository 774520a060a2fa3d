"""Moving a feed's watermark: what is shown of it on the feed's page, and the page that moves it, for a reason."""

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from ingestion import watermarks
from ingestion.admin import formats
from ingestion.admin.windows import ReadOnlyAdmin
from ingestion.errors import ConfigurationError
from ingestion.models import FeedState
from ingestion.watermarks import Status

SHOWN_MOVES = 10


class MoveForm(forms.Form):
    """Where the watermark goes, and why."""

    watermark = forms.CharField(
        required=False, help_text="A time (UTC where it names no zone) or a number; empty lets the next run start over."
    )
    reason = forms.CharField(widget=forms.Textarea(attrs={"rows": 2}), max_length=1000)


def status_of(feed: FeedState) -> Status | None:
    """Return how far a feed has come; None where it is not incremental, or its watermark cannot be read."""
    try:
        return watermarks.status(feed.name, now=timezone.now())
    except ConfigurationError:
        return None


def watermark_text(feed: FeedState) -> str:
    """Return the watermark, and how far that is behind."""
    status = status_of(feed)
    if status is None or status.watermark is None:
        stored = feed.watermark
        return formats.NOTHING if stored is None else str(stored)
    behind = "" if status.lag is None else f", {formats.duration(status.lag)} behind"
    return f"{status.watermark}{behind}"


def next_text(feed: FeedState) -> str:
    """Return where the next run begins."""
    status = status_of(feed)
    return "from the start" if status is None or status.next_from is None else f"from {status.next_from}"


def moves_table(feed: FeedState) -> str:
    """Return who has moved the watermark by hand, the last one first."""
    rows = [
        (formats.moment(move.moved_at), move.moved_by, _text(move.before), _text(move.after), move.reason)
        for move in feed.watermark_moves.all()[:SHOWN_MOVES]
    ]
    heads = ("When (UTC)", "Who", "From", "To", "Why")
    return formats.table(heads, rows, kind="recent") if rows else formats.NOTHING


def _text(stored: str | int | None) -> str:
    return formats.NOTHING if stored is None else str(stored)


class MovingAdmin(ReadOnlyAdmin):
    """Let people with the permission move the watermarks of incremental feeds."""

    def has_move_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("ingestion.move_watermark")

    def watermark_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the form, and move the watermark when it is sent."""
        if not (self.has_view_permission(request) and self.has_move_permission(request)):
            raise PermissionDenied
        feed = self.get_object(request, object_id)
        if feed is None:
            raise Http404(f"There is no feed {object_id}.")
        feed_url = reverse("admin:ingestion_feedstate_change", args=(feed.pk,))
        form = MoveForm(request.POST if request.method == "POST" else None, initial={"watermark": feed.watermark})
        if form.is_valid() and self._move(request, feed, form):
            return HttpResponseRedirect(feed_url)
        context = self.admin_site.each_context(request) | {
            "title": "Move the watermark",
            "opts": self.opts,
            "feed": feed,
            "feed_url": feed_url,
            "watermark": _text(feed.watermark),
            "form": form,
        }
        return TemplateResponse(request, "ingestion/watermark.html", context)

    def _move(self, request: HttpRequest, feed: FeedState, form: MoveForm) -> bool:
        try:
            text = form.cleaned_data["watermark"]
            mark = watermarks.incremental(feed.name).parse(text) if text else None
            moved = watermarks.move(feed.name, mark, by=request.user.get_username(), reason=form.cleaned_data["reason"])
        except ConfigurationError as error:
            form.add_error(None, str(error))
            return False
        text = f"Feed {feed.name}: the watermark was moved from {_text(moved.before)} to {_text(moved.after)}."
        self.message_user(request, text, messages.SUCCESS)
        return True
