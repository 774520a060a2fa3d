"""Which user the database server runs as, and which paths that user can reach."""

import os
import pwd
import signal
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from .errors import ServerError
from .processes import die_with_parent


class Switch(TypedDict, total=False):
    """Arguments of `subprocess` that change to another user."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, kw_only=True)
class Account:
    """The user that owns the cluster and runs PostgreSQL."""

    name: str
    uid: int
    gid: int

    @property
    def is_other(self) -> bool:
        """Whether this is not the user that runs the project."""
        return self.uid != os.geteuid()

    @property
    def switch(self) -> Switch:
        """Arguments for `subprocess` that run a program as this user; empty for the current one."""
        return Switch(user=self.uid, group=self.gid, extra_groups=[]) if self.is_other else Switch()

    def own(self, path: Path | str) -> None:
        """Give a file or directory (never what is inside it) to this user."""
        if self.is_other:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def can_enter(self, directory: Path) -> bool:
        """Tell whether this user can reach the directory, by trying: modes alone say nothing about ACLs or mounts."""
        return self.run(["/bin/sh", "-c", 'cd -- "$1"', "sh", directory]).returncode == 0

    def run(
        self, arguments: Sequence[str | Path], env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a short-lived program as this user and return what it wrote; it does not outlive this process."""
        return subprocess.run(  # noqa: S603 (programs of ours, no shell)
            arguments,
            cwd="/",
            env=env,
            capture_output=True,
            check=False,
            preexec_fn=die_with_parent(signal.SIGKILL),
            **self.switch,
        )


def database_account() -> Account:
    """Return the user PostgreSQL runs as: `nobody` for root, because it refuses to run as root, else the current one.

    Raises:
        ServerError: the user has no entry in the passwd database, which initdb and libpq need.
    """
    wanted = "nobody" if os.geteuid() == 0 else None
    try:
        entry = pwd.getpwnam(wanted) if wanted else pwd.getpwuid(os.geteuid())
    except KeyError:
        who = f"user {wanted!r}" if wanted else f"user id {os.geteuid()}"
        raise ServerError(
            f"The embedded PostgreSQL needs a passwd entry for {who}, and there is none. "
            "Add one to /etc/passwd, run as another user, or set DATABASE_URL to a server of your own."
        ) from None
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)


def check_private(directory: Path, owner: int) -> None:
    """Make sure that a directory in a place everybody can write to is the one we made.

    Raises:
        ServerError: it is no directory, belongs to somebody else, or others may write into it.
    """
    status = directory.stat(follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != owner or status.st_mode & stat.S_IWOTH:
        raise ServerError(
            f"{directory} should be a private directory of user id {owner}, and is not "
            f"(owner {status.st_uid}, mode {stat.filemode(status.st_mode)}). "
            "Remove it if it is yours; if not, delete servers.json in the data directory to get another place."
        )
