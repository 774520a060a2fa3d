"""The sample API as a server of HTTP: connections, methods, refusals, and its process."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from photos.sample_api import photo
from tests.photos.sample_server import ROOT, TIMEOUT_SECONDS, Server, sample_api

# HTTP


def test_a_connection_is_kept_for_the_next_request(server: Server) -> None:
    connection = http.client.HTTPConnection(server.address, timeout=TIMEOUT_SECONDS)
    connection.connect()
    first_socket = connection.sock
    for path, status in (("/photos/1", 200), ("/nope", 404), ("/photos?_page=x", 400), ("/healthz", 200)):
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        assert response.status == status
    assert connection.sock is first_socket
    connection.close()


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    answers = server.send(
        b"GET /photos/1 HTTP/1.1\r\nHost: x\r\n\r\n"
        b"HEAD /photos HTTP/1.1\r\nHost: x\r\n\r\n"
        b"GET /photos/2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        b"GET /photos/3 HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    assert [int(found) for found in re.findall(rb'"id": (\d+)', answers)] == [1, 2]
    assert answers.count(b"HTTP/1.1 200 OK") == 3


def test_head_has_the_headers_of_get_and_no_body(server: Server) -> None:
    got, body = server.get("/photos?_page=2")
    head, nothing = server.get("/photos?_page=2", method="HEAD")
    assert nothing == b""
    assert head.headers["Content-Length"] == str(len(body))
    for name in ("ETag", "Link", "X-Total-Count", "Content-Type"):
        assert head.headers[name] == got.headers[name]


def test_http_1_0_is_closed_unless_it_asks_to_stay(server: Server) -> None:
    answer = server.send(b"GET /photos/1 HTTP/1.0\r\n\r\n")
    assert b"Connection: close" in answer
    answers = server.send(
        b"GET /photos/1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /photos/2 HTTP/1.0\r\n\r\n",
    )
    assert answers.count(b"200 OK") == 2


def test_lines_may_end_without_carriage_return(server: Server) -> None:
    assert b"200 OK" in server.send(b"\n\r\nGET /photos/1 HTTP/1.1\nHost: x\nConnection: close\n\n")


def test_absolute_targets_are_understood(server: Server) -> None:
    answer = server.send(b"GET http://other:1/photos?_page=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b'<http://other:1/photos?_page=2>; rel="next"' in answer


@pytest.mark.parametrize("value", ["abc", "0", "-1", "1.5", "", "%31", "+1", "1e3", "9" * 19, "0" * 5000 + "1"])
@pytest.mark.parametrize("name", ["_page", "_limit"])
def test_a_page_that_is_no_number_is_refused(server: Server, name: str, value: str) -> None:
    response, body = server.get(f"/photos?{name}={value}")
    assert response.status == 400
    assert json.loads(body) == {"error": f"{name} must be a whole number from 1"}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "FOO"])
def test_it_is_read_only(server: Server, method: str) -> None:
    response, _ = server.get("/photos/1", method=method)
    assert response.status == 405
    assert response.headers["Allow"] == "GET, HEAD"


def test_a_body_is_answered_and_ends_the_connection(server: Server) -> None:
    body = b"x" * 300_000
    answer = server.send(b"POST /photos HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + body)
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"Connection: close" in answer


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET /photos\r\n\r\n", 400),
        (b"GET  /photos HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /photos HTTP/1.1 \r\nHost: x\r\n\r\n", 400),
        (b"G\xffT /photos HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"GET /ph\xc3\xb6tos HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /photos?a=<b> HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET photos HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /photos HTTP/1.1\r\n\r\n", 400),
        (b"GET /photos HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b'GET /photos HTTP/1.1\r\nHost: a>; rel="next"\r\n\r\n', 400),
        (b"GET /photos HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400),
        (b"GET /photos HTTP/1.1\r\nHost: x\r\n folded: line\r\n\r\n", 400),
        (b"GET /photos HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: a\r\n" * 5_000 + b"\r\n", 431),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
    ],
)
def test_what_is_not_http_is_refused_and_ends_the_connection(server: Server, raw: bytes, status: int) -> None:
    answer = server.send(raw)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("raw", [b"", b"GET /photos HT", b"GET /photos HTTP/1.1\r\nHost: x\r\n", b"\r\n"])
def test_a_client_that_ends_early_gets_nothing(server: Server, raw: bytes) -> None:
    assert server.send(raw, half_close=True) == b""


def test_a_client_that_goes_away_in_mid_answer_harms_nobody(server: Server) -> None:
    host, _, port = server.address.rpartition(":")
    for _ in range(20):
        with socket.create_connection((host, int(port)), timeout=TIMEOUT_SECONDS) as connection:
            connection.sendall(b"GET /photos HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
    assert server.get("/healthz")[1] == b'{"status": "ok"}'


# The process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_although_clients_are_connected(number: signal.Signals) -> None:
    with sample_api() as server:
        idle = http.client.HTTPConnection(server.address, timeout=TIMEOUT_SECONDS)
        idle.request("GET", "/photos/5000")
        assert json.loads(idle.getresponse().read()) == photo(5000)
        os.kill(server.process.pid, number)
        assert server.process.wait(timeout=TIMEOUT_SECONDS) == 0
        idle.close()


def test_a_port_in_use_is_reported_in_one_line(server: Server) -> None:
    port = server.address.rpartition(":")[2]
    command = [sys.executable, "-m", "photos.sample_api", "--port", port]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"Cannot listen on 127.0.0.1:{port}: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--photos", "-1"], ["--port", "65536"], ["--cache-mb", "x"]])
def test_wrong_options_are_refused(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "photos.sample_api", *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
