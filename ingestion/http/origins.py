"""Where requests may go: credentials belong to an origin (RFC 6454), and links lead where others like. Pure, no I/O."""

from collections.abc import Collection
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from ingestion.errors import RunFailed
from ingestion.http.validators import CONDITIONS
from ingestion.http.values import Request

_PORTS: Final = {"http": 80, "https": 443}


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL, as `https://host` or `https://host:8443`; empty where it has none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme not in _PORTS or not parts.hostname:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, _PORTS[parts.scheme]) else "")


def service_of(url: str) -> str:
    """Return what answers at a URL: its host, with its port where that is not the scheme's own."""
    return origin_of(url).partition("://")[2]


def check_redirect(
    before: str, after: str, other_origins: Collection[str], own_origins: Collection[str], where: str
) -> str:
    """Return the origin that a redirect leads to.

    Raises:
        RunFailed: `redirect`, it may not be followed.
    """
    origin = origin_of(after)
    if not origin:
        raise RunFailed("redirect", f"{where} leads to something that is no http or https URL")
    if before.startswith("https:") and not after.lower().startswith("https:"):
        raise RunFailed("redirect", f"{where} leads from https to {origin}")
    if "@" in urlsplit(after).netloc:
        raise RunFailed("redirect", f"{where} leads to {origin} with a user's name in the URL")
    if origin not in (origin_of(before), *own_origins, *map(origin_of, other_origins)):
        raise RunFailed("redirect", f"{where} leads to {origin}, which the feed does not allow")
    return origin


def redirected(request: Request, status: int, url: str, *, keeps_all: bool) -> Request:
    """Return the request that follows a redirect (RFC 9110, 15.4): only 307 and 308 keep method and body.

    Args:
        keeps_all: it goes to the feed's own remote, or to whom the body and these headers were meant for.

    Raises:
        RunFailed: `redirect`, it would send the body on to somebody else.
    """
    if status in (307, 308) and keeps_all:
        return replace(request, url=url)
    if request.method not in ("GET", "HEAD") and status in (307, 308):
        raise RunFailed("redirect", "a body is not sent on to another origin")
    method = request.method if request.method in ("GET", "HEAD") else "GET"
    # What a document is asked for with that may be unchanged is no secret, and a 304 without it would be a mistake.
    kept = {name: value for name, value in request.headers.items() if keeps_all or name.lower() in CONDITIONS}
    return Request(method=method, url=url, headers=kept)
