"""Text in a declared encoding to UTF-8, as a stream."""

import codecs
from typing import Final

from ingestion.errors import RunFailed
from ingestion.sources.files.formats import Bytes

_BLOCK: Final = 128 * 1024


def is_utf8(encoding: str) -> bool:
    """Whether text in an encoding is UTF-8 as it is; ASCII is."""
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")


class Transcoded:
    """A stream in another encoding, read as UTF-8. Bytes that are not in it come through and are no UTF-8 either."""

    def __init__(self, stream: Bytes, encoding: str) -> None:
        self._stream, self._encoding = stream, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
        self._ready = b""
        self.position = 0

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, none at the end.

        Raises:
            RunFailed: `encoding`.
        """
        while not self._ready:
            received = self._stream.read(_BLOCK)
            try:
                text = self._decoder.decode(received, final=not received)
                self._ready = text.encode("utf-8", "surrogateescape")
            except UnicodeError as error:
                raise RunFailed(
                    "encoding", f"the file cannot be read as the declared {self._encoding}: {error}"
                ) from error
            if not received:
                break
        taken = self._ready if size < 0 else self._ready[:size]
        self._ready = self._ready[len(taken) :]
        self.position += len(taken)
        return taken

    def skip(self, offset: int) -> None:
        """Read up to a byte; nothing is kept."""
        while self.position < offset and self.read(min(_BLOCK, offset - self.position)):
            pass
