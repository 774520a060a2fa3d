"""Speak as much of HTTP/1.1 as a read-only API needs: keep-alive, pipelining, chunked answers; bodies are not read.

Knows nothing of what is served. Standard library only and no Django: the sample API starts before the project is
configured.
"""

import asyncio
import contextlib
import itertools
import json
import re
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import TypeAlias

HEAD_BYTES = 16_384  # limit of one request's line and headers
STALLED_SECONDS = 75  # a connection that neither asks nor reads for this long is closed
LINGER_SECONDS = 1
LINGER_BYTES = 1 << 20

_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/([0-9])\.([0-9])")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
_TARGET = re.compile(r"(?:http://([^/?]+))?(/[^?]*)?(?:\?(.*))?")
_URI_TEXT = re.compile(r"[A-Za-z0-9._~:/?@!$&'()*+,;=%\[\]-]+")  # RFC 3986 without the fragment
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


class RequestError(Exception):
    """A request that cannot be understood; the connection ends after the answer."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Request:
    """One HTTP request without its body, header names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    version: tuple[int, int]

    @property
    def has_body(self) -> bool:
        return "transfer-encoding" in self.headers or self.headers.get("content-length", "0").strip("0") != ""

    @property
    def is_last(self) -> bool:
        """Tell whether the connection ends after the answer; bodies are not read, so they end it too."""
        wishes = {token.strip() for token in self.headers.get("connection", "").lower().split(",")}
        return self.has_body or "close" in wishes or (self.version == (1, 0) and "keep-alive" not in wishes)


def parse_head(lines: list[str]) -> Request:
    """Read a request line and its header lines (RFC 9112).

    Raises:
        RequestError: they are malformed; answer with its status and close.
    """
    line = _REQUEST_LINE.fullmatch(lines[0])
    if line is None:
        raise RequestError(HTTPStatus.BAD_REQUEST, "malformed request line")
    method, target, major, minor = line.groups()
    if major != "1":
        raise RequestError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "speak HTTP/1.1")
    version = (1, int(minor))
    headers = _parse_headers(lines[1:])
    parts = _TARGET.fullmatch(target)
    if parts is None or not _URI_TEXT.fullmatch(target):
        raise RequestError(HTTPStatus.BAD_REQUEST, "malformed request target")
    authority, path, query = parts.groups()
    headers["host"] = authority or headers.get("host", "localhost" if version == (1, 0) else "")
    if not _HOST.fullmatch(headers["host"]):
        raise RequestError(HTTPStatus.BAD_REQUEST, "missing or malformed Host")
    return Request(method=method, path=path or "/", query=query or "", headers=headers, version=version)


def _parse_headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise RequestError(HTTPStatus.BAD_REQUEST, "malformed header")
        name, value = match[1].lower(), match[2]
        if name in headers and name in {"host", "content-length"}:
            raise RequestError(HTTPStatus.BAD_REQUEST, f"{name} given twice")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if not re.fullmatch("[0-9]{1,18}", headers.get("content-length", "0")):
        raise RequestError(HTTPStatus.BAD_REQUEST, "malformed Content-Length")
    return headers


@dataclass(frozen=True, kw_only=True)
class Response:
    """One HTTP answer; a body given as an iterator is streamed."""

    status: HTTPStatus = HTTPStatus.OK
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | Iterator[bytes]


def error_response(status: HTTPStatus, message: str) -> Response:
    """Make the answer to a request that cannot be served."""
    headers = (("Allow", "GET, HEAD"),) if status is HTTPStatus.METHOD_NOT_ALLOWED else ()
    return Response(status=status, headers=headers, body=json.dumps({"error": message}).encode())


Answer: TypeAlias = Callable[[Request], Response]


