"""A zip file's member as a stream of bounded memory: zipfile bounds neither LZMA's dictionary nor what comes at once.

A few KiB of bzip2 or LZMA become gigabytes, of which zipfile takes whatever it makes of one piece.
"""

import copy
import zipfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from typing import IO, Any, Final, Protocol

from ingestion.errors import RunFailed
from ingestion.sources.files.limits import MEBIBYTE

# As much is made at once, at most; a piece of what is compressed is smaller.
_MADE_BYTES: Final = 256 * 1024
_PIECE_BYTES: Final = 16 * 1024
# 7-Zip's largest default of LZMA (-mx=9). What has a larger one is a small file, or was compressed so on purpose.
_MOST_DICTIONARY: Final = 64 * MEBIBYTE
# LZMA_DICT_SIZE_MIN of liblzma.
_LEAST_DICTIONARY: Final = 4096
# "LZMA specification", of what precedes the data: lc, lp and pb in one byte, and the size of the dictionary.
_PROPERTIES_BYTES: Final = 5
_MOST_LC, _MOST_LP, _MOST_PB = 9, 5, 5


class Readable(Protocol):
    """Bytes in order."""

    def read(self, size: int = -1, /) -> bytes: ...


class _Decompressor(Protocol):
    @property
    def needs_input(self) -> bool: ...
    @property
    def eof(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, stack: ExitStack) -> Readable:
    """Return a member's decompressed bytes, of which its size and its checksum are checked at its end.

    Raises:
        RunFailed: `archive`: it asks for too much memory.
        NotImplementedError: it has a method of compression that is not read here.
        zipfile.BadZipFile, NotImplementedError, RuntimeError: as of `ZipFile.open`.
    """
    start = {zipfile.ZIP_BZIP2: _bzip2, zipfile.ZIP_LZMA: _lzma}.get(info.compress_type)
    if start is None and info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # As zipfile says of those that it does not know. What later versions know besides, they do not bound either.
        raise NotImplementedError(f"compression method {info.compress_type} is not read")
    # Of the others it has to say what is wrong as well: a name that is another one, a password, a missing library.
    content = stack.enter_context(archive.open(info))
    if start is None:
        return content
    # Its own bytes, as of a member that is only stored.
    stored = copy.copy(info)
    stored.compress_type, stored.file_size = zipfile.ZIP_STORED, info.compress_size
    del stored.CRC
    return _Member(stack.enter_context(archive.open(stored)), info, start)


class _Member:
    def __init__(
        self, raw: IO[bytes], info: zipfile.ZipInfo, start: Callable[[IO[bytes], zipfile.ZipInfo], _Decompressor]
    ) -> None:
        self._raw, self._info = raw, info
        self._decompressor = start(raw, info)
        self._left, self._checksum = info.file_size, 0

    def read(self, size: int = -1, /) -> bytes:
        most = min(size if size >= 0 else _MADE_BYTES, _MADE_BYTES, self._left)
        made = b""
        while most and not made:
            made = self._more(most)
        self._left -= len(made)
        self._checksum = zlib.crc32(made, self._checksum)
        if not self._left and self._checksum != self._info.CRC:
            raise zipfile.BadZipFile("the checksum of its member is another one")
        return made

    def _more(self, most: int) -> bytes:
        if self._decompressor.eof:
            raise zipfile.BadZipFile(f"its member ends {self._left} bytes before the size that it should have")
        piece = b""
        if self._decompressor.needs_input and not (piece := self._raw.read(_PIECE_BYTES)):
            raise EOFError("the data of its member are cut")
        return self._decompressor.decompress(piece, most)


def _bzip2(raw: IO[bytes], info: zipfile.ZipInfo) -> _Decompressor:
    import bz2  # Python may have been built without it, and zipfile has said so

    return bz2.BZ2Decompressor()


def _lzma(raw: IO[bytes], info: zipfile.ZipInfo) -> _Decompressor:
    """Read the properties in front of the data (APPNOTE.TXT, 5.8.8)."""
    import lzma  # as above

    head = raw.read(4)
    properties = raw.read(int.from_bytes(head[2:4], "little"))
    if len(head) < 4 or len(properties) != _PROPERTIES_BYTES or properties[0] >= _MOST_LC * _MOST_LP * _MOST_PB:
        raise zipfile.BadZipFile("its member is no LZMA data")
    rest, lc = divmod(properties[0], _MOST_LC)
    pb, lp = divmod(rest, _MOST_LP)
    # No more of it is used than the member has bytes.
    size = min(int.from_bytes(properties[1:], "little"), info.file_size)
    if size > _MOST_DICTIONARY:
        raise RunFailed(
            "archive",
            f"its member needs {size} bytes of memory to be decompressed (LZMA); {_MOST_DICTIONARY} are given",
        )
    settings: dict[str, Any] = {"id": lzma.FILTER_LZMA1, "dict_size": max(size, _LEAST_DICTIONARY)}
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[settings | {"lc": lc, "lp": lp, "pb": pb}])
