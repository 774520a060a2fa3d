"""What a GraphQL server says about its rate limit, in errors and extensions: how long to wait. Pure."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

from ingestion.http import LONGEST_WAIT
from ingestion.sources.graphql.answers import Problem

# Shopify, GitHub, Linear, and what others have made of them.
_CODES: Final = frozenset({"THROTTLED", "RATE_LIMITED", "RATELIMITED", "RATE_LIMIT_EXCEEDED", "TOO_MANY_REQUESTS"})


def is_throttled(problems: Iterable[Problem]) -> bool:
    """Whether any error says "not now" rather than "no"."""
    return any(code.upper() in _CODES for problem in problems for code in problem.codes)


def wait_for_budget(extensions: Mapping[str, Any]) -> timedelta:
    """Return how long it takes until the budget is enough for the same query again; nothing when it is, or unknown.

    `cost` is as Shopify writes it: what was asked for, what is left, and what comes back each second.
    """
    cost = extensions.get("cost")
    status = cost.get("throttleStatus") if isinstance(cost, Mapping) else None
    if not isinstance(cost, Mapping) or not isinstance(status, Mapping):
        return timedelta(0)
    needed, left = _number(cost.get("requestedQueryCost")), _number(status.get("currentlyAvailable"))
    restored = _number(status.get("restoreRate"))
    if needed is None or left is None or not restored or restored <= 0:
        return timedelta(0)
    most = LONGEST_WAIT.total_seconds()
    return timedelta(seconds=min(max((needed - left) / restored, 0), most))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
