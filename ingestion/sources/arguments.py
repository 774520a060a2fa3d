"""Pages asked for with named values: variables of a GraphQL query, elements of a SOAP request. Pure, no I/O.

Names may be paths: `"filter.page"` is the member `page` of the argument `filter`.
"""

from collections.abc import Mapping
from typing import Any

from ingestion.errors import ConfigurationError
from ingestion.pagination import LinkedPaginator, Paginator, PlacedPaginator
from ingestion.types import Cursor


def refuse_links(pagination: Paginator, source: str) -> None:
    """Refuse a paginator that the remote has to tell addresses.

    Raises:
        ConfigurationError: it is one.
    """
    if isinstance(pagination, LinkedPaginator):
        raise ConfigurationError(f"{source} has one address for all pages: {type(pagination).__name__} follows others")


def arguments_of(pagination: Paginator, cursor: Cursor, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of every request with those of the page at a cursor put where their names say."""
    return placed(arguments, _values(pagination, cursor))


def placed(arguments: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments with values put where their names say."""
    whole = dict(arguments)
    for name, value in values.items():
        *outer, last = name.split(".")
        level = whole
        for key in outer:
            inner = level.get(key)
            level[key] = dict(inner) if isinstance(inner, Mapping) else {}
            level = level[key]
        level[last] = value
    return whole


def shown(pagination: Paginator, cursor: Cursor) -> str:
    """Return what tells a page's request from those of others, for messages: no secret, and no long values."""
    return (
        ", ".join(f"{name}={str(value)[:80]}" for name, value in _values(pagination, cursor).items()) or "no argument"
    )


def _values(pagination: Paginator, cursor: Cursor) -> Mapping[str, Any]:
    return pagination.values(cursor) if isinstance(pagination, PlacedPaginator) else pagination.params(cursor)