async def read_head(reader: asyncio.StreamReader) -> list[str]:
    """Read up to the empty line that ends a request's head; an empty list at the end of the connection.

    Raises:
        RequestError: the head is longer than HEAD_BYTES.
    """
    lines: list[str] = []
    size_bytes = 0
    while True:
        try:
            line = await reader.readline()
        except ValueError as error:  # longer than the reader's limit
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if lines else HTTPStatus.REQUEST_URI_TOO_LONG
            raise RequestError(status, "request too long") from error
        size_bytes += len(line)
        if size_bytes > HEAD_BYTES:
            raise RequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "request too long")
        if not line.endswith(b"\n"):
            return []
        text = line.decode("latin-1").removesuffix("\n").removesuffix("\r")
        if text:
            lines.append(text)
        elif lines:
            return lines


async def send(writer: asyncio.StreamWriter, response: Response, *, request: Request | None, is_last: bool) -> None:
    """Write one answer and wait until the client has taken most of it."""
    headers = [("Date", formatdate(usegmt=True)), *response.headers]
    is_chunked = False
    if response.status is not HTTPStatus.NOT_MODIFIED:
        headers.append(("Content-Type", "application/json; charset=utf-8"))
        if isinstance(response.body, bytes):
            headers.append(("Content-Length", str(len(response.body))))
        elif request is not None and request.version >= (1, 1):
            is_chunked = True
            headers.append(("Transfer-Encoding", "chunked"))
    headers.append(("Connection", "close" if is_last else "keep-alive"))
    status_line = f"HTTP/1.1 {response.status.value} {response.status.phrase}"
    head = "\r\n".join([status_line, *(f"{name}: {value}" for name, value in headers), "", ""])
    writer.write(head.encode("latin-1"))
    if request is None or request.method != "HEAD":
        for block in _blocks(response.body, is_chunked=is_chunked):
            writer.write(block)
            async with asyncio.timeout(STALLED_SECONDS):
                await writer.drain()


def _blocks(body: bytes | Iterable[bytes], *, is_chunked: bool) -> Iterable[bytes]:
    if isinstance(body, bytes):
        return [body]
    if not is_chunked:
        return body
    return itertools.chain((b"%x\r\n%b\r\n" % (len(block), block) for block in body), [b"0\r\n\r\n"])


async def exchange(
    answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, delay_seconds: float
) -> bool:
    """Answer one request; return whether the connection goes on."""
    request = None
    try:
        async with asyncio.timeout(STALLED_SECONDS):
            lines = await read_head(reader)
        if not lines:
            return False
        request = parse_head(lines)
        if delay_seconds:
            await asyncio.sleep(delay_seconds)
        response = answer(request)
    except RequestError as error:
        response = error_response(error.status, str(error))
    is_last = request is None or request.is_last or (request.version == (1, 0) and not isinstance(response.body, bytes))
    await send(writer, response, request=request, is_last=is_last)
    return not is_last


async def converse(
    answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, delay_seconds: float
) -> None:
    """Answer the requests of one connection, one after the other, until either side ends it."""
    # The client has gone, or stalls, or the server ends: a cancelled connection that ends as such is logged by
    # Python 3.11 as an error.
    with contextlib.suppress(ConnectionError, TimeoutError, asyncio.CancelledError), contextlib.closing(writer):
        while await exchange(answer, reader, writer, delay_seconds=delay_seconds):
            pass
        # Closing with unread input makes the kernel send a reset, which can overtake the answer: read it away first.
        writer.write_eof()
        async with asyncio.timeout(LINGER_SECONDS):
            remaining = LINGER_BYTES
            while remaining > 0 and (ignored := await reader.read(1 << 16)):
                remaining -= len(ignored)


async def serve(answer: Answer, *, host: str, port: int, delay_seconds: float = 0) -> None:
    """Listen until SIGTERM or SIGINT.

    Args:
        delay_seconds: each answer waits for so long, as one from far away does; several at once wait together.

    Raises:
        OSError: the address cannot be listened on; choose another.
    """
    server = await asyncio.start_server(
        lambda *streams: converse(answer, *streams, delay_seconds=delay_seconds), host, port, limit=HEAD_BYTES
    )
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    address, port = server.sockets[0].getsockname()[:2]
    url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
    print(f"Sample API listening on {url}", flush=True)  # noqa: T201 (whoever starts it waits for this line)
    await stopping.wait()
    server.close()  # no wait_closed: since Python 3.12 it waits for every client
