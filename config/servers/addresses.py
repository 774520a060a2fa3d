"""Where the embedded servers of one data directory listen, and their secrets: chosen once, kept in `servers.json`."""

import fcntl
import json
import os
import secrets
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from .errors import ServerError

NAME = "ingestion"
"""Name of the database and of its superuser."""

PORT = 5432
"""Only a part of the socket's file name: nothing listens on TCP."""

# sockaddr_un holds 107 bytes and a NUL; the longest name put behind the directory is ".s.PGSQL.5432.lock".
SOCKET_DIR_BYTES = 107 - len("/.s.PGSQL.5432.lock")


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where the embedded servers of a checkout listen."""

    socket_dir: str
    password: str = field(repr=False)
    secret_key: str = field(repr=False)
    sample_api_port: int

    @property
    def database(self) -> dict[str, object]:
        """The entry for Django's DATABASES."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": NAME,
            "USER": NAME,
            "PASSWORD": self.password,
            "HOST": self.socket_dir,
            "PORT": PORT,
        }

    @property
    def database_url(self) -> str:
        """The same as a DATABASE_URL in django-environ's form: the socket's directory stands in front of the name."""
        return f"postgres://{NAME}:{self.password}@:{PORT}/{quote(self.socket_dir)}/{NAME}"

    @property
    def redis_socket(self) -> str:
        """Path of the broker's socket."""
        return f"{self.socket_dir}/redis.sock"

    @property
    def redis_url(self) -> str:
        """The broker's URL in kombu's form."""
        return f"redis+socket://:{self.password}@{self.redis_socket}?virtual_host=0"

    @property
    def keeper_socket(self) -> str:
        """Path of the socket on which the keeper takes leases."""
        return f"{self.socket_dir}/keeper.sock"


def addresses(data_dir: Path) -> Addresses:
    """Return the addresses of a data directory, choosing them on first need. Starts nothing.

    Raises:
        ServerError: the data directory cannot be created or written by this user.
    """
    try:
        make_data_dir(data_dir)
        return _known(data_dir) or _choose(data_dir)
    except PermissionError as error:
        raise ServerError(
            f"Cannot use the data directory {data_dir}: {error.strerror} ({error.filename}). "
            "It may belong to another user: set DATA_DIR to a directory of your own."
        ) from error


def make_data_dir(data_dir: Path) -> None:
    """Create the data directory and its logs directory, passable for the database's user but not readable."""
    if not data_dir.is_dir():
        data_dir.mkdir(parents=True, exist_ok=True)
        data_dir.chmod(0o711)
    (data_dir / "logs").mkdir(mode=0o700, exist_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, waiting for it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _known(data_dir: Path) -> Addresses | None:
    try:
        content = json.loads((data_dir / "servers.json").read_text())
    except FileNotFoundError:
        return None
    # Note [Copied checkout]: a copy of a data directory must not share its sockets with the original.
    if content.pop("inode") != data_dir.stat().st_ino:
        return None
    return Addresses(**content)


def _choose(data_dir: Path) -> Addresses:
    """Write `servers.json`; of several processes that try at once, the first decides for all."""
    with locked(data_dir / "servers.lock"):
        if known := _known(data_dir):
            return known
        chosen = Addresses(
            socket_dir=_free_socket_dir(),
            password=secrets.token_urlsafe(24),
            secret_key=secrets.token_urlsafe(50),
            sample_api_port=_free_port(),
        )
        path = data_dir / "servers.json"
        if path.exists():
            # Note [Copied checkout]: the copied cluster keeps its password.
            kept = json.loads(path.read_text())
            chosen = replace(chosen, password=kept["password"], secret_key=kept["secret_key"])
        content = json.dumps(asdict(chosen) | {"inode": data_dir.stat().st_ino}, indent=2)
        write_private(path, content + "\n")
        return chosen


def write_private(path: Path, content: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with mode 0600
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(name).replace(path)


def _free_socket_dir() -> str:
    """Return a path of our own in the first temporary directory that is short enough and open to other users."""
    parents = (tempfile.gettempdir(), "/tmp", "/var/tmp")  # noqa: S108 (a random name, and its owner is checked)
    for parent in dict.fromkeys(Path(parent).resolve() for parent in parents):
        path = f"{parent}/{NAME}-{secrets.token_hex(6)}"
        is_passable = os.geteuid() != 0 or parent.stat().st_mode & stat.S_IXOTH
        if len(os.fsencode(path)) <= SOCKET_DIR_BYTES and os.access(parent, os.W_OK | os.X_OK) and is_passable:
            return path
    raise ServerError("No temporary directory is writable and short enough for a socket; set TMPDIR to one.")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
