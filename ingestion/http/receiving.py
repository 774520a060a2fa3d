"""Bodies received whole: decoded, within their limits, and with nothing behind their end."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

import httpx
import structlog

from ingestion.errors import RunFailed
from ingestion.http import coding
from ingestion.http.judging import headers_of
from ingestion.http.values import Limits, Response, TransientFailure

log = structlog.get_logger(__name__)

# Below this a body may be what it likes: a page of spaces or of equal records is compressed well.
_RATIO_BYTES: Final = 4 * 1024 * 1024


def receive(response: httpx.Response, where: str, limits: Limits, connections: Iterable[Any]) -> Response:
    """Read the body to its end and return the response whole.

    Args:
        connections: those of the pool, taken before the body is read: one that is not kept alive is gone afterwards.

    Raises:
        TransientFailure: the body is cut, damaged or too slow, or there is more behind its end.
        RunFailed: it is larger than it may be, or has a coding that nobody asked for.
    """
    started = time.monotonic()
    headers = headers_of(response)
    encoding = headers.get("content-encoding", "")
    limits = replace(limits, ratio=limits.ratio * coding.density(encoding)) if encoding else limits
    body = b"".join(_parts(response, where, encoding, _Received(limits, where, started)))
    # It would be taken for the next response.
    if any(map(_trailing_data, connections)):
        raise TransientFailure(f"{where}: there is more behind the end of the response", blames="request")
    log.debug("fetched", request=where, size_bytes=len(body), seconds=round(time.monotonic() - started, 3))
    is_delimited = "content-length" in headers or "transfer-encoding" in headers
    return Response(status=response.status_code, headers=headers, body=body, is_delimited=is_delimited)


def _parts(response: httpx.Response, where: str, encoding: str, received: "_Received") -> Iterator[bytes]:
    parts = received.counted(iter(response.stream))  # type: ignore[arg-type]  # the client is not asynchronous
    return parts if encoding in ("", "identity") else _decoded(parts, where, encoding, received)


def _decoded(parts: Iterator[bytes], where: str, encoding: str, received: "_Received") -> Iterator[bytes]:
    try:
        yield from coding.decoded(parts, encoding, within=received.expanded)
    except coding.UnknownCoding as unknown:
        raise RunFailed("content_encoding", f"{where} answered in {encoding[:40]!r} although {unknown}") from None
    except coding.Damaged as error:
        raise TransientFailure(f"{where}: {error}", blames="request") from error


class _Received:
    """Counts what one response costs."""

    def __init__(self, limits: Limits, where: str, started: float) -> None:
        self._limits, self._where, self._started = limits, where, started
        self._silence = limits.silence.total_seconds()
        self._size = 0

    def counted(self, parts: Iterator[bytes]) -> Iterator[bytes]:
        limits = self._limits
        for part in parts:
            self._size += len(part)
            if self._size > limits.body_bytes:
                self._refuse_size()
            seconds = time.monotonic() - self._started
            if seconds > self._silence and self._size < limits.bytes_per_second * seconds:
                raise TransientFailure(
                    f"{self._where}: {self._size} bytes in {seconds:.0f} s are fewer than {limits.bytes_per_second} a "
                    "second",
                    blames="host",
                )
            yield part

    def expanded(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        size = 0
        for piece in pieces:
            size += len(piece)
            if size > self._limits.body_bytes:
                self._refuse_size()
            if size > max(_RATIO_BYTES, self._limits.ratio * self._size):
                raise RunFailed("compression_ratio", f"{self._where}: {self._size} bytes became more than {size} bytes")
            yield piece

    def _refuse_size(self) -> None:
        raise RunFailed("response_too_large", f"{self._where}: more than {self._limits.body_bytes} bytes")


def _trailing_data(connection: Any) -> bytes:
    """Return what h11 has received beyond the end of a response."""
    while connection is not None and not hasattr(connection, "_h11_state"):
        connection = getattr(connection, "_connection", None)
    return b"" if connection is None else bytes(connection._h11_state.trailing_data[0])  # noqa: SLF001
