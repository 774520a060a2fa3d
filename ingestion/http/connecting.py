"""How httpx connects: over the network that looks at addresses, with the transport's certificates and proxy."""

import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import httpx

from ingestion.errors import ConfigurationError
from ingestion.http import coding
from ingestion.http.network import Network
from ingestion.http.values import Limits, Transport

_USER_AGENT: Final = "ingestion-worker"


def wire(given: Transport, network: Network) -> httpx.HTTPTransport:
    """Return what connections are made with.

    Raises:
        ConfigurationError: certificates or proxy cannot be used.
    """
    try:
        tls = _tls_context(given.ca_file, given.certificate_file, given.key_file)
        transport = httpx.HTTPTransport(verify=tls, trust_env=False, proxy=given.proxy or None)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigurationError(
            f"the transport's certificates or proxy cannot be used ({type(error).__name__})"
        ) from None
    # It takes no backend of its own, and only it turns the exceptions of its connections into httpx's.
    transport._pool._network_backend = network  # noqa: SLF001
    return transport


def httpx_client(transport: httpx.HTTPTransport, limits: Limits, headers: Mapping[str, str]) -> httpx.Client:
    """Return a client that sends these headers with each request, and follows nothing by itself."""
    return httpx.Client(
        transport=transport,
        headers={"User-Agent": _USER_AGENT, "Accept-Encoding": coding.ACCEPTED, **headers},
        timeout=httpx.Timeout(limits.silence.total_seconds(), connect=limits.connect.total_seconds()),
        trust_env=False,
        follow_redirects=False,
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
