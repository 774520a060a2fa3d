"""`make up` as a black box: what it prints, what it leaves behind, and what it does when something is killed."""

import http.cookiejar
import http.server
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from config import servers
from config.up.stack import _bind
from tests.config import server_processes
from tests.config.server_processes import ROOT, eventually, query
from tests.processes import processes_of

pytestmark = pytest.mark.xdist_group("up")  # one data directory, not one for each process of pytest
UP = [sys.executable, "-m", "config.up"]
IS_UP = "Ctrl-C stops everything."


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    # Other tests start a web server at the default port, too.
    return inherited | {"DATA_DIR": str(data_dir), "WEB_PORT": str(20_000 + os.getpid() % 10_000)} | more


def pid_of(data_dir: Path, words: str) -> int:
    return min(pid for pid, command in processes_of(data_dir).items() if words in command)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One data directory for the whole file: each test comes up where the last one ended, as a checkout does."""
    path = tmp_path_factory.mktemp("up") / "data"
    servers.addresses(path)
    yield path
    eventually(lambda: not processes_of(path), "no process is left behind")
    servers.discard(path)


def once(data_dir: Path, command: list[str] = [*UP, "--once"], **more: str) -> subprocess.CompletedProcess[str]:  # noqa: B006 (not changed)
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment(data_dir, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # the last line must be the last of both
        text=True,
        check=False,
        timeout=240,
    )


class Foreground:
    """A running `python -m config.up`, its output read from a file."""

    def __init__(self, data_dir: Path, **more: str) -> None:
        self.data_dir = data_dir
        self.path = data_dir.parent / "output"
        with self.path.open("wb") as output:
            self.process = subprocess.Popen(
                UP, cwd=ROOT, env=environment(data_dir, **more), stdout=output, stderr=output
            )

    def output(self) -> str:
        return self.path.read_text()

    def wait_for(self, text: str, times: int = 1) -> None:
        def is_there() -> bool:
            assert self.process.poll() is None, self.output()
            return self.output().count(text) >= times

        eventually(is_there, f"{text!r} in the output")

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def foreground(data_dir: Path, **more: str) -> Iterator[Foreground]:
    up = Foreground(data_dir, **more)
    try:
        yield up
    finally:
        if up.process.poll() is None:
            up.end(signal.SIGTERM)


def test_once_syncs_and_the_second_time_finds_nothing_to_write(data_dir):
    first = once(data_dir)
    assert first.returncode == 0, first.stdout
    assert not processes_of(data_dir)
    summary = json.loads(first.stdout.splitlines()[-1])
    counts = ("state", "read", "inserted", "updated", "unchanged", "duplicates", "rejected", "error")
    assert [summary[name] for name in counts] == ["succeeded", 5000, 5000, 0, 0, 0, 0, None]
    assert re.search(r"first rows were committed \d+\.\d s after the command", first.stdout)
    assert "\x1b" not in first.stdout

    second = once(data_dir)
    assert second.returncode == 0, second.stdout
    assert not processes_of(data_dir)
    summary = json.loads(second.stdout.splitlines()[-1])
    assert [summary[name] for name in counts] == ["succeeded", 5000, 0, 0, 5000, 0, 0, None]
    logins = {re.search(r"user admin, password (\S+)", run.stdout)[1] for run in (first, second)}
    assert logins == {json.loads((data_dir / "admin.json").read_text())["password"]}


@pytest.mark.skipif(not shutil.which("make"), reason="no make")
@pytest.mark.skipif(not (ROOT / ".venv").exists(), reason="the tests do not run in make's environment")
def test_a_failed_first_run_ends_make_with_status_1_and_the_summary_last(data_dir):
    class Gone(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(410)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gone) as remote:
        threading.Thread(target=remote.serve_forever).start()
        url = f"http://127.0.0.1:{remote.server_port}"
        finished = once(data_dir, ["make", "up", "ONCE=1"], PHOTOS_API_URL=url)
        remote.shutdown()
    assert finished.returncode == 1, finished.stdout
    summary = json.loads(finished.stdout.splitlines()[-1])
    assert summary["state"] == "failed"
    assert "410" in summary["error"]
    assert not processes_of(data_dir)


def test_a_stack_that_cannot_start_still_ends_with_a_summary(data_dir):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 65535))
        finished = once(data_dir, WEB_PORT="65535")
    assert finished.returncode == 1
    summary = json.loads(finished.stdout.splitlines()[-1])
    assert summary["state"] == "failed"
    assert "set WEB_PORT" in summary["error"]
    assert not processes_of(data_dir)


def test_two_that_start_at_once_get_web_ports_of_their_own():
    # Neither web server has taken its socket over by then.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        wanted = free.getsockname()[1]
    with _bind(wanted) as first, _bind(wanted) as second:
        assert first.getsockname()[1] == wanted
        assert second.getsockname()[1] > wanted


def can_log_in(url: str, username: str, password: str) -> bool:
    """Fill in the admin's login form."""
    cookies = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
    with opener.open(url) as response:
        page = response.read().decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
    fields = {"username": username, "password": password, "csrfmiddlewaretoken": token, "next": "/admin/"}
    with opener.open(f"{url}login/?next=/admin/", urllib.parse.urlencode(fields).encode()) as response:
        return "Log out" in response.read().decode()


