"""Files on an FTP server, plain or with TLS (RFC 959, 3659, 4217)."""

import ftplib
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from ingestion.errors import Blame, ConfigurationError, RunFailed
from ingestion.http import Sent, TransientFailure, addresses_of_files, secrets_in
from ingestion.http.deadlines import Watchdog
from ingestion.sources.files.discretion import discreet
from ingestion.sources.files.entries import ByteStream, Entry, Session, readable, version_of
from ingestion.sources.files.folders import Found, walk
from ingestion.texts import Text, text_of

T = TypeVar("T")

# Replies that say that there is no such file.
_GONE: Final = ("550", "553", "450")
# Those about the server or its connections: not available, no data connection, it was closed (RFC 959, 4.2.2).
_OUT: Final = ("421", "425", "426")


@dataclass(frozen=True, kw_only=True)
class Ftp:
    """A folder of an FTP server.

    Args:
        host, user, folder: or functions that return them when a run starts.
        password: a function that returns it when a run starts; None for an anonymous login.
        tls: encrypt the login and the data (explicit TLS); the certificate is checked.
        ca_file: certificates to trust instead of the system's.
        folder: where patterns begin.
        silence: the longest wait for the server.
        deadline: for each block that is read of a file, 256 KiB at most.
    """

    host: Text
    port: int = 21
    user: Text = "anonymous"
    password: Callable[[], str] | None = None
    tls: bool = True
    ca_file: str | None = None
    folder: Text = ""
    silence: timedelta = timedelta(seconds=30)
    deadline: timedelta = timedelta(minutes=5)

    @contextmanager
    def session(self) -> Iterator[Session]:
        server = _Server(self)
        try:
            with discreet(server, Sent(secrets_in(self.password() if self.password else ""))) as session:
                yield session
        finally:
            server.close()

    def connect(self) -> ftplib.FTP:
        """Return a connection that is logged in.

        Raises:
            TransientFailure, RunFailed, ConfigurationError.
        """
        host, user, folder = text_of(self.host), text_of(self.user), text_of(self.folder)
        ftp = self._client()
        try:
            with _translated(host):
                _connect(ftp, host, self.port)
                ftp.login(user, self.password() if self.password else "anonymous@")
                if isinstance(ftp, ftplib.FTP_TLS):
                    ftp.prot_p()
                ftp.voidcmd("TYPE I")
                if folder:
                    ftp.cwd(folder)
        except BaseException:
            ftp.close()
            raise
        return ftp

    def _client(self) -> ftplib.FTP:
        # Names are bytes to this protocol; Latin-1 lets each through as it is.
        seconds = self.silence.total_seconds()
        if not self.tls:
            return ftplib.FTP(timeout=seconds, encoding="latin-1")  # noqa: S321 - declared so, for servers without TLS
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise ConfigurationError(f"the certificates in {self.ca_file} cannot be read: {error}") from error
        return ftplib.FTP_TLS(timeout=seconds, encoding="latin-1", context=context)  # noqa: S321 - encrypted


def _connect(ftp: ftplib.FTP, host: str, port: int) -> None:
    """Connect to the first address of the host that answers; data connections go to the same one."""
    failure = OSError("the name has no address")
    for address in addresses_of_files(host, port):
        try:
            ftp.connect(address, port)
        except OSError as error:
            ftp.close()
            failure = error
            continue
        ftp.host = host  # the name that a certificate has to have
        return
    raise failure


