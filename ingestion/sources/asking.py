"""The request of each page: what the feed asks for, and what its paginator adds. Pure, no I/O."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from ingestion.pagination import LinkedPaginator, Paginator, PlacedPaginator
from ingestion.pagination.links import joined
from ingestion.types import Cursor

# Of each value in a message: enough to tell two apart.
_SHOWN_CHARACTERS = 80
_NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One request. `added` is what the paginator has added, without secrets: what tells it from other pages'."""

    url: str
    params: Mapping[str, str]
    added: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)
    body: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How pages are asked for: the feed's own request, and its paginator."""

    method: str
    url: str
    params: Mapping[str, str]
    body: Mapping[str, Any] | None
    pagination: Paginator

    @cached_property
    def own(self) -> dict[str, str]:
        """Return the query parameters of every request."""
        return {**dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True)), **self.params}

    @cached_property
    def _place(self) -> str:
        return self.pagination.place if isinstance(self.pagination, PlacedPaginator) else "query"

    @cached_property
    def _is_plain(self) -> bool:
        """Whether nothing but the query changes from page to page."""
        return self._place == "query" and self.body is None and not isinstance(self.pagination, LinkedPaginator)

    def page(self, at: Cursor) -> Asked:
        """Return the request of the page at a paginator's cursor."""
        pagination = self.pagination
        if self._is_plain:
            added = pagination.params(at)
            return Asked(url=self.url, params={**self.params, **added}, added=added)
        if isinstance(pagination, LinkedPaginator) and (link := pagination.link(at)):
            address, names = link
            own = {name: self.own[name] for name in names if name in self.own}
            return Asked(url=joined(address, own), params={}, added={"link": address}, **self._written({}))
        if self._place == "query":
            added = pagination.params(at)
            return Asked(url=self.url, params={**self.params, **added}, added=added, **self._written({}))
        assert isinstance(pagination, PlacedPaginator), "the query is the place of all others"
        values = pagination.values(at)
        if self._place == "body":
            return Asked(url=self.url, params=self.params, added=values, **self._written(values))
        sent = {name: str(value) for name, value in values.items()}
        written = self._written({})
        headers = {**written.pop("headers", {}), **sent}
        return Asked(url=self.url, params=self.params, added=values, headers=headers, **written)

    def _written(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the JSON body with values at their dotted paths, and its type; nothing where there is no body."""
        if self.body is None and not values:
            return {}
        body: dict[str, Any] = json.loads(msgspec.json.encode(self.body or {}))
        for path, value in values.items():
            *way, name = path.split(".")
            level = body
            for step in way:
                level = level.setdefault(step, {})
            level[name] = value
        return {"headers": {"Content-Type": "application/json"}, "body": msgspec.json.encode(body)}

    def shown(self, added: Mapping[str, Any]) -> str:
        """Return a request as messages show it: without user info, and of the query what the paginator has added."""
        url = re.sub("//[^/?#]*@", "//", self.url).partition("?")[0].partition("#")[0]
        values = ", ".join(f"{name}={str(value)[:_SHOWN_CHARACTERS]}" for name, value in added.items())
        return f"{self.method} {url}" + (f" with {values}" if values else "")
