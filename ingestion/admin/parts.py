"""The parts on a run's page: how many are in which state, and those that somebody would look for first."""

import json
from typing import TYPE_CHECKING, Any, Final

from django.contrib import admin
from django.db.models import Case, Count, IntegerField, Q, QuerySet, Value, When
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest

from ingestion import turns
from ingestion.admin import formats
from ingestion.admin.windows import ReadOnlyInline
from ingestion.models import TURN, Part, Run, State

# A run may have thousands of parts; the page says how many there are, and shows so many.
SHOWN_PARTS: Final = 50
# What is looked for first comes first. Parts that wait for their turn have nothing to tell.
_ORDER: Final = (State.FAILED, State.RUNNING, State.WAITING, State.QUEUED, State.CANCELLED, State.SUCCEEDED)

if TYPE_CHECKING:
    _FormSet = BaseInlineFormSet[Part, Run, Any]
else:
    _FormSet = BaseInlineFormSet


def summed_up(run: Run) -> str:
    """Return how many of the run's parts are in which state."""
    counts = run.parts.order_by().values("state").annotate(parts=Count("pk"), held=Count("pk", filter=turns.HELD))
    found = {row["state"]: row for row in counts}
    pieces = []
    for state in _ORDER:
        row = found.get(state, {"parts": 0, "held": 0})
        if row["parts"] > row["held"]:
            pieces.append(f"{row['parts'] - row['held']:,} {state.label.lower()}")
        if row["held"]:
            pieces.append(f"{row['held']:,} waiting for {TURN}")
    total = sum(row["parts"] for row in found.values())
    more = f"; {SHOWN_PARTS} of {total:,} are shown" if total > SHOWN_PARTS else ""
    return (", ".join(pieces) + more) or formats.NOTHING


class FirstParts(_FormSet):
    """The parts that are shown."""

    def get_queryset(self) -> QuerySet[Part]:
        if not hasattr(self, "_shown"):
            order = Case(
                When(turns.HELD, then=Value(len(_ORDER))),
                *(When(Q(state=state), then=Value(place)) for place, state in enumerate(_ORDER)),
                output_field=IntegerField(),
            )
            self._shown = super().get_queryset().order_by(order, "number")[:SHOWN_PARTS]
        return self._shown


class PartInline(ReadOnlyInline):
    """The run's parts: where each is, who advances it and what it waits for."""

    model = Part
    formset = FirstParts
    fields = (
        "number", "shown_state", "waiting_for", "attempts", "shown_next_attempt", "owner", "shown_lease", "epoch",
        "shown_share", "shown_cursor",
    )  # fmt: skip
    readonly_fields = fields

    def has_view_permission(self, request: HttpRequest, obj: Run | None = None) -> bool:
        # Whoever sees the run sees its parts: they have no window of their own.
        return request.user.has_perm("ingestion.view_run")

    @admin.display(description="state")
    def shown_state(self, part: Part) -> str:
        return formats.badge(part.state)

    @admin.display(description="next attempt (UTC)")
    def shown_next_attempt(self, part: Part) -> str:
        return formats.moment(part.next_attempt_at)

    @admin.display(description="leased until (UTC)")
    def shown_lease(self, part: Part) -> str:
        return formats.moment(part.leased_until)

    @admin.display(description="covers")
    def shown_share(self, part: Part) -> str:
        """Return the part's share; all of the source where the run is not divided."""
        if part.share is None:
            return "not divided yet"
        return json.dumps(part.share, ensure_ascii=False) if part.share else "everything"

    @admin.display(description="cursor")
    def shown_cursor(self, part: Part) -> str:
        return formats.NOTHING if part.cursor is None else json.dumps(part.cursor, ensure_ascii=False)
