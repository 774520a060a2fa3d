"""Credentials that are sent as they are, or sign what is sent. No network, no database."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from ingestion.errors import ConfigurationError
from ingestion.http import Request, Response
from ingestion.texts import Text, text_of

# What returns a secret when a run needs it, as `env_text` does: it is never written down, nor a part of a value's text.
Secret = Callable[[], str]
Send = Callable[[Request], Response]


@dataclass(frozen=True)
class Custom:
    """Sign each request with a function of the feed's own: it returns the request as it is to be sent."""

    function: Callable[[Request], Request]

    def signer(self, send: Send) -> "Custom":
        return self

    def sign(self, request: Request) -> Request:
        return self.function(request)

    def renew(self) -> bool:
        return False


@dataclass(frozen=True, kw_only=True)
class Basic:
    """Send a user's name and password (RFC 7617)."""

    user: Text
    password: Secret

    def signer(self, send: Send) -> "Fixed":
        pair = base64.b64encode(f"{text_of(self.user)}:{self.password()}".encode()).decode()
        return Fixed({"Authorization": f"Basic {pair}"})


@dataclass(frozen=True)
class Bearer:
    """Send a token that does not change (RFC 6750)."""

    token: Secret

    def signer(self, send: Send) -> "Fixed":
        return Fixed({"Authorization": f"Bearer {self.token()}"})


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """Send a key in a header, or as a parameter of the query where `param` names one."""

    key: Secret
    header: str = "X-Api-Key"
    param: str = ""

    def signer(self, send: Send) -> "Fixed":
        return Fixed({}, self.query()) if self.param else Fixed({self.header: self.key()})

    def query(self) -> Mapping[str, str]:
        """Return the parameters that it adds to each request, so that links to further pages are kept without them."""
        return {self.param: self.key()} if self.param else {}


@dataclass(frozen=True, kw_only=True)
class Hmac:
    """Send a keyed digest of each request (RFC 2104) in a header.

    Args:
        text: returns what is digested, such as method, path and body of the request.
        prefix: stands in front of the digest in the header.
    """

    key: Secret
    text: Callable[[Request], bytes]
    header: str = "X-Signature"
    digest: str = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""

    def __post_init__(self) -> None:
        if self.digest not in hashlib.algorithms_guaranteed or self.encoding not in ("hex", "base64"):
            raise ConfigurationError(f"Hmac cannot send {self.digest} as {self.encoding}")

    def signer(self, send: Send) -> Custom:
        key = self.key().encode()

        def signed(request: Request) -> Request:
            made = hmac.new(key, self.text(request), self.digest)
            text = made.hexdigest() if self.encoding == "hex" else base64.b64encode(made.digest()).decode()
            return replace(request, headers={**request.headers, self.header: self.prefix + text})

        return Custom(signed)


@dataclass(frozen=True)
class Fixed:
    """Adds the same headers and parameters to each request."""

    headers: Mapping[str, str]
    params: Mapping[str, str] | None = None

    def sign(self, request: Request) -> Request:
        url = request.url
        if self.params:
            parts = urlsplit(url)
            present = dict(parse_qsl(parts.query, keep_blank_values=True))
            missing = {name: value for name, value in self.params.items() if name not in present}
            if missing:
                query = urlencode(missing, quote_via=quote)
                url = urlunsplit((*parts[:3], f"{parts.query}&{query}" if parts.query else query, parts.fragment))
        return replace(request, url=url, headers={**request.headers, **self.headers})

    def renew(self) -> bool:
        return False
