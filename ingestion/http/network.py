"""Connections to remotes: which addresses may be connected to, pinned to what was looked at.

Note [Private addresses]: a remote's name, its links and its redirects are other people's choice, and may lead to what
only this machine can reach: metadata of a cloud, an admin page of a neighbour (server-side request forgery). So every
address that a name resolves to has to be public, and the connection is made to the address that was looked at, as a
second look at the name may find another one. What ALLOWED_PRIVATE_HOSTS names is excepted.

Note [Link-local addresses]: servers of files are named by the feed's owner, and many are private on purpose. But nobody
serves files from where clouds have their metadata, whatever name leads there.
"""

import socket
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final

import httpcore
from django.conf import settings

from ingestion.errors import RunFailed

# RFC 6890: of the protocols themselves; some Pythons take a few of them for public.
_PROTOCOLS: Final = ip_network("192.0.0.0/24")
# RFC 6052 and 8215: IPv4 addresses inside of IPv6 ones, which a translator between them unpacks again.
_TRANSLATED: Final = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
# Metadata of Amazon, Google and Alibaba by their documentation, where it is not link-local.
_METADATA: Final = tuple(map(ip_address, ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200")))


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is reached over the internet, and leads to nothing on this machine or beside it."""
    embedded = _embedded(address)
    if embedded is not None:
        return is_public(embedded)
    if isinstance(address, IPv6Address):
        if address.is_site_local or address in _TRANSLATED[1]:
            return False
    elif address in _PROTOCOLS:
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def is_link_local(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is one of those at which machines configure themselves, a cloud's metadata among them."""
    address = _embedded(address) or address
    return address.is_link_local or address in _METADATA


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address inside of an IPv6 one."""
    if isinstance(address, IPv4Address):
        return None
    if address in _TRANSLATED[0]:
        return IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour


def is_allowed(host: str, address: IPv4Address | IPv6Address, allowed: Iterable[str]) -> bool:
    """Whether a list of names, addresses and networks excepts the host or its address."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    for entry in allowed:
        if entry.lower() == host.lower():
            return True
        try:
            network = ip_network(entry.strip("[]"), strict=False)
        except ValueError:
            continue  # a name
        if address in network or (mapped is not None and mapped in network):
            return True
    return False


def addresses_of_files(host: str, port: int | None = None) -> Sequence[str]:
    """Return the addresses of a server of files, to be connected to by these: see Note [Link-local addresses].

    Raises:
        RunFailed: `private_address`, one of them is link-local.
        OSError: the name has none.
    """
    return _looked_up(
        host, port, lambda address: not is_link_local(address), "which is link-local or has a cloud's metadata"
    )


def _looked_up(
    host: str, port: int | None, accepts: Callable[[IPv4Address | IPv6Address], bool], otherwise: str
) -> Sequence[str]:
    """Return the addresses of a host, each of which has to be accepted or allowed."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for text in addresses:
        address = ip_address(text)
        if not accepts(address) and not is_allowed(host, address, settings.ALLOWED_PRIVATE_HOSTS):
            raise RunFailed(
                "private_address",
                f"{host} has the address {text}, {otherwise}; a host that is meant to be private "
                "belongs into ALLOWED_PRIVATE_HOSTS",
            )
    return addresses


class Network(httpcore.NetworkBackend):
    """Connects to addresses that were looked at, and remembers the socket, so that a deadline can shut it down.

    `trusted` is a host that may have any address: a proxy, which is not the remote's choice. After `deadline` no
    further address is tried: a name may have hundreds, and each may take the whole time to connect.
    """

    def __init__(self, *, deadline: timedelta, trusted: str = "") -> None:
        self._seconds = deadline.total_seconds()
        self._backend = httpcore.SyncBackend()
        self._trusted = trusted
        self.socket: socket.socket | None = None

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of the host that answers.

        Raises:
            RunFailed: `private_address`, one of its addresses may not be connected to.
            httpcore.ConnectError, httpcore.ConnectTimeout: none answered.
        """
        failure: Exception = httpcore.ConnectError("the name has no address")
        ends_at = time.monotonic() + self._seconds
        for address in self._addresses(host, port):
            if time.monotonic() > ends_at:
                raise httpcore.ConnectTimeout("the deadline is over")
            try:
                stream = self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
                continue
            return _Stream(stream, self)
        raise failure

    def _addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            return _looked_up(
                host, port, lambda address: host == self._trusted or is_public(address), "which is not public"
            )
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error


class _Stream(httpcore.NetworkStream):
    """A stream whose socket the network remembers while a request is under way, whether it has TLS or not."""

    def __init__(self, stream: httpcore.NetworkStream, network: Network) -> None:
        self._stream, self._network = stream, network
        # Most calls by far: without a function of our own in between.
        self.read, self.close = stream.read, stream.close  # type: ignore[method-assign]
        self.get_extra_info = stream.get_extra_info  # type: ignore[method-assign]
        self._socket = network.socket = stream.get_extra_info("socket")

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._network.socket = self._socket
        self._stream.write(buffer, timeout)

    def start_tls(self, *args: Any, **options: Any) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(*args, **options), self._network)
