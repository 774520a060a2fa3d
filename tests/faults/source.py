"""The fake source, in a process of its own so that it outlives whatever is killed: `python -m tests.faults.source`.

It serves `/NAME?page=N&size=M`, and notes each page it serves in a log. `POST /control` changes its ways; the names
there are those of `Ways`.
"""

import argparse
import gzip
import json
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.faults import records
from tests.remote import Raw, Remote, Reply, Request


@dataclass(frozen=True, kw_only=True)
class Ways:
    """How the source behaves.

    Args:
        totals: records of each source.
        latency: seconds before each page.
        refusals: statuses and headers to answer, one a request, before it serves again.
        broken: page numbers and how each breaks its answer (see `_broken`), as often as `breaks` says.
        instead: page numbers and the page that is served in their place.
    """

    totals: dict[str, int] = field(default_factory=dict)
    latency: float = 0.0
    refusals: tuple[tuple[int, dict[str, str]], ...] = ()
    broken: dict[str, str] = field(default_factory=dict)
    breaks: int = 1
    instead: dict[str, int] = field(default_factory=dict)


class Source:
    """Answers requests, one thread each."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("a", buffering=1)
        self._ways = Ways()
        self._lock = threading.Lock()

    def answer(self, request: Request) -> Reply | Raw:
        if request.path == "/control":
            with self._lock:
                self._ways = replace(self._ways, **json.loads(request.body))
            return Reply()
        return self._page(request.path.strip("/"), int(request.query["page"]), int(request.query["size"]))

    def _page(self, source: str, page: int, size: int) -> Reply | Raw:
        ways = self._ways
        time.sleep(ways.latency)
        if refusal := self._next_refusal():
            status, headers = refusal
            self._note(source=source, page=page, status=status)
            return Reply(status=status, headers=headers)
        served = ways.instead.get(str(page), page)
        total = ways.totals.get(source, 0)
        numbers = range((served - 1) * size + 1, min(served * size, total) + 1)
        body = b"[" + b",".join(records.text(source, number) for number in numbers) + b"]"
        if self._breaks(page):
            self._note(source=source, page=page, status=0)
            return _broken(ways.broken[str(page)], body, total)
        self._note(source=source, page=page, status=200)
        return Reply(body=body, headers={"Content-Type": "application/json", "X-Total-Count": str(total)})

    def _next_refusal(self) -> tuple[int, dict[str, str]] | None:
        with self._lock:
            if not self._ways.refusals:
                return None
            first, *rest = self._ways.refusals
            self._ways = replace(self._ways, refusals=tuple(rest))
            return first

    def _breaks(self, page: int) -> bool:
        with self._lock:
            is_broken = str(page) in self._ways.broken and self._ways.breaks > 0
            self._ways = replace(self._ways, breaks=self._ways.breaks - is_broken)
            return is_broken

    def _note(self, **facts: Any) -> None:
        self._log.write(json.dumps({"at": time.time(), **facts}) + "\n")


def _broken(how: str, body: bytes, total: int) -> Reply | Raw:
    """Return an answer that is not what it says."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Total-Count: {total}\r\n".encode()
    length, half = f"Content-Length: {len(body)}\r\n\r\n".encode(), body[: len(body) // 2]
    last = body.rindex(b",{")
    short = gzip.compress(body)[:-9]
    chunk = f"{len(body):x}\r\n".encode() + body + b"\r\n"
    answers = {
        "error": Reply(status=500),
        "cut": Raw([head + length, half]),
        "reset": Raw([head + length, half], end="reset"),
        "silence": Raw([head + length, half], end="silence"),
        "too short a length": Raw([head + f"Content-Length: {last}\r\n\r\n".encode(), body]),
        "too long a length": Raw([head + f"Content-Length: {len(body) + 9}\r\n\r\n".encode(), body]),
        "no length, cut": Raw([head + b"\r\n", half]),
        "chunked without an end": Raw([head + b"Transfer-Encoding: chunked\r\n\r\n", chunk]),
        "a gzip cut short": Reply(body=short, headers={"Content-Encoding": "gzip"}),
    }
    return answers[how]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.source")
    parser.add_argument("--log", type=Path, required=True)
    options = parser.parse_args()
    with Remote(Source(options.log).answer) as remote:
        print(f"listening on {remote.url}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