def test_the_stack_stays_up_mends_itself_and_ends_with_ctrl_c(data_dir):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with foreground(data_dir, WEB_PORT=str(port)) as up:
            up.wait_for(IS_UP)
            url, password = re.search(r"Admin: (\S+)  user admin, password (\S+)", up.output()).groups()
            assert not url.startswith(f"http://127.0.0.1:{port}/")
            assert can_log_in(url, "admin", password)

            beside = once(data_dir)
            assert beside.returncode == 1
            assert (
                f"already running here (process {up.process.pid})"
                in json.loads(beside.stdout.splitlines()[-1])["error"]
            )

            worker = pid_of(data_dir, "celery -A config worker")
            os.kill(worker, signal.SIGKILL)
            up.wait_for("Starting worker again.")
            assert "worker ended with SIGKILL" in up.output()
            eventually(lambda: pid_of(data_dir, "celery -A config worker") != worker, "a new worker")

            os.kill(server_processes.pid_of(data_dir, "keeper"), signal.SIGKILL)
            up.wait_for("The embedded servers are gone. Starting them again.")
            where = servers.addresses(data_dir)
            eventually(lambda: server_processes.answers(where), "the database answers again")
            assert query(where, "SELECT count(*) FROM photos") == 5000

            assert up.end(signal.SIGINT) == 0, up.output()
            assert not processes_of(data_dir)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_it_as_well(data_dir, number):
    with foreground(data_dir) as up:
        up.wait_for("Admin:")
        up.end(number)
    assert not processes_of(data_dir)


def test_ctrl_c_at_any_moment_of_the_start_leaves_no_process(data_dir):
    for seconds in (0.2, 0.8, 1.4, 2.2):
        with foreground(data_dir) as up:
            with suppress(subprocess.TimeoutExpired):
                up.process.wait(seconds)
            up.end(signal.SIGINT)
        assert not processes_of(data_dir), f"after {seconds} s: {up.output()}"


def test_a_killed_up_leaves_nothing_and_the_next_one_recovers(data_dir):
    with foreground(data_dir) as up:
        up.wait_for(IS_UP)
        up.end(signal.SIGKILL)
    eventually(lambda: not processes_of(data_dir), "everything follows it")
    finished = once(data_dir)
    assert finished.returncode == 0, finished.stdout


@pytest.mark.skipif(not shutil.which("make"), reason="no make")
@pytest.mark.skipif(not (ROOT / ".venv").exists(), reason="the tests do not run in make's environment")
def test_ctrl_c_in_a_terminal_ends_make_up_and_everything_it_started(data_dir):
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execvpe("make", ["make", "up"], environment(data_dir, TERM="xterm"))
    output = b""
    with os.fdopen(terminal, "r+b", buffering=0) as screen, suppress(OSError):  # EIO when the last process has left
        while more := screen.read(4096):
            output += more
            if IS_UP.encode() in output:
                screen.write(b"\x03")
                break
        while more := screen.read(4096):
            output += more
    os.waitpid(pid, 0)
    assert IS_UP.encode() in output, output
    assert b"Stopped." in output, output
    assert not processes_of(data_dir)
