"""Content codings of HTTP (RFC 9110, 8.4.1): a body that was cut or damaged on its way is found. Pure, no I/O."""

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

# What is asked for. Of one piece no more than this is decompressed at once, whatever it expands to.
ACCEPTED: Final = "gzip, deflate"
_PIECE_BYTES: Final = 1024 * 1024
# Several codings on top of each other are legal, and nobody means more than two.
_MOST_CODINGS: Final = 2

_GZIP: Final = 16 + zlib.MAX_WBITS


class UnknownCoding(ValueError):
    """The body has a coding that nobody asked for."""


class Damaged(ValueError):
    """The body is not whole, or not what its coding says."""


def decoded(parts: Iterable[bytes], coding: str) -> Iterator[bytes]:
    """Yield the body that parts were encoded from; holds 1 MiB of it at a time.

    Args:
        coding: the value of Content-Encoding.

    Raises:
        UnknownCoding: at once; the coding is none of those accepted.
        Damaged: while it is read; the end is missing, or a checksum is wrong, or there is more behind the end.
    """
    names = [name for name in (each.strip().lower() for each in coding.split(",")) if name not in ("", "identity")]
    if len(names) > _MOST_CODINGS or not {*names} <= {"gzip", "x-gzip", "deflate"}:
        raise UnknownCoding(coding)
    for name in reversed(names):
        parts = _inflated(parts) if name == "deflate" else _unzipped(parts)
    return iter(parts)


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
    for part in parts:
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
