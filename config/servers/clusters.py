"""The database cluster's directory: created whole or not at all, owned by the user that runs PostgreSQL."""

import os
import re
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .accounts import Account
from .addresses import NAME, Addresses
from .errors import ServerError
from .placement import fresh, make_outside, outside_places, point, remove_linked
from .processes import stop_strays
from .programs import POSTGRES_NAMES

FIRST_WITH_BUILTIN_LOCALE = 17


def major_version(programs: Path, account: Account) -> int:
    """Return the major version of these programs."""
    # It answers like: postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
    answer = account.run([programs / "postgres", "--version"]).stdout.decode()
    found = re.search(r"\(PostgreSQL\) (\d+)", answer)
    if not found:
        raise ServerError(f"{programs}/postgres does not tell its version: {answer!r}")
    return int(found[1])


def cluster(data_dir: Path, account: Account, programs: Path, addresses: Addresses) -> Path:
    """Return the cluster's real directory, made by initdb on first need. The caller holds the keeper's lock.

    Raises:
        ServerError: initdb failed, or the directory is gone or somebody else's.
    """
    major = major_version(programs, account)
    path = data_dir / f"postgres-{major}"
    if not path.is_symlink() and not path.exists():
        command: list[str | Path] = [
            programs / "initdb",
            "-U",
            NAME,
            "-E",
            "UTF8",
            "--auth=scram-sha-256",
            "--locale=C.UTF-8",
        ]
        if major >= FIRST_WITH_BUILTIN_LOCALE:
            command.append("--locale-provider=builtin")
        _create(path, account, command, addresses)
    if not path.exists():
        raise ServerError(
            f"The database's directory {path.readlink()} is gone. "
            f"Bring it back, or delete the link {path} to start with an empty database."
        )
    real = path.resolve()
    owner = real.stat().st_uid
    if owner != account.uid:
        raise ServerError(
            f"{path} belongs to user id {owner}, but PostgreSQL would run as {account.name} ({account.uid}). "
            "Run as the user that created it, set DATA_DIR to another directory, or delete it."
        )
    return real


def _create(path: Path, account: Account, command: Sequence[str | Path], addresses: Addresses) -> None:
    """Run initdb beside the final name and rename what it made, so that a kill leaves no half a cluster behind."""
    unfinished = fresh(path)
    stop_strays(unfinished, POSTGRES_NAMES, signal.SIGKILL)  # of an initdb that was killed
    remove_linked(unfinished)
    if account.can_enter(path.parent):
        unfinished.mkdir(mode=0o700)
        account.own(unfinished)
        _initdb(unfinished, account, command, addresses)
    else:  # Note [Root in a closed directory]
        place = next(outside_places(path.parent, account), None)
        if place is None:
            raise ServerError(f"{account.name} can reach neither {path.parent} nor any place this user can write to.")
        outside = make_outside(place, path)
        point(unfinished, outside)
        account.own(outside)
        _initdb(outside, account, command, addresses)
    unfinished.rename(path)


def _initdb(directory: Path, account: Account, command: Sequence[str | Path], addresses: Addresses) -> None:
    with tempfile.NamedTemporaryFile("w", dir=addresses.socket_dir, prefix="password-") as password:
        password.write(addresses.password)
        password.flush()
        account.own(password.name)
        finished = account.run([*command, "-D", directory, f"--pwfile={password.name}"], env=environment())
    if finished.returncode:
        raise ServerError(f"initdb failed:\n{finished.stderr.decode(errors='replace').strip()}")


def environment() -> dict[str, str]:
    """Return the environment of the servers: none of the caller's PG* or locale variables, messages in English."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
