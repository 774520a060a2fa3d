"""An export that is far bigger than what is sent of it: a gzip CSV file, served over HTTP and as an object of S3."""

import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer

import boto3

from tests.bench.remotes import Photos
from tests.ingestion.files import servers

BUCKET, NAME = "soak", "photos.csv.gz"
KEY_ID = SECRET = "soak-soak"
# A column that no feed takes. With it a row has 2,300 bytes, and 10 GiB become 64 MiB.
_NOTE = ("lorem ipsum dolor sit amet " * 90)[:2280]
_BLOCK_ROWS = 1_000


def export(size_bytes: int) -> tuple[bytes, int, int]:
    """Make a gzip file of about so many bytes of CSV; return it, its rows, and its size without compression."""
    compressor = zlib.compressobj(level=4, wbits=zlib.MAX_WBITS | 16)
    head = b"id,title,note\n"
    pieces, size, rows = [compressor.compress(head)], len(head), 0
    while size < size_bytes:
        block = "".join(f"{number},photo {number},{_NOTE}\n" for number in range(rows + 1, rows + _BLOCK_ROWS + 1))
        pieces.append(compressor.compress(block.encode()))
        size += len(block)
        rows += _BLOCK_ROWS
    pieces.append(compressor.flush())
    return b"".join(pieces), rows, size


@contextmanager
def served(content: bytes) -> Iterator[dict[str, str]]:
    """Serve the file in both ways; yields the variables that the feeds of `tests.soak.app` take."""
    handler = type("Export", (Photos,), {"file": content, "pages": []})
    web = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        with servers.s3() as endpoint:
            client = boto3.client(
                "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=KEY_ID,
                aws_secret_access_key=SECRET,
            )  # fmt: skip
            client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key=NAME, Body=content)
            yield {"SOAK_API_URL": f"http://127.0.0.1:{web.server_port}", "SOAK_S3_URL": endpoint}
    finally:
        web.shutdown()
        thread.join()
        web.server_close()
