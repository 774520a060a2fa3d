"""A file's own bytes from its place, resumed where a connection breaks."""

import re
from typing import Final

import structlog

from ingestion.errors import RetryLater, RunFailed
from ingestion.http import Retry, TransientFailure
from ingestion.sources.files.entries import ByteStream, Entry, Session
from ingestion.sources.files.limits import FileLimits
from ingestion.sources.patience import patiently

log = structlog.get_logger(__name__)

# As much is read at once.
BLOCK_BYTES: Final = 256 * 1024
# Also in UTF-16.
_LINE_END: Final = re.compile(rb"[\r\n]\0?\Z")


class Steady:
    """A file's own bytes; a connection that breaks is opened again where it broke.

    Its end is believed only where the file's size says so, and `finish` tells whether it stayed the same file.
    """

    def __init__(self, session: Session, entry: Entry, *, offset: int, retry: Retry, limits: FileLimits) -> None:
        self._session, self._entry, self._retry = session, entry, retry
        self._limit = limits.file_bytes
        self._stream: ByteStream | None = None
        self._is_broken = False
        self._is_delimited, self._last = True, b""
        self.position = offset

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, none at the end.

        Raises:
            RetryLater: the place cannot be read now, or the file is no longer the one that was begun.
            RunFailed: `file_too_large`.
        """
        received = patiently(self._retry, lambda: self._read(size if size >= 0 else BLOCK_BYTES))
        self.position += len(received)
        self._last = received[-2:] or self._last
        if self.position > self._limit:
            raise RunFailed("file_too_large", f"more than {self._limit} bytes")
        return received

    def _read(self, size: int) -> bytes:
        try:
            if self._is_broken:
                self._check_same()
                self._is_broken = False
            if self._stream is None:
                self._stream = self._session.open(self._entry, self.position)
                self._is_delimited = getattr(self._stream, "is_delimited", True)
                if self.position:
                    self._check_same()
            received = self._stream.read(size)
            if not received:
                self._check_end()
        except TransientFailure as failure:
            log.info("file is read on where it broke", file=self._entry.name, at=self.position, error=str(failure))
            self._is_broken = True
            self.close()
            raise
        return received

    def _check_end(self) -> None:
        expected = self._entry.size_bytes
        if expected is not None and self.position < expected:
            raise TransientFailure(
                f"{self._entry.name} ended after {self.position} of {expected} bytes", blames="request"
            )

    def finish(self, *, ends_with_line: bool = False) -> None:
        """Compare the file with what it was when it was begun.

        Args:
            ends_with_line: a line break at the end is all that tells that it was not cut, where the place does not.

        Raises:
            RetryLater: it is another one, is still being written, or may have been cut.
        """
        patiently(self._retry, self._check_same)
        if ends_with_line and not self._is_delimited and self._last and not _LINE_END.search(self._last):
            raise RetryLater(
                f"{self._entry.name} ended in the middle of a line, and its server says nothing of its length: it may "
                "have been cut",
                blames="request",
            )

    def _check_same(self) -> None:
        now = self._session.look(self._entry)
        if now is None:
            raise RetryLater(f"{self._entry.name} was removed while it was read")
        if now.version != self._entry.version:
            raise RetryLater(
                f"{self._entry.name} was changed while it was read: it is still being written, or replaced"
            )

    def close(self) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            try:
                stream.close()
            except (OSError, TransientFailure) as error:
                log.debug("a stream did not close", error=str(error))
