"""The proxy's manners, each seen by a client."""

import socket
import threading
import time

import pytest

from tests.faults.proxy import Proxy


class Echo:
    """A server that sends back what it gets, and notes it."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.received = b""
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=[connection], daemon=True).start()

    def answer(self, connection):
        with connection:
            try:
                while block := connection.recv(65536):
                    self.received += block
                    connection.sendall(block)
            except OSError:
                pass


@pytest.fixture
def echo():
    echo = Echo()
    yield echo
    echo.listener.close()


@pytest.fixture
def proxy(echo):
    proxy = Proxy(echo.listener.getsockname()[1])
    yield proxy
    proxy.close()


@pytest.fixture
def client(proxy):
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"
        yield client


def test_a_frozen_proxy_forwards_nothing_until_it_thaws(proxy, client):
    proxy.freeze()
    time.sleep(0.05)  # the block that was on its way
    client.sendall(b"late")
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(100)
    proxy.thaw()
    client.settimeout(5)
    assert client.recv(100) == b"late"


def test_a_cut_is_an_orderly_end_and_a_reset_is_none(proxy, client):
    proxy.cut()
    assert client.recv(100) == b""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as other:
        other.sendall(b"x")
        assert other.recv(100) == b"x"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            other.recv(100)


def test_a_refusing_proxy_resets_old_and_new_connections(proxy, client):
    with proxy.refusing():
        with pytest.raises(ConnectionResetError):
            client.recv(100)
        assert not echoes(proxy)
    assert echoes(proxy)


def echoes(proxy):
    try:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as other:
            other.sendall(b"x")
            return other.recv(100) == b"x"
    except OSError:
        return False


def test_a_lost_reply_reaches_the_server_but_not_the_client(echo, proxy, client):
    proxy.lose_reply_to(lambda block: b"COMMIT" in block)
    client.sendall(b"SELECT")
    assert client.recv(100) == b"SELECT"
    assert not proxy.has_lost
    client.sendall(b"COMMIT")
    with pytest.raises(ConnectionResetError):
        client.recv(100)
    assert proxy.has_lost
    assert echo.received == b"helloSELECTCOMMIT"


def test_latency_slices_and_a_limit(proxy, client):
    proxy.manners.latency = 0.05
    began = time.monotonic()
    client.sendall(b"x")
    client.recv(1)
    assert time.monotonic() - began >= 0.1
    proxy.manners.latency, proxy.manners.slice_bytes, proxy.manners.limit = 0, 10, 1000
    began = time.monotonic()
    client.sendall(b"y" * 100)
    received = b""
    while len(received) < 100:
        received += client.recv(100)
    assert received == b"y" * 100
    assert time.monotonic() - began >= 0.1
