"""Bodies handed on as they arrive, for what is too large to be received whole."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress

import httpx

from ingestion.http.judging import headers_of
from ingestion.http.traces import Trace


class Download:
    """A response's body as it arrives. Each `read` has the whole deadline of the client's limits.

    `guarded` is what each is done in.
    """

    def __init__(
        self,
        *,
        guarded: Callable[[], AbstractContextManager[None]],
        response: httpx.Response,
        trace: Trace,
        stack: ExitStack,
    ) -> None:
        self._guarded, self._stack, self._trace = guarded, stack, trace
        self.status = response.status_code
        self.headers = headers_of(response)
        # Without either, the end of the connection is the end of the body.
        self.is_delimited = "content-length" in self.headers or "transfer-encoding" in self.headers
        self._parts = response.iter_raw()
        self._left = b""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next `size` bytes, fewer at the end.

        Raises:
            TransientFailure: the connection broke, or the remote is too slow.
        """
        pieces, length = [self._left], len(self._left)
        with self._guarded():
            while size < 0 or length < size:
                part = next(self._parts, b"")
                if not part:
                    break
                pieces.append(part)
                length += len(part)
                self._trace.size_bytes += len(part)
        received = b"".join(pieces)
        self._left = received[size:] if size >= 0 else b""
        return received[:size] if size >= 0 else received

    def close(self) -> None:
        with suppress(httpx.HTTPError):
            self._stack.close()
