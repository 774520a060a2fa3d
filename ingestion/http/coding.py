"""Content codings of HTTP (RFC 9110, 8.4.1): a body that was cut or damaged on its way is found. Pure, no I/O."""

import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any, Final

# Of one piece no more than this is decompressed at once, whatever it expands to.
_PIECE_BYTES: Final = 1024 * 1024
# Several codings on top of each other are legal, and nobody means more than two.
_MOST_CODINGS: Final = 2

_GZIP: Final = 16 + zlib.MAX_WBITS

# Brotli's buffer doubles until it has as much as this: of a piece of 992 KiB all but 512 KiB come with its last growth.
_BROTLI_BYTES: Final = 512 * 1024
# RFC 9659, 3: 8 MiB is the widest window of the coding, as each decoder has to keep it in memory.
_ZSTD_WINDOW_LOG: Final = 23


class UnknownCoding(ValueError):
    """The body has a coding that nobody asked for; says what was, and what is not installed."""


class Damaged(ValueError):
    """The body is not whole, or not what its coding says."""


def decoded(
    parts: Iterable[bytes], coding: str, *, within: Callable[[Iterator[bytes]], Iterator[bytes]] = iter
) -> Iterator[bytes]:
    """Yield the body that parts were encoded from; holds 1 MiB of it at a time, and what its coding looks back at.

    That is up to 16 MiB with br, and 8 MiB with zstd.

    Args:
        coding: the value of Content-Encoding.
        within: keeps what comes out of each coding within limits, as one of two may expand to what the other one skips.

    Raises:
        UnknownCoding: at once; the coding is none of those accepted. While it is read; zstd looks back too far.
        Damaged: while it is read; the end is missing, or a checksum is wrong, or there is more behind the end.
    """
    names = _names(coding)
    if len(names) > _MOST_CODINGS or not {*names} <= _DECODERS.keys():
        raise UnknownCoding(f"only {ACCEPTED} was accepted" + "".join(map(_missing, dict.fromkeys(names))))
    for name in reversed(names):
        parts = within(_DECODERS[name](parts))
    return iter(parts)


def density(coding: str) -> int:
    """Return how many times as far as gzip a coding may expand what repeats itself, as wide empty records do."""
    return 10 if {"br", "zstd"} & {*_names(coding)} else 1


def _names(coding: str) -> list[str]:
    names = (name.strip().lower() for name in coding.split(","))
    return [name for name in names if name not in ("", "identity")]


def _unzipped(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Decode gzip with one or more members (RFC 1952, 2.2). Zeros behind the last one are padding, as for gzip(1)."""
    member = zlib.decompressobj(_GZIP)
    is_begun = is_padding = False
    for part in parts:
        left = part
        while left:
            if member.eof or is_padding:
                left = left.lstrip(b"\0") if is_begun else left
                is_padding = not left
                if is_padding:
                    break
                member, is_padding = zlib.decompressobj(_GZIP), False
            is_begun = True
            yield from _pieces(member, left)
            left = member.unused_data
    if is_begun and not member.eof:
        raise Damaged("its gzip data end too early")


def _inflated(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Decode zlib's format, and the bare deflate that some servers send in its place."""
    inflater = None
    start = b""
    for part in filter(None, parts):
        if inflater is not None and inflater.eof:
            raise Damaged("there is more behind the end of its deflate data")
        start = part if inflater is not None else start + part
        if len(start) < 2 and inflater is None:
            continue
        if inflater is None:
            # RFC 1950, 2.2: the method, and a check of the first two bytes.
            has_header = start[0] & 15 == 8 and int.from_bytes(start[:2], "big") % 31 == 0
            inflater = zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)
        yield from _pieces(inflater, start)
        if inflater.unused_data:
            raise Damaged("there is more behind the end of its deflate data")
    if start and (inflater is None or not inflater.eof):
        raise Damaged("its deflate data end too early")


def _pieces(inflater: "zlib._Decompress", part: bytes) -> Iterator[bytes]:
    while part:
        try:
            piece = inflater.decompress(part, _PIECE_BYTES)
        except zlib.error as error:
            raise Damaged(f"its compressed data are damaged ({error})") from error
        part = inflater.unconsumed_tail
        if piece:
            yield piece
    # What is left inside of it has no input any more, and is less than a piece most of the time.
    while not inflater.eof and (piece := _rest(inflater)):
        yield piece


def _rest(inflater: "zlib._Decompress") -> bytes:
    try:
        return inflater.decompress(b"", _PIECE_BYTES)
    except zlib.error:
        return b""


def _unbrotlied(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Decode brotli (RFC 7932): one stream, with nothing behind it."""
    decoder = _brotli.Decompressor()
    is_begun = False
    try:
        for part in filter(None, parts):
            if decoder.is_finished():
                raise Damaged("there is more behind the end of its br data")
            is_begun = True
            piece = decoder.process(part, output_buffer_limit=_BROTLI_BYTES)
            # It takes more from the moment on when it has read everything, with a window of output still inside of it.
            while piece or not decoder.can_accept_more_data():
                if piece:
                    yield piece
                piece = decoder.process(b"", output_buffer_limit=_BROTLI_BYTES)
        is_whole = decoder.is_finished()
    except _brotli.error as error:  # it says no more than that
        raise Damaged("its br data are damaged, or there is more behind their end") from error
    if is_begun and not is_whole:
        raise Damaged("its br data end too early")


def _unzstded(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Decode zstd with one or more frames, of which some may be there to be skipped (RFC 8878, 3.1)."""
    options = {_zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    frame = None
    try:
        for part in parts:
            left = part
            while left:
                if frame is None or frame.eof:
                    frame = _zstd.ZstdDecompressor(options=options)
                piece = frame.decompress(left, _PIECE_BYTES)
                while piece:
                    yield piece
                    piece = b"" if frame.eof or frame.needs_input else frame.decompress(b"", _PIECE_BYTES)
                left = frame.unused_data
    except _zstd.ZstdError as error:
        # There is no other sign of it.
        if "too much memory" in str(error):
            raise UnknownCoding("only windows of up to 8 MiB are accepted (RFC 9659)") from error
        raise Damaged(f"its zstd data are damaged ({error})") from error
    if frame is not None and not frame.eof:
        raise Damaged("its zstd data end too early")


def _library(name: str) -> Any:
    """Import a library of the extra `codings`; None when it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        return None


def _missing(coding: str) -> str:
    needed = _PACKAGES.get(coding)
    if needed is None or coding in _DECODERS:
        return ""
    return f"; {coding} needs {needed}, which is not installed: it is in the extra 'codings', see docs/sources.md"


# Python has the second one itself since 3.14.
_PACKAGES: Final = {"br": "brotli 1.2", "zstd": "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"}
_brotli: Final = _library("brotli")
_zstd: Final = _library(_PACKAGES["zstd"])

_DECODERS: Final[dict[str, Callable[[Iterable[bytes]], Iterator[bytes]]]] = {
    "gzip": _unzipped,
    "x-gzip": _unzipped,
    "deflate": _inflated,
}
# Before 1.2 it gives out at once whatever a part expands to.
if hasattr(getattr(_brotli, "Decompressor", None), "can_accept_more_data"):
    _DECODERS["br"] = _unbrotlied
if _zstd is not None:
    _DECODERS["zstd"] = _unzstded

# What is asked for.
ACCEPTED: Final = ", ".join(name for name in _DECODERS if name != "x-gzip")
