"""A scriptable HTTP server on loopback: the remote of the tests, with good and with bad manners."""

import contextlib
import json
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request as it came; `query` has the first value of each name, header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Reply:
    """A well-formed response; Content-Length is set unless `headers` has it or Transfer-Encoding."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Raw:
    """Bytes written as they are, status line included: for broken HTTP.

    Args:
        blocks: written one by one; a generator may wait in between.
        end: what follows the last block: an orderly close, a reset, or silence until the client or the remote ends.
    """

    blocks: Iterable[bytes]
    end: Literal["close", "reset", "silence"] = "close"


Answer = Callable[[Request], Reply | Raw]


class Remote:
    """Serve `answer` on a free port of loopback while used as a context manager; each connection has a thread.

    `requests` are those received, in order; `accepted` counts connections. An exception of `answer` is a 500 for the
    client and is raised again when the remote is left. `port` is for a remote that comes back where another one was.
    """

    def __init__(self, answer: Answer | Reply | Raw, *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.answer: Answer = answer if callable(answer) else lambda request: answer
        self.requests: list[Request] = []
        self.errors: list[BaseException] = []
        self.accepted = 0
        self.stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        self.tls = tls
        self._server = _Server(self, port)

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self._server.server_address[1]}"

    @property
    def queries(self) -> list[Mapping[str, str]]:
        """Return the query of each request, in order."""
        return [request.query for request in self.requests]

    def __enter__(self) -> Self:
        # A short poll: leaving the remote waits for it.
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):  # the client was quicker
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        if error is None and self.errors:
            raise self.errors[0]


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, remote: Remote, port: int) -> None:
        self.remote = remote
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        self.remote.accepted += 1
        if self.remote.tls is not None:
            try:
                request = self.remote.tls.wrap_socket(request, server_side=True)
            except OSError:
                return  # the client does not trust it, or the other way round
        self.remote._connections.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.remote._connections.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that leaves in mid-answer is what some tests are about; errors of `answer` are kept


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _respond(self) -> None:
        remote = self.server.remote
        request = self._request()
        remote.requests.append(request)
        try:
            reply = remote.answer(request)
        except Exception as error:  # noqa: BLE001 - raised again by the remote's exit
            remote.errors.append(error)
            reply = Reply(500)
        if isinstance(reply, Raw):
            self._write_raw(reply)
        else:
            self._write(reply)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_CONNECT = _respond  # noqa: N815 - http.server's names

    def _request(self) -> Request:
        target = urlsplit(self.path)
        query: dict[str, str] = {}
        for name, value in parse_qsl(target.query, keep_blank_values=True):
            query.setdefault(name, value)
        return Request(
            method=self.command,
            path=target.path,
            query=query,
            headers=_lower(self.headers),
            body=self.rfile.read(int(self.headers.get("Content-Length") or 0)),
        )

    def _write(self, reply: Reply) -> None:
        headers = dict(reply.headers)
        named = {name.lower() for name in headers}
        if not named & {"content-length", "transfer-encoding"}:
            headers["Content-Length"] = str(len(reply.body))
        head = [f"HTTP/1.1 {reply.status} {self.responses.get(reply.status, ('Status',))[0]}"]
        head += [f"{name}: {value}" for name, value in headers.items()]
        body = b"" if self.command == "HEAD" else reply.body
        self.wfile.write("\r\n".join([*head, "", ""]).encode("latin-1") + body)

    def _write_raw(self, reply: Raw) -> None:
        self.close_connection = True
        for block in reply.blocks:
            if self.server.remote.stopping.is_set():
                return
            self.wfile.write(block)
        if reply.end == "silence":
            self.connection.recv(1)  # returns when the client closes, or when the remote shuts the connection down
        elif reply.end == "reset":
            # Closing with a linger of zero seconds sends RST instead of FIN; shutdown would send FIN first.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *args: Any) -> None:
        pass


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def raw_records(records: Iterable[Any]) -> list[bytes]:
    """Return each record's JSON text; bytes stay as they are, so that malformed records can be served."""
    return [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]


def json_list(records: Iterable[Any]) -> bytes:
    """Return one page's body: the records, or their own bytes, in a JSON list."""
    return b"[" + b",".join(raw_records(records)) + b"]"


def json_pages(
    records: Sequence[Any],
    *,
    overrides: Mapping[int, Reply | Raw | Answer] | None = None,
    max_size: int | None = None,
    page_param: str = "_page",
    size_param: str = "_limit",
    total_header: str | None = "X-Total-Count",
) -> Answer:
    """Return an answer that serves the records page by page, as JSONPlaceholder does.

    Args:
        records: objects, or bytes that are served as they are.
        overrides: what to answer for a page number instead; a callable is asked with the request each time.
        max_size: the most records the server gives per page, whatever is asked for.
        total_header: the header with the number of all records; None leaves it out.
    """
    texts = raw_records(records)

    def answer(request: Request) -> Reply | Raw:
        page = int(request.query.get(page_param, "1"))
        if overrides and (override := overrides.get(page)) is not None:
            return override(request) if callable(override) else override
        size = int(request.query.get(size_param, "10"))
        size = size if max_size is None else min(size, max_size)
        headers = {"Content-Type": "application/json; charset=utf-8"}
        if total_header:
            headers[total_header] = str(len(texts))
        return Reply(body=json_list(texts[(page - 1) * size : page * size]), headers=headers)

    return answer


def in_turn(*replies: Reply | Raw) -> Answer:
    """Return an answer that gives the replies one after the other, and the last one from then on."""
    left = list(replies)
    lock = threading.Lock()

    def answer(request: Request) -> Reply | Raw:
        with lock:
            return left.pop(0) if len(left) > 1 else left[0]

    return answer
