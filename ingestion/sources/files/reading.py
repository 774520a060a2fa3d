"""A file's bytes from its place to its format: resumed when a connection breaks, decompressed within limits."""

import errno
import gzip
import random
import re
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import IO, Any, Final, Protocol, TypeVar

import structlog

from ingestion.errors import RetryLater, RunFailed
from ingestion.http import LONGEST_SLEEP, Retry, TransientFailure
from ingestion.sources.files.entries import ByteStream, Entry, Session
from ingestion.sources.files.formats import MAGICS
from ingestion.sources.files.limits import MEBIBYTE, FileLimits
from ingestion.sources.files.patterns import matcher

log = structlog.get_logger(__name__)
T = TypeVar("T")

# A small file may well consist of one character.
_RATIO_FROM: Final = 16 * MEBIBYTE
_BLOCK: Final = 256 * 1024
_ENCRYPTED: Final = 0x1
# Also in UTF-16.
_LINE_END: Final = re.compile(rb"[\r\n]\0?\Z")
# A full disk, and a quota that is used up.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def patiently(retry: Retry, call: Callable[[], T]) -> T:
    """Call a function until it does not raise TransientFailure, as often and as fast as `retry` allows.

    Raises:
        RetryLater: every try failed, or the place asked to wait longer than a worker should sleep.
    """
    for turn in count(1):
        try:
            return call()
        except TransientFailure as failure:
            if turn >= retry.attempts or (failure.wait is not None and failure.wait > LONGEST_SLEEP):
                raise RetryLater(f"{failure} ({turn} tries)", wait=failure.wait, blames=failure.blames) from failure
            pause = min(retry.wait_initial * 2 ** (turn - 1), retry.wait_max)
            seconds = pause.total_seconds() * random.uniform(0.5, 1)  # noqa: S311 - jitter, not a secret
            time.sleep(max(seconds, failure.wait.total_seconds() if failure.wait else 0))
    raise AssertionError("the loop has no end")


class Counted(Protocol):
    """A stream that knows how far it was read."""

    position: int

    def read(self, size: int = -1, /) -> bytes: ...


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
        received = patiently(self._retry, lambda: self._read(size if size >= 0 else _BLOCK))
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


@dataclass(kw_only=True)
class Decoded:
    """A file's decompressed bytes, within limits."""

    stream: Any
    compressed: Counted
    limits: FileLimits
    position: int = 0
    is_compressed: bool = False

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, none at the end.

        Raises:
            RunFailed: the file is not compressed as it should be, is cut, or is beyond its limits.
        """
        try:
            decoded: bytes = self.stream.read(size if size >= 0 else _BLOCK)
        except EOFError as error:
            raise RunFailed("incomplete", "the compressed data end in the middle") from error
        except (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
            raise RunFailed("compression", f"the compressed data cannot be read: {error}") from error
        self.position += len(decoded)
        if self.position > self.limits.decoded_bytes:
            raise RunFailed("file_too_large", f"more than {self.limits.decoded_bytes} bytes, decompressed")
        if self.is_compressed and self.position > max(_RATIO_FROM, self.limits.ratio * self.compressed.position):
            raise RunFailed(
                "compression_ratio",
                f"{self.position} bytes out of {self.compressed.position}, more than {self.limits.ratio:g} for one",
            )
        return decoded

    def skip(self, offset: int) -> None:
        """Read up to a byte; nothing is kept."""
        while self.position < offset:
            if not self.read(min(_BLOCK, offset - self.position)):
                raise RetryLater(f"the file has fewer than the {offset} bytes that were read of it before")


@contextmanager
def decoded(steady: Steady, compression: str, *, member: str, limits: FileLimits) -> Iterator[Decoded]:
    """Open the decompressed bytes of a file that is read from its start, or of a plain one from anywhere.

    Raises:
        RunFailed: `archive`, `compression`, `incomplete`: it is not what it should be.
    """
    if compression == "gzip":
        unzipped = gzip.GzipFile(fileobj=_not_empty(steady))
        yield Decoded(stream=unzipped, compressed=steady, limits=limits, is_compressed=True)
    elif compression == "zip":
        with _spooled(steady) as file, _opened(file, member, limits) as (content, size):
            yield Decoded(stream=content, compressed=size, limits=limits, is_compressed=True)
    else:
        yield Decoded(stream=steady, compressed=steady, limits=limits, position=steady.position)


class _Prefixed:
    """A stream with bytes in front of it that were read already."""

    def __init__(self, start: bytes, stream: Steady) -> None:
        self._start, self._stream = start, stream

    def read(self, size: int = -1, /) -> bytes:
        if not self._start:
            return self._stream.read(size)
        taken, self._start = (self._start, b"") if size < 0 else (self._start[:size], self._start[size:])
        return taken


def _not_empty(steady: Steady) -> Any:
    """Refuse an empty file, which Python's gzip takes for one with nothing in it."""
    start = steady.read(_BLOCK)
    if not start:
        raise RunFailed("incomplete", "an empty file is no gzip file")
    return _Prefixed(start, steady)


