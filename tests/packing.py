"""Bodies as a server compresses them, by the name of the content coding."""

import gzip
import sys
import zlib

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["PACKED", "zstd"]

PACKED = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    # As of a server that compresses while it sends; the best quality takes far longer.
    "br": lambda body: brotli.compress(body, quality=5),
    "zstd": zstd.compress,
}
