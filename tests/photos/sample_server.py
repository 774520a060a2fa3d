"""The sample API as a process of its own, as operators start it."""

import http.client
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PHOTOS = 123  # three albums, and pages that do not come out even
TIMEOUT_SECONDS = 30  # generous: the machine may be busy


@dataclass(frozen=True, kw_only=True)
class Server:
    process: "subprocess.Popen[str]"
    address: str  # host:port

    def get(self, path: str, *, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection(self.address, timeout=TIMEOUT_SECONDS)
        connection.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response, body

    def json(self, path: str) -> object:
        response, body = self.get(path)
        assert response.status == 200
        return json.loads(body)

    def send(self, raw: bytes, *, half_close: bool = False) -> bytes:
        """Send these bytes and return everything that comes back until the server closes the connection."""
        host, _, port = self.address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=TIMEOUT_SECONDS) as connection:
            connection.sendall(raw)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))


@contextmanager
def sample_api(*arguments: str) -> Iterator[Server]:
    """Run the server on a free port; it has to end with status 0, at once, and to have written nothing to stderr."""
    command = [sys.executable, "-m", "photos.sample_api", "--port", "0", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.search(r"http://(\S+)$", line)
        assert match, line
        yield Server(process=process, address=match[1])
    except BaseException:
        process.kill()
        process.communicate()
        raise
    process.terminate()
    output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert (process.returncode, output, errors) == (0, "", "")
