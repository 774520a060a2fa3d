"""The fake source, in a process of its own so that it outlives whatever is killed: `python -m tests.faults.source`.

It serves `/NAME?page=N&size=M`, and notes each page it serves in a log. `POST /control` changes its ways; the names
there are those of `Ways`.
"""

import argparse
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
    """How the source behaves: records per source, seconds per page, statuses to answer before it serves again."""

    totals: dict[str, int] = field(default_factory=dict)
    latency: float = 0.0
    statuses: tuple[tuple[int, dict[str, str]], ...] = ()


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

    def _page(self, source: str, page: int, size: int) -> Reply:
        ways = self._ways
        time.sleep(ways.latency)
        if ways.statuses and (refusal := self._next_status()):
            status, headers = refusal
            self._note(source=source, page=page, status=status)
            return Reply(status=status, headers=headers)
        total = ways.totals.get(source, 0)
        numbers = range((page - 1) * size + 1, min(page * size, total) + 1)
        body = b"[" + b",".join(records.text(source, number) for number in numbers) + b"]"
        self._note(source=source, page=page, status=200)
        return Reply(body=body, headers={"Content-Type": "application/json", "X-Total-Count": str(total)})

    def _next_status(self) -> tuple[int, dict[str, str]] | None:
        with self._lock:
            if not self._ways.statuses:
                return None
            first, *rest = self._ways.statuses
            self._ways = replace(self._ways, statuses=tuple(rest))
            return first

    def _note(self, **facts: Any) -> None:
        self._log.write(json.dumps({"at": time.time(), **facts}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.source")
    parser.add_argument("--log", type=Path, required=True)
    options = parser.parse_args()
    with Remote(Source(options.log).answer) as remote:
        print(f"listening on {remote.url}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
