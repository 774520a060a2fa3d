"""The embedded servers when something is killed: nothing stays, nothing is lost, the next start works by itself."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from config import servers
from config.servers.accounts import database_account
from config.servers.clusters import environment
from config.servers.placement import runnable_programs
from config.servers.processes import launch
from tests.config.server_processes import (
    answers,
    eventually,
    held,
    holder,
    kill_all,
    pid_of,
    processes_of,
    query,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signals exist on Linux only")


def remember(where: servers.Addresses) -> None:
    query(where, "CREATE TABLE kept AS SELECT 1 AS id")
    with redis.Redis(unix_socket_path=where.redis_socket, password=where.password) as client:
        client.set("kept", "1")


def remembers(where: servers.Addresses) -> bool:
    with redis.Redis(unix_socket_path=where.redis_socket, password=where.password) as client:
        return query(where, "SELECT id FROM kept") == 1 and client.get("kept") == b"1"


def test_a_killed_keeper_takes_its_servers_with_it_and_the_next_one_has_the_data(data_dir):
    where = servers.addresses(data_dir)
    with held(data_dir):
        remember(where)
        os.kill(pid_of(data_dir, "keeper"), signal.SIGKILL)
        eventually(lambda: not processes_of(data_dir), "the servers follow their keeper")
    with held(data_dir):
        assert remembers(where)


def test_a_process_whose_keeper_was_killed_gets_a_new_lease(data_dir):
    where = servers.addresses(data_dir)
    lease = servers.ensure(data_dir)
    os.kill(pid_of(data_dir, "keeper"), signal.SIGKILL)
    eventually(lambda: not lease.is_held(), "the loss is seen")
    again = servers.ensure(data_dir)
    try:
        assert again is not lease
        assert answers(where)
    finally:
        again.release()
    assert not processes_of(data_dir)


def test_after_everything_was_killed_the_next_start_recovers_and_has_the_data(data_dir):
    where = servers.addresses(data_dir)
    with held(data_dir) as process:
        remember(where)
        # Committed to the log on disk at the latest a second later, as Redis promises.
        with redis.Redis(unix_socket_path=where.redis_socket, password=where.password) as client:
            client.waitaof(1, 0, 5000)
        process.kill()
        process.wait()
        kill_all(data_dir)
    assert (data_dir / "postgres-18" / "postmaster.pid").exists()
    with held(data_dir):
        assert remembers(where)


@pytest.mark.parametrize("role", ["postgres", "redis"])
def test_a_killed_server_is_restarted_under_its_users(data_dir, role):
    where = servers.addresses(data_dir)
    with held(data_dir):
        remember(where)
        killed = pid_of(data_dir, role)
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: answers(where) and Path(where.redis_socket).exists(), "both answer")
        eventually(lambda: killed not in processes_of(data_dir), "the killed one is gone")
        eventually(lambda: f"{role} (pid {killed}) ended with status -9" in log_of(data_dir), "the log has it")
        with held(data_dir):  # whoever comes waits for the restart
            assert query(where, "SELECT id FROM kept") == 1


def log_of(data_dir: Path) -> str:
    return (data_dir / "logs" / "keeper.log").read_text()


def test_a_server_that_outlived_its_keeper_is_stopped_before_a_new_one_starts(data_dir):
    where = servers.addresses(data_dir)
    with held(data_dir):
        remember(where)
    account = database_account()
    programs = runnable_programs(data_dir, account)
    socket_dir = Path(where.socket_dir)
    socket_dir.mkdir(mode=0o700)
    account.own(socket_dir)
    stray = launch(
        [
            programs / "postgres",
            "-D",
            (data_dir / "postgres-18").resolve(),
            "-c",
            f"unix_socket_directories={socket_dir}",
        ],
        log=data_dir / "logs" / "stray.log",
        env=environment(),
        **account.switch,
    )
    try:
        eventually(lambda: answers(where), "the stray one answers")
        os.chown(socket_dir, os.geteuid(), -1)
        with held(data_dir):
            assert stray.wait(10) == 0
            assert remembers(where)
    finally:
        stray.kill()
        stray.wait()


def test_a_stranger_with_the_pid_of_an_old_pid_file_is_left_alone(data_dir):
    where = servers.addresses(data_dir)
    with held(data_dir) as process:
        process.kill()
        process.wait()
        kill_all(data_dir)
    account = database_account()
    stranger = subprocess.Popen(["sleep", "600"], **account.switch)
    try:
        pid_file = data_dir / "postgres-18" / "postmaster.pid"
        _, *rest = pid_file.read_text().splitlines(keepends=True)
        pid_file.write_text("".join([f"{stranger.pid}\n", *rest]))
        with held(data_dir):
            assert answers(where)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_kill_during_initdb_leaves_no_half_cluster(data_dir):
    started = holder(data_dir)
    eventually((data_dir / "postgres-18.new").exists, "initdb is at work")
    started.kill()
    kill_all(data_dir)
    started.communicate()
    assert not (data_dir / "postgres-18").exists()
    with held(data_dir):
        assert answers(servers.addresses(data_dir))
    assert not (data_dir / "postgres-18.new").exists()


def test_a_wiped_temporary_directory_ends_the_servers_and_the_next_start_makes_it_again(data_dir):
    where = servers.addresses(data_dir)
    with held(data_dir):
        remember(where)
        shutil.rmtree(where.socket_dir)
        eventually(lambda: not processes_of(data_dir), "nobody can reach them any more, so they end")
    with held(data_dir):
        assert remembers(where)


def test_sigterm_to_the_keeper_stops_the_servers_in_order(data_dir):
    with held(data_dir):
        os.kill(pid_of(data_dir, "keeper"), signal.SIGTERM)
        eventually(lambda: not processes_of(data_dir), "all have ended")
    assert "database system is shut down" in (data_dir / "logs" / "postgres.log").read_text()
    assert not (data_dir / "postgres-18" / "postmaster.pid").exists()
