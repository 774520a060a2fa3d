"""Files in a folder of this machine."""

import errno
import glob
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from ingestion.errors import ConfigurationError, RunFailed
from ingestion.http import TransientFailure
from ingestion.sources.files.entries import ByteStream, Entry, Session, readable, version_of

_NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


@dataclass(frozen=True, kw_only=True)
class Disk:
    """A folder that every worker sees under the same path: a mounted drive, or a drop folder of this machine."""

    folder: str | Path | Callable[[], str]

    @contextmanager
    def session(self) -> Iterator[Session]:
        folder = Path(self.folder() if callable(self.folder) else self.folder).resolve()
        with _translated(f"the folder {folder}"):
            if not folder.is_dir():
                raise ConfigurationError(f"the folder {folder} is not there, or cannot be read")
            # What looks for files takes one that cannot be listed for an empty one.
            os.scandir(folder).close()
        yield _Folder(folder)


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, pattern: str) -> Iterator[Entry]:
        for name in glob.iglob(pattern, root_dir=self._folder, recursive=True):  # noqa: PTH207 - names, not paths
            path = self._folder / name
            entry = _entry(name, path)
            if entry is None:
                continue
            with _translated(name):
                is_within = path.resolve().is_relative_to(self._folder)
            if not is_within:
                yield Entry(name=entry.name, handle=path, version="", problem="a link that leads out of the folder")
            else:
                yield entry

    def look(self, entry: Entry) -> Entry | None:
        return _entry(os.path.relpath(entry.handle, self._folder), entry.handle)

    def open(self, entry: Entry, offset: int) -> ByteStream:
        with _translated(entry.name), ExitStack() as stack:
            file = stack.enter_context(Path(entry.handle).open("rb"))
            file.seek(offset)
            stack.pop_all()
        return _File(file, entry.name)

    def move(self, entry: Entry, name: str) -> None:
        target = self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # On one file system it is a rename, which nobody sees half done.
        shutil.move(entry.handle, target)


class _File:
    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, self._name = file, name

    def read(self, size: int = -1, /) -> bytes:
        with _translated(self._name):
            return self._file.read(size)

    def close(self) -> None:
        self._file.close()


@contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise TransientFailure(f"{name} is no longer there") from error
    except PermissionError as error:
        raise RunFailed("access", f"{name} cannot be read: {error.strerror}") from error
    except OSError as error:
        # A disk that fails, or more often a mounted drive that is away.
        raise TransientFailure(f"{name} cannot be read now: {error.strerror}") from error


def _entry(name: str, path: Path) -> Entry | None:
    with _translated(name):
        try:
            found = path.stat()
        except OSError as error:
            # Also a link to itself, and one into a file as if it were a folder.
            if error.errno not in _NOT_THERE:
                raise
            return None
    if not stat.S_ISREG(found.st_mode):
        return None
    # The inode tells a file from another one that was put in its place within the clock's grain.
    return Entry(
        name=readable(os.fsencode(name)),
        handle=path,
        version=version_of(found.st_size, found.st_mtime_ns, found.st_ino),
        size_bytes=found.st_size,
        modified_at=datetime.fromtimestamp(found.st_mtime, tz=UTC),
    )
