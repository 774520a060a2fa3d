"""A remote in the test's own process, whose collection changes, hangs or asks who it is while it is read."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.faults import records
from tests.faults.surroundings import Surroundings
from tests.remote import Raw, Remote, Reply, Request

# Where the feeds of `app.unruly` look for it.
URL = "UNRULY_API_URL"


Before = Callable[["Collection", int], Reply | Raw | None]


@dataclass
class Collection:
    """The records of one source by their numbers, in an order that may change, in pages of 100.

    Args:
        before: called with the collection and the number of each request, counted from 1, before that is served; what
            it returns is answered instead.
        tells_total: whether the header says how many there are.
        latency: seconds before each page.
    """

    name: str
    total: int
    before: Before = lambda collection, number: None
    tells_total: bool = True
    latency: float = 0.0
    numbers: list[int] = field(init=False)
    asked: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.numbers = list(range(1, self.total + 1))
        self._lock = threading.Lock()

    def answer(self, request: Request) -> Reply | Raw:
        time.sleep(self.latency)
        with self._lock:
            self.asked.append(dict(request.query))
            if instead := self.before(self, len(self.asked)):
                return instead
            if "page" in request.query or "offset" in request.query:
                return self._from(request.query)
            return self._after(int(request.query.get("after", "0")))

    def _from(self, query: Any) -> Reply:
        start = int(query["offset"]) if "offset" in query else (int(query["page"]) - 1) * 100
        since = int(query.get("since", "0"))
        asked = [number for number in self.numbers if number >= since] if since else self.numbers
        total = {"X-Total-Count": str(len(asked))} if self.tells_total else {}
        served = asked[start : start + int(query.get("size", "100"))]
        return Reply(body=self.body(served), headers={"Content-Type": "application/json", **total})

    def _after(self, start: int) -> Reply:
        served, more = self.numbers[start : start + 100], start + 100 < len(self.numbers)
        return self.enveloped(served, following=start + 100 if more else None, more=more)

    def enveloped(self, numbers: list[int], *, following: int | None, more: bool) -> Reply:
        """Return a page that names the cursor of the next one."""
        facts = json.dumps({"next": following, "more": more}).encode()
        body = b'{"records": ' + self.body(numbers) + b", " + facts[1:]
        return Reply(body=body, headers={"Content-Type": "application/json"})

    def body(self, numbers: list[int]) -> bytes:
        return b"[" + b",".join(records.text(self.name, number) for number in numbers) + b"]"


@contextlib.contextmanager
def serving(around: Surroundings, collection: Collection, **environment: str) -> Iterator[Remote]:
    """Serve a collection to the workers that are started meanwhile."""
    with Remote(collection.answer) as remote, told(around, **{URL: remote.url} | environment):
        yield remote


@contextlib.contextmanager
def told(around: Surroundings, **environment: str) -> Iterator[None]:
    """Give variables to the processes that are started meanwhile."""
    around.stack.environment |= environment
    try:
        yield
    finally:
        for name in environment:
            del around.stack.environment[name]


class Door:
    """What stands before a server on loopback and lets nobody in while it is shut.

    `shut` says how: "connect" leaves connections in a queue that is full, so that no handshake of TCP ends; "silence"
    takes them, and never says a word, so that none of TLS does.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        # The smallest queue there is: one connection that nobody takes fills it.
        self._listener.listen(0)
        self._listener.settimeout(0.05)
        self.port: int = self._listener.getsockname()[1]
        self.shut = ""
        self._is_over = False
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._is_over = True
        self._thread.join()
        self._listener.close()
        for held in self._held:
            held.close()

    def fill(self) -> None:
        """Fill the queue, so that whoever comes next waits for an answer to its SYN."""
        self.shut = "connect"
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self._held.append(filler)

    def fall_silent(self) -> None:
        """Take connections, and leave them at that."""
        self.shut = "silence"

    def open(self) -> None:
        self.shut = ""
        for held in self._held:
            held.close()
        self._held.clear()

    def _serve(self) -> None:
        while not self._is_over:
            if self.shut == "connect":
                time.sleep(0.01)
                continue
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            client.settimeout(None)
            if self.shut == "silence":
                self._held.append(client)
            else:
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            _pump(client, server)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while block := source.recv(64 * 1024):
            target.sendall(block)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
