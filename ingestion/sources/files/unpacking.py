"""A file's content out of its own bytes: decompressed within limits, never unpacked to a file of its name."""

import errno
import gzip
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any, Final, Protocol

from ingestion.errors import RetryLater, RunFailed
from ingestion.sources.files.formats import MAGICS
from ingestion.sources.files.limits import MEBIBYTE, FileLimits
from ingestion.sources.files.members import Readable, open_member
from ingestion.sources.files.patterns import matcher
from ingestion.sources.files.reading import BLOCK_BYTES, Steady

try:
    from lzma import LZMAError
except ImportError:  # Python was built without it, and zipfile says so itself
    LZMAError = zlib.error  # type: ignore[misc,assignment]

# A small file may well consist of one character.
_RATIO_FROM: Final = 16 * MEBIBYTE
_ENCRYPTED: Final = 0x1
# A full disk, and a quota that is used up.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Counted(Protocol):
    """What knows how many compressed bytes were read."""

    @property
    def position(self) -> int: ...


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
            with _unpacking():
                decoded: bytes = self.stream.read(size if size >= 0 else BLOCK_BYTES)
        except _Damaged as error:
            raise RunFailed("compression", f"the compressed data cannot be read: {error}") from error
        except EOFError as error:
            raise RunFailed("incomplete", "the compressed data end in the middle") from error
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
            if not self.read(min(BLOCK_BYTES, offset - self.position)):
                raise RetryLater(f"the file has fewer than the {offset} bytes that were read of it before")


class _Damaged(Exception):
    """The compressed data are damaged, or of a kind that nobody here can read."""


@contextmanager
def _unpacking() -> Iterator[None]:
    """Turn what gzip, zipfile and the decompressors raise for damaged data into one exception."""
    try:
        yield
    # NotImplementedError is for methods of compression that are not read, and versions of the format that zipfile does
    # not know.
    except (zipfile.BadZipFile, zlib.error, LZMAError, NotImplementedError) as error:
        raise _Damaged(str(error)) from error
    except OSError as error:
        # gzip and bz2 raise their own as well, without the number that the system's have.
        if error.errno is not None:
            raise
        raise _Damaged(str(error)) from error


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

    def __init__(self, start: bytes, stream: Readable) -> None:
        self._start, self._stream = start, stream

    def read(self, size: int = -1, /) -> bytes:
        if not self._start:
            return self._stream.read(size)
        taken, self._start = (self._start, b"") if size < 0 else (self._start[:size], self._start[size:])
        return taken


def _not_empty(steady: Steady) -> Any:
    """Refuse an empty file, which Python's gzip takes for one with nothing in it."""
    start = steady.read(BLOCK_BYTES)
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
            while received := steady.read(BLOCK_BYTES):
                file.write(received)
            file.seek(0)
            yield file
    except OSError as error:  # around the file's end as well, which writes what is still buffered
        if error.errno not in _FULL:
            raise
        where = tempfile.gettempdir()
        raise RunFailed("disk_full", f"no room in {where} for a copy beyond {steady.position} bytes") from error


@dataclass(frozen=True)
class _Size:
    """The compressed size of a zip file's member, known from the start."""

    position: int


@contextmanager
def _opened(file: IO[bytes], member: str, limits: FileLimits) -> Iterator[tuple[Readable, _Size]]:
    with ExitStack() as stack:
        try:
            with _unpacking():
                archive = stack.enter_context(zipfile.ZipFile(file))
                chosen = _chosen(archive, member, limits)
                content = open_member(archive, chosen, stack)
                start = content.read(len(MAGICS["zip"]))
        except (_Damaged, EOFError, RuntimeError) as error:  # RuntimeError: it is encrypted
            raise RunFailed("archive", f"it is no zip file, or is cut, damaged or encrypted: {error}") from error
        if start == MAGICS["zip"]:
            raise RunFailed("archive", f"{_shown(chosen.filename)} is a zip file inside a zip file")
        yield _Prefixed(start, content), _Size(chosen.compress_size)


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