@contextmanager
def _spooled(steady: Steady) -> Iterator[IO[bytes]]:
    """Copy a file into a temporary one: a zip file's directory is at its end.

    Raises:
        RunFailed: `disk_full`: there is no room for it.
    """
    try:
        with tempfile.TemporaryFile() as file:
            while received := steady.read(_BLOCK):
                file.write(received)
            file.seek(0)
            yield file
    except OSError as error:  # around the file's end as well, which writes what is still buffered
        if error.errno not in _FULL:
            raise
        where = tempfile.gettempdir()
        raise RunFailed("disk_full", f"no room in {where} for a copy beyond {steady.position} bytes") from error


@dataclass
class _Size:
    """The compressed size of a zip file's member, known from the start."""

    position: int

    def read(self, size: int = -1, /) -> bytes:
        raise NotImplementedError(size)


@contextmanager
def _opened(file: IO[bytes], member: str, limits: FileLimits) -> Iterator[tuple[IO[bytes], _Size]]:
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(file))
            chosen = _chosen(archive, member, limits)
            content = stack.enter_context(archive.open(chosen))
            is_nested = content.read(len(MAGICS["zip"])) == MAGICS["zip"]
            content.seek(0)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
            raise RunFailed("archive", f"it is no zip file, or is cut, damaged or encrypted: {error}") from error
        if is_nested:
            raise RunFailed("archive", f"{_shown(chosen.filename)} is a zip file inside a zip file")
        yield content, _Size(chosen.compress_size)


def _chosen(archive: zipfile.ZipFile, member: str, limits: FileLimits) -> zipfile.ZipInfo:
    """Return the one member to read. Nothing is ever unpacked into a file of the member's name."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > limits.members:
        raise RunFailed("archive", f"it has {len(infos)} members, more than {limits.members}")
    for info in infos:
        parts = info.orig_filename.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or ":" in parts[0]:
            raise RunFailed("archive", f"its member {_shown(info.orig_filename)} leads out of it")
    found = [info for info in infos if matcher(member).fullmatch(info.filename)]
    if len(found) != 1:
        names = ", ".join(_shown(info.filename) for info in found[:3])
        raise RunFailed(
            "archive", f"expected one member that matches {member!r}, found {len(found)} of {len(infos)}: {names}"
        )
    (info,) = found
    if info.flag_bits & _ENCRYPTED:
        raise RunFailed("archive", f"its member {_shown(info.filename)} is encrypted")
    if info.file_size > limits.decoded_bytes:
        raise RunFailed("file_too_large", f"{info.file_size} bytes, decompressed; {limits.decoded_bytes} are allowed")
    return info


def _shown(name: str) -> str:
    return repr(name[:80])
