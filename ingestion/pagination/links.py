"""Pages whose address the remote gives: a URL in the body, or a Link header."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from ingestion.errors import ConfigurationError, RunFailed
from ingestion.pagination.link_header import parse_links
from ingestion.pagination.protocols import Path, Received, is_path
from ingestion.pagination.rounds import next_round
from ingestion.pagination.telling import has_more
from ingestion.types import Cursor

_PORTS: Final = {"http": 80, "https": 443}
# What no URL may hold (RFC 3986); clients differ in what they make of it, and so may whoever checks it.
_FORBIDDEN: Final = re.compile(r"""[\x00-\x20\x7f<>"\\^`{|}]""")
# Servers take lines of 8,000 bytes (RFC 9112, 3).
_LONGEST: Final = 8_000
# A cursor is stored and shown: what is named so is not kept. Names of cursors, such as page_token, are not among them.
_SECRET_NAMES: Final = re.compile(
    r"(?:access_?token|auth(?:_?token|orization)?|api_?key|client_?secret|secret|password|passwd|sig|"
    r"signature|session_?id|x-(?:amz|goog)-(?:signature|credential|security-token)|awsaccesskeyid)",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class NextUrl:
    """The address of the next page is in the body at `url`; without one the collection ends.

    Args:
        hosts: other hosts than the feed's own that links may lead to.
        has_more: where the body says whether more follows, for comparison.
    """

    url: Path
    hosts: tuple[str, ...] = ()
    has_more: Path = ()

    def __post_init__(self) -> None:
        if not is_path(self.url):
            raise ConfigurationError('NextUrl(url=…) takes the names on the way to the URL: ("links", "next")')

    def first(self) -> Cursor:
        return _FIRST

    def params(self, cursor: Cursor) -> dict[str, str]:
        return {}

    def link(self, cursor: Cursor) -> tuple[str, Sequence[str]] | None:
        return _link(cursor)

    def following(self, cursor: Cursor, received: Received) -> Cursor | None:
        told = received.value(self.url)
        more = has_more(received, self.has_more)
        if more is False:
            return None
        if told is None or told is False or told == "":
            if more:
                raise RunFailed(
                    "has_more", f"{'.'.join(self.has_more)} says that more follows, but {'.'.join(self.url)} is empty"
                )
            return None
        if not isinstance(told, str):
            raise RunFailed("next_link", f"{'.'.join(self.url)} is no text")
        return _following(cursor, told, received, self.hosts)


@dataclass(frozen=True, kw_only=True)
class LinkHeader:
    """The address of the next page is in the Link header (RFC 8288), with `rel=next`; without one the collection ends.

    Args:
        hosts: other hosts than the feed's own that links may lead to.
    """

    hosts: tuple[str, ...] = ()

    def first(self) -> Cursor:
        return _FIRST

    def params(self, cursor: Cursor) -> dict[str, str]:
        return {}

    def link(self, cursor: Cursor) -> tuple[str, Sequence[str]] | None:
        return _link(cursor)

    def following(self, cursor: Cursor, received: Received) -> Cursor | None:
        try:
            links = parse_links(received.headers.get("link", ""))
        except ValueError as error:
            raise RunFailed("next_link", f"the Link header cannot be read: {error}") from error
        targets = [link.target for link in links if "next" in link.relations]
        if len(targets) > 1:
            raise RunFailed("next_link", f"the Link header has {len(targets)} links with rel=next")
        return _following(cursor, targets[0], received, self.hosts) if targets else None


_FIRST: Final[Cursor] = {"link": None, "own": [], "page": 1, "mark": None, "empty": 0}


def _link(cursor: Cursor) -> tuple[str, Sequence[str]] | None:
    return None if cursor["link"] is None else (cursor["link"], cursor["own"])


def _following(cursor: Cursor, target: str, received: Received, hosts: Sequence[str]) -> Cursor:
    link = resolved(target, received.url, received.origin, hosts)
    kept, own = _without_own(link, received.own)
    return {"link": kept, "own": own} | next_round(cursor, kept, cursor["link"], received.records)


def resolved(target: str, page: str, origin: str, hosts: Sequence[str] = ()) -> SplitResult:
    """Return the address that a link on a page leads to.

    Raises:
        RunFailed: `next_link`, it is no address, or leads elsewhere than to the origin of the feed or to `hosts`.
    """
    if _FORBIDDEN.search(target) or len(target) > _LONGEST or not target:
        raise RunFailed("next_link", "the link to the next page is no URL (not shown)")
    try:
        link, own = urlsplit(urljoin(page, target)), urlsplit(origin)
        place, allowed = _place(link), _place(own)
    except ValueError as error:
        raise RunFailed("next_link", "the link to the next page is no URL (not shown)") from error
    if link.scheme not in _PORTS:
        raise RunFailed("next_link", f"the link to the next page begins with {link.scheme[:20]}:")
    if link.username is not None or link.password is not None:
        raise RunFailed("next_link", "the link to the next page holds user info (not shown)")
    if own.scheme == "https" and link.scheme == "http":
        raise RunFailed("next_link", "the link to the next page leads from https to http")
    if place != allowed and link.hostname not in hosts:
        raise RunFailed(
            "next_link",
            f"the link to the next page leads to {link.scheme}://{link.netloc[:100]}, which is not where the feed's "
            "URL is; name the host in hosts if it is to be trusted",
        )
    return link


def _place(url: SplitResult) -> tuple[str, str | None, int | None]:
    return url.scheme, url.hostname, url.port or _PORTS.get(url.scheme)


def _without_own(link: SplitResult, own: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return the address without what the feed sends itself and without secrets, and the names that were left out."""
    kept, left_out = [], []
    for part in link.query.split("&"):
        ((name, value),) = parse_qsl(part, keep_blank_values=True) or [("", "")]
        if _SECRET_NAMES.fullmatch(name) or own.get(name) == value:
            left_out.append(name)
        else:
            kept.append(part)
    return urlunsplit((link.scheme, link.netloc, link.path, "&".join(kept), "")), [
        name for name in left_out if name in own
    ]


def joined(link: str, params: Mapping[str, Any]) -> str:
    """Return the address with parameters added to its query."""
    parts = urlsplit(link)
    query = "&".join(filter(None, (parts.query, urlencode(params))))
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))
