"""Feeds that send a marker secret to remotes that say it back, and a look at everything that was written down."""

import base64
import json
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import stamina

from ingestion import pipeline
from ingestion.feeds import Feed, Upsert
from ingestion.http import Limits, Retry
from tests.ingestion import marker
from tests.ingestion.catalog import table_of
from tests.remote import Raw, Reply

# Whatever shows of it so much of its start shows too much; the rest is what URLs and JSON write in other ways.
START = "m4rker-Hush-9f8e"
MARKER = START + '%/"ü'
HEADER = START + "7d-in-a-header"
# A user's name and password as they are sent: ada is the user everywhere.
SHOWN = (START, base64.b64encode(f"ada:{START}".encode()).decode()[:24])
QUICK = {"retry": Retry(attempts=2, wait_initial=timedelta(milliseconds=1))}
SHORT = {"limits": Limits(deadline=timedelta(milliseconds=150))}


def echo(request):
    """Return all that the remote was sent, so that it can say it back."""
    body = request.body.decode("utf-8", "replace")
    return f"{MARKER} {request.query} {dict(request.headers)} {body}"


def line(request):
    return f"{MARKER} {HEADER} {request.headers.get('authorization', '')}".encode("ascii", "replace").decode()


def raw(text):
    return Raw([text.encode()])


HTTP_FAILURES = {
    "http_status: GET": lambda r: Reply(401, echo(r).encode()),
    "http_status: the reason": lambda r: raw(f"HTTP/1.1 403 {line(r)}\r\nContent-Length: 0\r\n\r\n"),
    "500": lambda r: Reply(500, echo(r).encode()),
    "the reason of a 503": lambda r: raw(f"HTTP/1.1 503 {line(r)}\r\nContent-Length: 0\r\n\r\n"),
    "not_json": lambda r: Reply(200, f'{{"said": "{echo(r)}'.encode()),
    "not_json: at once": lambda r: Reply(200, line(r).encode()),
    "shape": lambda r: Reply(200, json.dumps({"error": echo(r)}).encode()),
    "redirect": lambda r: Reply(302, headers={"Location": f"http://other.example/?key={HEADER}"}),
    "content_encoding": lambda r: Reply(200, b"x", {"Content-Encoding": HEADER}),
    "no header": lambda r: raw(f"HTTP/1.1 200 OK\r\n{line(r)}\r\n\r\n"),
    "no response": lambda r: raw(f"{line(r)}\r\n\r\n"),
    "silence": lambda r: Raw([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", HEADER[:5].encode()], end="silence"),
    "cut": lambda r: Raw([f"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[{line(r)}".encode()]),
}

# For sources whose requests go the same way.
FEWER = [HTTP_FAILURES[name] for name in ("http_status: the reason", "500", "not_json", "not_json: at once", "shape")]


@dataclass
class Bench:
    """Declares one feed after the other, runs it, and keeps how it ended."""

    monkeypatch: Any
    model: Any
    written: Any
    count: int = 0

    def run(self, source, **options):
        self.count += 1
        name = f"secret-{self.count}"
        options = {"columns": {"code": "code", "name": "name"}, "target": Upsert(self.model, key="code")} | options
        self.monkeypatch.setattr("photos.feeds.SECRET", Feed(name=name, source=source, **options), raising=False)
        return pipeline.run_here(name).summary

    def fails(self, source, **options):
        summary = self.run(source, **options)
        assert summary["state"] == "failed", summary
        return summary["error"]

    def check(self, *, places):
        """Look for the marker in so many places at least."""
        found, looked = [], 0
        for place, text in marker.places(self.written):
            looked += 1
            for shown in SHOWN:
                if shown in text:
                    at = text.index(shown)
                    found.append(f"{place}: …{text[max(0, at - 60) : at + 60]!r}…")
        assert not found, "\n".join(found)
        assert looked > places


@contextmanager
def bench_with(monkeypatch):
    """Make a bench on which nobody waits between two tries."""
    with table_of() as model, marker.logs() as written, stamina.set_testing(True, attempts=2, cap=True):
        yield Bench(monkeypatch, model, written)
