"""httpx's exceptions as the engine's, and URLs as messages may show them."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from ingestion.errors import ConfigurationError
from ingestion.http.values import TransientFailure


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn httpx's exceptions into the engine's. What is wrong with a URL or a header would show parts of it.

    Raises:
        ConfigurationError: the request cannot be sent.
        TransientFailure: the connection failed.
    """
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, UnicodeError) as error:
        raise ConfigurationError(
            f"{where}: it cannot be requested ({type(error).__name__}); expected http://host/path or https://host/path"
        ) from None
    except httpx.TransportError as error:
        raise TransientFailure(f"{where}: {type(error).__name__}: {error}", blames="host") from error


def shown(url: str) -> str:
    """Return the URL without user info and query: those may hold secrets."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "(unreadable URL)"
    # Without a scheme, user info passes for one.
    if parsed.scheme not in ("http", "https") or not parsed.host:
        return "(no HTTP URL)"
    return str(parsed.copy_with(username=None, password=None, query=None, fragment=None))