class _Server:
    """Keeps one connection for commands; each transfer has one of its own, whose replies it can wait for."""

    def __init__(self, place: Ftp) -> None:
        self._place = place
        self._ftp: ftplib.FTP | None = None
        self._has_mlsd = True

    def _ask(self, call: Callable[[ftplib.FTP], T], name: str) -> T:
        """Call a function with the connection, which is made anew after it broke."""
        if self._ftp is None:
            self._ftp = self._place.connect()
        try:
            with _translated(name):
                return call(self._ftp)
        except TransientFailure:
            self.close()
            raise

    def find(self, pattern: str) -> Iterator[Entry]:
        return walk(pattern, self._listing)

    def _listing(self, folder: str) -> Iterator[Found]:
        path = folder.encode().decode("latin-1").rstrip("/")
        lines = self._ask(lambda ftp: list(ftp.mlsd(path, ["type", "size", "modify"])), folder or "the folder")
        for raw_name, facts in lines:
            kind = facts.get("type", "").lower()
            if kind in ("cdir", "pdir"):
                continue
            handle = f"{path}/{raw_name}" if path else raw_name
            modified_at = _moment(facts.get("modify", ""))
            size = int(facts["size"]) if facts.get("size", "").isdigit() else None
            yield Found(
                name=readable(raw_name.encode("latin-1")),
                is_folder=kind == "dir",
                entry=_entry(handle, size, modified_at),
            )

    def look(self, entry: Entry) -> Entry | None:
        def ask(ftp: ftplib.FTP) -> Entry | None:
            try:
                ftp.voidcmd("TYPE I")  # a listing leaves it at text, whose size nobody knows
                return _entry(entry.handle, ftp.size(entry.handle), _moment(ftp.sendcmd(f"MDTM {entry.handle}")[4:]))
            except ftplib.Error as error:
                if str(error).startswith(_GONE):
                    return None
                raise

        return self._ask(ask, entry.name)

    def open(self, entry: Entry, offset: int) -> ByteStream:
        ftp = self._place.connect()
        try:
            with _translated(entry.name):
                data = ftp.transfercmd(f"RETR {entry.handle}", rest=offset or None)
        except BaseException:
            ftp.close()
            raise
        return _Transfer(ftp, data, entry.name, self._place.deadline)

    def move(self, entry: Entry, name: str) -> None:
        target = name.encode().decode("latin-1")

        def ask(ftp: ftplib.FTP) -> None:
            folder = ""
            for part in target.split("/")[:-1]:
                folder += f"{part}/"
                with suppress(ftplib.error_perm):  # it is there already
                    ftp.mkd(folder)
            ftp.rename(entry.handle, target)

        self._ask(ask, entry.name)

    def close(self) -> None:
        if self._ftp is not None:
            self._ftp.close()
            self._ftp = None


class _Transfer:
    """One file's data connection, which is believed to be whole when the server has said so."""

    def __init__(self, ftp: ftplib.FTP, data: socket.socket, name: str, deadline: timedelta) -> None:
        self._ftp, self._data, self._name = ftp, data, name
        self._file = data.makefile("rb")
        self._is_over = False
        self._watchdog = Watchdog(deadline, self._hang_up)

    def read(self, size: int = -1, /) -> bytes:
        if self._is_over:
            return b""
        with self._watchdog.watching(f"FTP, {self._name}"), _translated(self._name):
            received = self._file.read(size)
            if received or size == 0:
                return received
            self._is_over = True
            self._file.close()
            if isinstance(self._data, ssl.SSLSocket):
                with suppress(OSError):  # some servers just close
                    self._data.unwrap()
            self._data.close()
            # 226: the server has sent all of it. Without that a cut connection looks like the end.
            self._ftp.voidresp()
        return b""

    def _hang_up(self) -> None:
        """Shut both connections down, from the watchdog's thread."""
        for connection in (self._data, self._ftp.sock):
            if connection is not None:
                with suppress(OSError):  # it was closed in the meantime
                    # Not the TLS socket's own method, which is not made for being called from another thread.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def close(self) -> None:
        self._watchdog.stop()
        with suppress(OSError):
            self._file.close()
            self._data.close()
        self._ftp.close()


@contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except ftplib.error_perm as error:
        raise RunFailed("access", f"FTP refused {name}: {str(error)[:200]}") from error
    except ssl.SSLCertVerificationError as error:
        raise RunFailed("access", f"FTP, {name}: the certificate cannot be trusted: {error.reason}") from error
    except ValueError as error:
        raise RunFailed("access", f"FTP, {name}: a name that cannot be sent: {error}") from error
    except (ftplib.Error, OSError, EOFError) as error:
        blames: Blame = "request" if isinstance(error, ftplib.Error) and not str(error).startswith(_OUT) else "host"
        raise TransientFailure(f"FTP, {name}: {type(error).__name__}: {str(error)[:200]}", blames=blames) from error


def _moment(text: str) -> datetime | None:
    try:
        return datetime.strptime(text.partition(".")[0].strip(), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _entry(handle: str, size: int | None, modified_at: datetime | None) -> Entry:
    version = version_of(size, modified_at) if modified_at else ""
    name = readable(handle.encode("latin-1"))
    return Entry(name=name, handle=handle, version=version, size_bytes=size, modified_at=modified_at)
