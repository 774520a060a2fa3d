"""Files in a folder of this machine."""

import glob
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ingestion.errors import ConfigurationError
from ingestion.http import TransientFailure
from ingestion.sources.files.entries import ByteStream, Entry, Session, readable, version_of


@dataclass(frozen=True, kw_only=True)
class Disk:
    """A folder that every worker sees under the same path: a mounted drive, or a drop folder of this machine."""

    folder: str | Path | Callable[[], str]

    @contextmanager
    def session(self) -> Iterator[Session]:
        folder = Path(self.folder() if callable(self.folder) else self.folder).resolve()
        if not folder.is_dir():
            raise ConfigurationError(f"the folder {folder} is not there, or cannot be read")
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
            if not path.resolve().is_relative_to(self._folder):
                yield Entry(name=entry.name, handle=path, version="", problem="a link that leads out of the folder")
            else:
                yield entry

    def look(self, entry: Entry) -> Entry | None:
        return _entry(os.path.relpath(entry.handle, self._folder), entry.handle)

    def open(self, entry: Entry, offset: int) -> ByteStream:
        try:
            file = Path(entry.handle).open("rb")  # noqa: SIM115 - whoever reads it closes it
        except FileNotFoundError as error:
            raise TransientFailure(f"{entry.name} is no longer there") from error
        except OSError as error:
            raise ConfigurationError(f"{entry.name} cannot be read: {error.strerror}") from error
        file.seek(offset)
        return file

    def move(self, entry: Entry, name: str) -> None:
        target = self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # On one file system it is a rename, which nobody sees half done.
        shutil.move(entry.handle, target)


def _entry(name: str, path: Path) -> Entry | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    if not path.is_file():
        return None
    # The inode tells a file from another one that was put in its place within the clock's grain.
    return Entry(
        name=readable(os.fsencode(name)),
        handle=path,
        version=version_of(found.st_size, found.st_mtime_ns, found.st_ino),
        size_bytes=found.st_size,
        modified_at=datetime.fromtimestamp(found.st_mtime, tz=UTC),
    )
