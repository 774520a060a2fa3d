"""How requests are sent: by httpx over the network that looks at addresses, with certificates and a proxy."""

import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from ingestion.errors import ConfigurationError
from ingestion.http import coding
from ingestion.http.network import Network
from ingestion.http.secrecy import Sent
from ingestion.http.values import Limits, Request, Transport

_USER_AGENT: Final = "ingestion-worker"


class Wire:
    """Sends one request at a time: the feed's own with its headers, and those to others without them.

    `connections` are those of the pool, of types of httpcore's own.

    Raises:
        ConfigurationError: the transport's certificates or proxy cannot be used.
    """

    def __init__(self, given: Transport, limits: Limits, headers: Mapping[str, str], sent: Sent) -> None:
        self._network = Network(deadline=limits.deadline, trusted=_host_of(given.proxy))
        self._transport = _transport(given, self._network)
        # Each with cookies of its own.
        self._own = _httpx_client(self._transport, limits, headers)
        self._others = _httpx_client(self._transport, limits, {})
        self._sent = sent

    def send(self, request: Request, *, is_own: bool) -> httpx.Response:
        """Send a request and return the response before its body; the caller closes it.

        By the transport itself, as the client takes two thirds of its own time: what that would add is done here or
        not wanted.

        Raises:
            httpx.HTTPError, httpx.InvalidURL: to be translated.
        """
        client = self._own if is_own else self._others
        sent = client.build_request(request.method, request.url, content=request.body, headers=request.headers or None)
        if "Cookie" in sent.headers:
            self._sent.learn_cookies(sent.headers["Cookie"])
        response = self._transport.handle_request(sent)
        response.request = sent
        if "Set-Cookie" in response.headers:
            client.cookies.extract_cookies(response)
        return response

    def put_headers(self, headers: Mapping[str, str]) -> None:
        """Put headers in place of those of the feed's own requests."""
        self._own.headers.update(headers)

    @property
    def connections(self) -> list[Any]:
        """Return the connections that are open."""
        return self._transport._pool.connections  # noqa: SLF001 - nobody else knows

    def hang_up(self) -> None:
        """Shut the connection down that is in use, from any thread."""
        if self._network.socket is not None:
            with suppress(OSError):  # it was closed in the meantime
                # Not the TLS socket's own method, which is not made for being called from another thread.
                socket.socket.shutdown(self._network.socket, socket.SHUT_RDWR)

    def close(self) -> None:
        self._transport.close()


def _host_of(proxy: str) -> str:
    try:
        return urlsplit(proxy).hostname or ""
    except ValueError:
        return ""  # it cannot be used either, as whoever connects through it finds


def _transport(given: Transport, network: Network) -> httpx.HTTPTransport:
    """Return what connections are made with.

    Raises:
        ConfigurationError: certificates or proxy cannot be used.
    """
    try:
        tls = _tls_context(given.ca_file, given.certificate_file, given.key_file)
        transport = httpx.HTTPTransport(verify=tls, trust_env=False, proxy=given.proxy or None)
    except (OSError, ValueError, ImportError, httpx.InvalidURL) as error:
        raise ConfigurationError(
            f"the transport's certificates or proxy cannot be used ({type(error).__name__})"
        ) from None
    # It takes no backend of its own, and only it turns the exceptions of its connections into httpx's.
    transport._pool._network_backend = network  # noqa: SLF001
    return transport


def _httpx_client(transport: httpx.HTTPTransport, limits: Limits, headers: Mapping[str, str]) -> httpx.Client:
    """Return a client that makes requests with these headers."""
    return httpx.Client(
        transport=transport,
        headers={"User-Agent": _USER_AGENT, "Accept-Encoding": coding.ACCEPTED, **headers},
        timeout=httpx.Timeout(limits.silence.total_seconds(), connect=limits.connect.total_seconds()),
        trust_env=False,
    )


@lru_cache(maxsize=8)
def _tls_context(ca_file: str, certificate_file: str, key_file: str) -> ssl.SSLContext:
    """Return the settings of TLS, which take 20 ms to make and are made once."""
    context = httpx.create_ssl_context(trust_env=False)
    if ca_file:
        context.load_verify_locations(ca_file)
    if certificate_file:
        context.load_cert_chain(certificate_file, key_file or None)
    return context
