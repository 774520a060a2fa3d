"""The URLs that a client asks, and whose they are: its feed's own remote's, or somebody else's."""

from base64 import b64encode
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import quote, urlencode

import httpx

from ingestion.errors import RunFailed
from ingestion.http.origins import origin_of
from ingestion.http.translating import shown, translated
from ingestion.http.values import Request

# Different URLs that are remembered: few in most feeds, a new one for each page where the remote makes them.
_MOST_BASES: Final = 100


class Targets:
    """Finds the target of each request.

    Args:
        own: origins that get the feed's headers and credentials; with none of them, whatever is asked for does.
        others: origins that may be asked as well, without them.
    """

    def __init__(self, own: Collection[str], others: Collection[str]) -> None:
        self._own, self._others = own, others
        self._bases: dict[tuple[str, ...], tuple[str, str, bool]] = {}

    def find(self, method: str, url: str, params: Mapping[str, str]) -> tuple[str, str, bool]:
        """Return the URL with the parameters in place of its own of these names, and the request as messages show it.

        With them, whether it is the feed's own remote. From page to page only the values change; httpx would read and
        write the whole URL again each time.

        Raises:
            RunFailed: `foreign_origin`, it gets no request at all.
            ConfigurationError: the URL cannot be requested.
        """
        key = (method, url, *params)
        if key not in self._bases:
            where = f"{method} {shown(url)}"
            with translated(where):
                base = httpx.URL(url).copy_with(fragment=None)
                for name in params:
                    base = base.copy_remove_param(name)
            if len(self._bases) >= _MOST_BASES:
                self._bases.clear()
            # Without params the URL stays as it was written.
            self._bases[key] = (str(base) if params else url, where, self._is_own(url, where))
        base_url, where, is_own = self._bases[key]
        if not params:
            return base_url, where, is_own
        return f"{base_url}{'&' if '?' in base_url else '?'}{urlencode(params, quote_via=quote)}", where, is_own

    def _is_own(self, url: str, where: str) -> bool:
        """Whether a URL gets the feed's headers and credentials."""
        origin = origin_of(url)
        if not self._own or origin in self._own:
            return True
        if origin in self._others:
            return False
        raise RunFailed("foreign_origin", f"{where} is none of {', '.join(sorted(self._own))}")


def with_user_info_as_header(request: Request, where: str) -> Request:
    """Return the request with the user info of its URL as a header (RFC 7617), and nowhere else.

    Raises:
        ConfigurationError: the URL cannot be requested.
    """
    if "@" not in request.url:
        return request
    with translated(where):
        url = httpx.URL(request.url)
        if not url.userinfo:
            return request
        bare = str(url.copy_with(username=None, password=None))
    pair = b64encode(f"{url.username}:{url.password}".encode()).decode()
    return replace(request, url=bare, headers={**request.headers, "Authorization": f"Basic {pair}"})
