"""Serve the photos as other kinds of sources have them: GraphQL, and a CSV file over HTTP or in a bucket of S3.

Whoever serves takes part of two cores, so everything is made before the first request and sent as it is.
"""

import argparse
import csv
import io
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from photos.sample_records import photo
from tests.bench.shapes import PAGE_RECORDS

BUCKET, FILE = "bench", "photos.csv"


def connection_pages(rows: int) -> Iterator[bytes]:
    """Make the answers to the pages of a connection, whose cursors are numbers of pages."""
    for start in range(1, rows + 1, PAGE_RECORDS):
        end = min(start + PAGE_RECORDS, rows + 1)
        info = {"endCursor": str(start // PAGE_RECORDS + 1), "hasNextPage": end <= rows}
        nodes = [photo(number) for number in range(start, end)]
        yield json.dumps({"data": {"photos": {"nodes": nodes, "pageInfo": info}}}, separators=(",", ":")).encode()


def csv_file(rows: int) -> bytes:
    """Make a CSV file as Python's csv writes it: nothing in photos needs quotes."""
    text = io.StringIO()
    lines = csv.DictWriter(text, fieldnames=list(photo(1)))
    lines.writeheader()
    lines.writerows(map(photo, range(1, rows + 1)))
    return text.getvalue().encode()


class Photos(BaseHTTPRequestHandler):
    """GraphQL at any path that is posted to, the file at any other one."""

    pages: ClassVar[list[bytes]]
    file: ClassVar[bytes]
    protocol_version = "HTTP/1.1"
    # Head and body are two writes; the second would wait for the client's acknowledgement of the first.
    disable_nagle_algorithm = True

    def do_HEAD(self) -> None:
        self._head("text/csv", self.file)

    def do_GET(self) -> None:
        self._head("text/csv", self.file)
        self.wfile.write(self.file)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        page = self.pages[int(asked["variables"].get("after", 0))]
        self._head("application/json", page)
        self.wfile.write(page)

    def _head(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if body is self.file:
            self.send_header("ETag", f'"{len(body)}"')
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name
        pass


def serve_web(rows: int) -> str:
    """Serve GraphQL and the file; return the URL."""
    Photos.pages, Photos.file = list(connection_pages(rows)), csv_file(rows)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Photos)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def serve_s3(rows: int) -> str:
    """Serve the file with moto; return the endpoint."""
    import boto3
    from moto.server import ThreadedMotoServer

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False).start()
    url = f"http://127.0.0.1:{port}"
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="bench", aws_secret_access_key="bench"
    )
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key=FILE, Body=csv_file(rows))
    return url


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.remotes")
    parser.add_argument("kind", choices=["web", "s3"])
    parser.add_argument("--rows", type=int, required=True)
    options = parser.parse_args()
    url = {"web": serve_web, "s3": serve_s3}[options.kind](options.rows)
    print(f"Listening on {url}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
