"""Files on an SFTP server."""

import asyncio
import stat
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import TimeoutError as NotInTimeError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from ingestion.errors import Blame, ConfigurationError, RunFailed
from ingestion.http import Sent, TransientFailure, addresses_of_files, secrets_in
from ingestion.sources.files.discretion import discreet
from ingestion.sources.files.entries import ByteStream, Entry, Session, readable, version_of
from ingestion.sources.files.extras import needed
from ingestion.sources.files.folders import Found, walk
from ingestion.texts import Text, text_of

T = TypeVar("T")

# A read of this size is asked for in several requests at once.
_BLOCK: Final = 512 * 1024


@dataclass(frozen=True, kw_only=True)
class Sftp:
    """A folder of an SFTP server.

    Args:
        host, user, folder: or functions that return them when a run starts.
        known_hosts: the server's keys, as lines of a `known_hosts` file (`ssh-keyscan` prints them). It is refused
            with any other one.
        password: a function that returns it when a run starts.
        key: a function that returns a private key's text when a run starts.
        folder: where patterns begin; the one after the login when empty.
        silence: the longest wait for the server.
    """

    host: Text
    user: Text
    known_hosts: Text
    port: int = 22
    password: Callable[[], str] | None = None
    key: Callable[[], str] | None = None
    folder: Text = ""
    silence: timedelta = timedelta(seconds=30)

    @contextmanager
    def session(self) -> Iterator[Session]:
        with _loop() as loop:
            server = _Server(self, loop)
            try:
                with discreet(server, Sent(secrets_in(self.password() if self.password else ""))) as session:
                    yield session
            finally:
                server.close()


@contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in a thread: the library knows nothing else."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="sftp", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class _Server:
    def __init__(self, place: Sftp, loop: asyncio.AbstractEventLoop) -> None:
        self._place, self._loop = place, loop
        self._ssh = needed("asyncssh", "sftp")
        # It tells the story of every connection.
        self._ssh.set_log_level("WARNING")
        self._connection: Any = None
        self._sftp: Any = None

    def ask(self, call: Callable[[Any], Awaitable[T]], name: str) -> T:
        """Run a coroutine function with the SFTP client, connecting first where that is needed.

        Raises:
            TransientFailure, RunFailed, ConfigurationError.
            FileNotFoundError: there is no such file.
        """
        try:
            with _translated(self._ssh, name):
                if self._sftp is None:
                    self._wait(self._connect())
                return self._wait(call(self._sftp))
        except TransientFailure:
            self.close()
            raise

    def _wait(self, awaitable: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await awaitable

        future = asyncio.run_coroutine_threadsafe(awaited(), self._loop)
        try:
            return future.result(timeout=self._place.silence.total_seconds())
        except NotInTimeError:
            future.cancel()
            raise TransientFailure(f"SFTP, {text_of(self._place.host)}: no answer in time", blames="host") from None

    async def _connect(self) -> None:
        place = self._place
        host, failure = text_of(place.host), OSError("the name has no address")
        options: dict[str, Any] = {
            "host_key_alias": host,
            "username": text_of(place.user),
            "password": place.password() if place.password else None,
            "client_keys": [self._ssh.import_private_key(place.key())] if place.key else [],
            "known_hosts": self._ssh.import_known_hosts(text_of(place.known_hosts)),
            "agent_path": None,
            "config": [],
        }
        # In another thread: looking a name up has no limit of its own.
        for address in await asyncio.to_thread(addresses_of_files, host, place.port):
            try:
                self._connection = await self._ssh.connect(address, place.port, **options)
                break
            except OSError as error:
                failure = error
        else:
            raise failure
        # Names are bytes: not every server has them in UTF-8.
        self._sftp = await self._connection.start_sftp_client(path_encoding=None)
        if folder := text_of(place.folder):
            await self._sftp.chdir(folder.encode())

    def find(self, pattern: str) -> Iterator[Entry]:
        return walk(pattern, self._listing)

    def _listing(self, folder: str) -> Iterator[Found]:
        path = folder.encode().rstrip(b"/") or b"."
        try:
            listed = self.ask(lambda sftp: sftp.readdir(path), folder or "the folder")
        except FileNotFoundError as error:
            raise RunFailed("file_missing", f"there is no folder {folder}") from error
        for found in listed:
            raw_name, attributes = found.filename, found.attrs
            handle = raw_name if path == b"." else path + b"/" + raw_name
            mode = attributes.permissions or 0
            if stat.S_ISLNK(mode):
                attributes = self._target(handle)
                mode = (attributes and attributes.permissions) or 0
            is_readable = not mode or stat.S_ISREG(mode) or stat.S_ISDIR(mode)
            if attributes is None or not is_readable:
                continue
            yield Found(name=readable(raw_name), is_folder=stat.S_ISDIR(mode), entry=_entry(handle, attributes))

    def _target(self, link: bytes) -> Any:
        try:
            return self.ask(lambda sftp: sftp.stat(link), readable(link))
        except FileNotFoundError:
            return None

    def look(self, entry: Entry) -> Entry | None:
        try:
            return _entry(entry.handle, self.ask(lambda sftp: sftp.stat(entry.handle), entry.name))
        except FileNotFoundError:
            return None

    def open(self, entry: Entry, offset: int) -> ByteStream:
        try:
            file = self.ask(lambda sftp: sftp.open(entry.handle, "rb"), entry.name)
        except FileNotFoundError as error:
            raise TransientFailure(f"{entry.name} is no longer there") from error
        return _File(self, file, offset, entry.name)

    def move(self, entry: Entry, name: str) -> None:
        folder = name.rpartition("/")[0].encode()
        if folder:
            self.ask(lambda sftp: sftp.makedirs(folder, exist_ok=True), name)
        self.ask(lambda sftp: sftp.rename(entry.handle, name.encode()), entry.name)

    def close(self) -> None:
        connection, self._connection, self._sftp = self._connection, None, None
        if connection is not None:
            with suppress(TransientFailure):
                self._wait(_closed(connection))


async def _closed(connection: Any) -> None:
    connection.abort()
    await connection.wait_closed()


class _File:
    def __init__(self, server: _Server, file: Any, offset: int, name: str) -> None:
        self._server, self._file, self._at, self._name = server, file, offset, name
        self._block = b""

    def read(self, size: int = -1, /) -> bytes:
        if not self._block:
            self._block = self._server.ask(lambda _: self._file.read(_BLOCK, self._at), self._name)
            self._at += len(self._block)
        taken = self._block if size < 0 else self._block[:size]
        self._block = self._block[len(taken) :]
        return taken

    def close(self) -> None:
        with suppress(TransientFailure, RunFailed, FileNotFoundError):
            self._server.ask(lambda _: self._file.close(), self._name)


@contextmanager
def _translated(ssh: Any, name: str) -> Iterator[None]:
    try:
        yield
    except (ssh.SFTPNoSuchFile, ssh.SFTPNoSuchPath) as error:
        raise FileNotFoundError(name) from error
    except (ssh.PermissionDenied, ssh.HostKeyNotVerifiable, ssh.SFTPPermissionDenied) as error:
        raise RunFailed("access", f"SFTP refused {name}: {type(error).__name__}: {str(error)[:200]}") from error
    except (ssh.KeyImportError, ValueError) as error:
        raise ConfigurationError(f"SFTP: a key or the known hosts cannot be read: {error}") from error
    except (ssh.Error, OSError) as error:
        is_lost = not isinstance(error, ssh.SFTPError) or isinstance(
            error, ssh.SFTPConnectionLost | ssh.SFTPNoConnection
        )
        blames: Blame = "host" if is_lost else "request"
        raise TransientFailure(f"SFTP, {name}: {type(error).__name__}: {str(error)[:200]}", blames=blames) from error


def _entry(handle: bytes, attributes: Any) -> Entry:
    modified_at = datetime.fromtimestamp(attributes.mtime, tz=UTC) if attributes.mtime is not None else None
    return Entry(
        name=readable(handle),
        handle=handle,
        version=version_of(attributes.size, modified_at) if modified_at else "",
        size_bytes=attributes.size,
        modified_at=modified_at,
    )
