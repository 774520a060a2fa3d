"""Sessions whose errors leave out what was sent: whoever reads files logs them long before the session ends."""

from collections.abc import Iterator
from contextlib import contextmanager

from ingestion.http import Sent
from ingestion.sources.files.entries import ByteStream, Entry, Session


@contextmanager
def discreet(session: Session, sent: Sent) -> Iterator[Session]:
    """Give a session out of which no error says what was sent, nor out of the block itself.

    A place replies in its own words, which become a message: they may say back what it was sent.
    """
    with sent.unsaid():
        yield _Discreet(session, sent)


class _Discreet:
    def __init__(self, session: Session, sent: Sent) -> None:
        self._session, self._sent = session, sent

    def find(self, pattern: str) -> Iterator[Entry]:
        with self._sent.unsaid():
            yield from self._session.find(pattern)

    def look(self, entry: Entry) -> Entry | None:
        with self._sent.unsaid():
            return self._session.look(entry)

    def open(self, entry: Entry, offset: int) -> ByteStream:
        with self._sent.unsaid():
            return _Stream(self._session.open(entry, offset), self._sent)

    def move(self, entry: Entry, name: str) -> None:
        with self._sent.unsaid():
            self._session.move(entry, name)


class _Stream:
    def __init__(self, stream: ByteStream, sent: Sent) -> None:
        self._stream, self._sent = stream, sent
        self.is_delimited: bool = getattr(stream, "is_delimited", True)

    def read(self, size: int = -1, /) -> bytes:
        with self._sent.unsaid():
            return self._stream.read(size)

    def close(self) -> None:
        with self._sent.unsaid():
            self._stream.close()
