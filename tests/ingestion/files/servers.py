"""Real servers on loopback: S3 (moto), FTP with and without TLS (pyftpdlib), SFTP (asyncssh), HTTP with ranges."""

import asyncio
import hashlib
import socket
import subprocess
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.remote import Remote, Reply, Request

with warnings.catch_warnings():
    # pyftpdlib stands on asyncore, which Python 3.11 warns of and 3.12 replaces by a package.
    warnings.simplefilter("ignore")
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import DTPHandler, FTPHandler, ThrottledDTPHandler, TLS_FTPHandler
    from pyftpdlib.ioloop import IOLoop
    from pyftpdlib.servers import FTPServer

USER, PASSWORD = "reader", "s3cret-passw0rd"


def certificate(folder: Path) -> Path:
    """Make a certificate for 127.0.0.1, and return the file with it and its key."""
    both = folder / "server.pem"
    if not both.exists():
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
             "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", both, "-out", folder / "only.pem"],
            check=True, capture_output=True,
        )  # fmt: skip
        both.write_text(both.read_text() + (folder / "only.pem").read_text())
    return both


class CuttingData(DTPHandler):
    """Ends the data connection after `cuts[0]` bytes of a transfer, and the control connection with it."""

    cuts: list[int] = []

    def send(self, data: bytes) -> int:
        if self.cuts and self.tot_bytes_sent + len(data) >= self.cuts[0]:
            super().send(data[: self.cuts.pop(0) - self.tot_bytes_sent])
            self.cmd_channel.close()
            self.close()
            return 0
        return super().send(data)


class TricklingData(ThrottledDTPHandler):
    """Sends a transfer in pieces of a few bytes."""

    write_limit = 50


@contextmanager
def ftp(folder: Path, *, tls: Path | None = None, data: type[DTPHandler] = CuttingData) -> Iterator[int]:
    """Serve a folder; yields the port."""
    authorizer = DummyAuthorizer()
    authorizer.add_user(USER, PASSWORD, str(folder), perm="elradfmw")

    class Handler(TLS_FTPHandler if tls else FTPHandler):
        pass

    Handler.authorizer = authorizer
    if tls:
        Handler.certfile, Handler.tls_control_required, Handler.tls_data_required = str(tls), True, True
    else:
        Handler.dtp_handler, Handler.use_sendfile = data, False
    loop = IOLoop()
    server = FTPServer(("127.0.0.1", 0), Handler, ioloop=loop)
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            loop.loop(timeout=0.01, blocking=False)
        server.close_all()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.socket.getsockname()[1]
    finally:
        over.set()
        thread.join()


@contextmanager
def sftp(folder: Path) -> Iterator[tuple[int, str]]:
    """Serve a folder; yields the port and a known_hosts line."""
    import asyncssh

    key = asyncssh.generate_private_key("ssh-ed25519")
    loop = asyncio.new_event_loop()

    class Server(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return True

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return (username, password) == (USER, PASSWORD)

    def jailed(channel: Any) -> Any:
        return asyncssh.SFTPServer(channel, chroot=str(folder).encode())

    async def start() -> Any:
        return await asyncssh.listen("127.0.0.1", 0, server_factory=Server, server_host_keys=[key], sftp_factory=jailed)

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(start(), loop).result()
    port = server.sockets[0].getsockname()[1]
    try:
        yield port, f"[127.0.0.1]:{port} {key.export_public_key().decode()}"
    finally:

        async def stop() -> None:
            server.close()
            await server.wait_closed()
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def s3() -> Iterator[str]:
    """Serve moto's S3; yields its URL."""
    from moto.server import ThreadedMotoServer

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()


def folder_over_http(folder: Path, *, ranges: bool = True, tags: bool = True, head: bool = True) -> Any:
    """Return what answers requests for a folder's files, as a file server does."""

    def answer(request: Request) -> Reply:
        path = folder / unquote(request.path).strip("/")
        if not head and request.method == "HEAD":
            return Reply(405)
        if not path.is_file():
            return Reply(404)
        content = path.read_bytes()
        headers = {"Content-Type": "text/csv"}
        if tags:
            headers["ETag"] = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            headers["Last-Modified"] = formatdate(path.stat().st_mtime, usegmt=True)
        asked, matches = request.headers.get("range"), request.headers.get("if-range")
        if ranges and asked and (matches is None or matches == headers.get("ETag")):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            part = content[int(first) : int(last) + 1 if last else None]
            if not part:
                return Reply(416, headers={"Content-Range": f"bytes */{len(content)}"})
            headers["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
            return Reply(206, part, headers)
        return Reply(200, content, headers | {"Content-Length": str(len(content))})

    return answer


def web(folder: Path, **options: Any) -> Remote:
    return Remote(folder_over_http(folder, **options))
