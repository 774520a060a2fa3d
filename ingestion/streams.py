"""Text streams over iterators: what psycopg2's COPY reads from."""

import io
from collections.abc import Iterator
from contextlib import contextmanager


class StringIteratorIO(io.TextIOBase):
    """Read an iterator of strings as one text file; holds one string and what one read asks for.

    Any sequence of `read` and `readline` sizes gives the concatenation of the strings. `read` returns an empty
    string only at the end: psycopg2 takes one for the end of the data and would truncate silently.

    An exception of the iterator, or of a signal handler during a read, is kept in `error` and a bare `StreamBroken`
    is raised in its place: psycopg2 sends the text of whatever `read` raises to the server's log, and reports only
    that the COPY was cancelled.
    """

    def __init__(self, strings: Iterator[str]) -> None:
        self._strings = strings
        self._rest = ""
        self._at = 0
        self.error: BaseException | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> str:
        """Return exactly `size` characters while that many are left; all of the rest when negative or None.

        Raises:
            StreamBroken: the iterator raised, now or at an earlier call, or a signal did; the exception is in `error`.
            ValueError: the stream is closed.
        """
        self._check_open()
        with self._keeping_errors():
            if size is None or size < 0:
                return "".join(iter(self._take_some, ""))
            taken: list[str] = []
            while size > 0 and (part := self._take_some(size)):
                taken.append(part)
                size -= len(part)
            return "".join(taken)

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]  # typeshed: None is not accepted there
        """Return the text up to and including the next newline, at most `size` characters when not negative.

        Raises as `read` does.
        """
        self._check_open()
        limit = -1 if size is None else size
        taken: list[str] = []
        with self._keeping_errors():
            while limit != 0 and self._fill():
                newline = self._rest.find("\n", self._at)
                end = len(self._rest) if newline < 0 else newline + 1
                if limit > 0:
                    end = min(end, self._at + limit)
                    limit -= end - self._at
                taken.append(self._rest[self._at : end])
                self._at = end
                if taken[-1].endswith("\n"):
                    break
        return "".join(taken)

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("read of a closed stream")
        # A generator that raised looks exhausted afterwards: its end would pass for the end of the data.
        if self.error is not None:
            raise StreamBroken

    def _take_some(self, limit: int = -1) -> str:
        if not self._fill():
            return ""
        end = len(self._rest) if limit < 0 else self._at + limit
        part = self._rest[self._at : end]
        self._at += len(part)
        return part

    def _fill(self) -> bool:
        """Make at least one unread character available; False at the end."""
        while self._at >= len(self._rest):
            try:
                self._rest, self._at = next(self._strings), 0
            except StopIteration:
                return False
        return True

    @contextmanager
    def _keeping_errors(self) -> Iterator[None]:
        """Keep whatever goes wrong in a read: also what a signal raises there, which COPY would swallow too."""
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - kept for the reader, whatever it is
            self.error = error
            raise StreamBroken from None


class StreamBroken(Exception):
    """The iterator behind a StringIteratorIO raised; its exception is in the stream's `error`."""
