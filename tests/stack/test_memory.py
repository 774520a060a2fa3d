"""A real worker under a limit of memory that the kernel enforces, and remotes that never end or expand.

The limit is RLIMIT_DATA, what `ulimit -d` sets: so much more than the worker's process has when it is idle.
"""

import itertools
import json
import resource
import threading
from pathlib import Path

import pytest

from photos.sample_api import photo
from tests.processes import running_stack, wait_until
from tests.remote import Raw, Remote, Reply, json_list
from tests.soak import exports
from tests.soak.limited import Process

pytestmark = pytest.mark.xdist_group("memory")  # one stack for the module, not one for each process of pytest
MEBIBYTE = 1024 * 1024
ROOM = 384 * MEBIBYTE
# What a file may take, whatever its size: far less than the file that is read within it.
FILE_ROOM = 96 * MEBIBYTE
FILE_BYTES = 256 * MEBIBYTE

FEEDS = """
from dataclasses import replace

from ingestion.http import Limits, Retry
from ingestion.sources import JsonApi
from ingestion.feeds import env_url
from ingestion.pagination import PageNumber
from photos.feeds import PHOTOS

MEBIBYTE = 1024 * 1024


def feed(name, mebibytes=32, **source):
    pages = PageNumber(param="_page", size=1000)
    limits = Limits(body_bytes=mebibytes * MEBIBYTE)
    source = JsonApi(url=env_url("PHOTOS_API_URL", "/" + name), pagination=pages, limits=limits, **source)
    return replace(PHOTOS, name=name, source=source, every=None)


ENDLESS = feed("endless", max_pages=300)
FLOOD = feed("flood")
BIG_FLOOD = feed("big-flood", mebibytes=4096)
LISTS = feed("lists")
ZEROS = feed("zeros")
OBJECTS = feed("objects")
DEEP = feed("deep")
WIDE = feed("wide")
FULL = feed("full")
MOVED = feed("moved")
GOOD = feed("good")
"""


def endless_body():
    """Yield a response whose list of records never ends."""
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n["
    block = b",".join(json.dumps(photo(number)).encode() for number in range(1, 1000)) + b","
    yield from itertools.repeat(block)


def full_body(size_bytes):
    """Return a page of exactly so many bytes of good records, few and large."""
    empty = len(json_list([photo(number) | {"extra": ""} for number in range(1, 9)]))
    extra, rest = divmod(size_bytes - empty, 8)
    sizes = [extra + rest, *[extra] * 7]
    return json_list([photo(number) | {"extra": "x" * size} for number, size in enumerate(sizes, start=1)])


def many(record, size_bytes):
    return b"[" + (record + b",") * (size_bytes // (len(record) + 1)) + record + b"]"


def wide_record(size_bytes):
    return json.dumps([photo(1) | {"extra": ["ab"] * (size_bytes // 5)}], separators=(",", ":")).encode()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Run a worker that reads from a hostile remote, within its limit of memory."""
    folder = tmp_path_factory.mktemp("memory")
    (folder / "app" / "hostile").mkdir(parents=True)
    (folder / "app" / "hostile" / "__init__.py").touch()
    (folder / "app" / "hostile" / "feeds.py").write_text(FEEDS)
    content, rows, _ = exports.export(FILE_BYTES)
    with Remote(answer) as remote, exports.served(content) as environment:
        environment |= {"EXTRA_APPS": "hostile,tests.soak.app", "PYTHONPATH": str(folder / "app")}
        with running_stack(folder / "data", PHOTOS_API_URL=remote.url, **environment) as stack:
            worker = stack.start_worker()
            yield Hostile(stack, worker.pid, rows)


class Hostile:
    """A stack and the process of its worker that does the work."""

    def __init__(self, stack, pid, rows):
        self.stack = stack
        self.rows = rows  # of the big file
        self.pid = self.child_of(pid)
        self.parent = pid
        assert self.sync("good")["state"] == "succeeded"
        limit = self.memory("VmData") + ROOM
        resource.prlimit(self.pid, resource.RLIMIT_DATA, (limit, limit))

    def child_of(self, pid):
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(child)

    def memory(self, name):
        return int(Path(f"/proc/{self.pid}/status").read_text().split(f"{name}:")[1].split()[0]) * 1024

    def sync(self, feed):
        return self.stack.summary("trigger", feed, "--wait", "--json", check=False)

    def assert_alive(self):
        """Assert that the same process still takes work, and does it."""
        assert self.child_of(self.parent) == self.pid
        assert self.sync("good")["state"] == "succeeded"


PAGE_30, GO_ON = threading.Event(), threading.Event()


def answer(request):
    page = int(request.query["_page"])
    if request.path == "/endless":
        if page == 30:
            PAGE_30.set()
            GO_ON.wait(30)
        return Reply(body=json_list(photo(page * 1000 + number) for number in range(1000)))
    if request.path in ("/flood", "/big-flood"):
        return Raw(endless_body())
    if request.path == "/moved":
        return Reply(302, headers={"Location": f"/moved?_page={page}"})
    return Reply(body=BODIES[request.path]() if page == 1 else b"[]")


BODIES = {
    "/good": lambda: json_list([photo(1)]),
    "/lists": lambda: many(b"[]", 32 * MEBIBYTE - 10),
    "/zeros": lambda: many(b"0", 20_000_000),
    "/objects": lambda: many(b"{}", 2_990_000),
    "/deep": lambda: b"[" * 32 * MEBIBYTE,
    "/wide": lambda: wide_record(8 * MEBIBYTE),
    "/full": lambda: full_body(32 * MEBIBYTE),
}


def test_a_source_that_never_ends_is_read_in_flat_memory_up_to_the_limit_of_pages(hostile):
    run = hostile.stack.summary("trigger", "endless", "--json")["run"]
    assert PAGE_30.wait(60)
    before = hostile.memory("VmHWM")
    GO_ON.set()
    ended = f"SELECT state, error, read FROM ingestion_run WHERE id = {run} AND finished_at IS NOT NULL"
    [(state, error, read)] = wait_until(lambda: hostile.stack.query(ended), what="the end of the run", seconds=120)
    after = hostile.memory("VmHWM")
    assert (state, read) == ("failed", 299_000)
    assert error.startswith("too_many_pages: no end after 300 pages")
    print(f"peak RSS after 30 pages {before / MEBIBYTE:.1f} MiB, after 300 pages {after / MEBIBYTE:.1f} MiB")
    assert after - before <= 10 * MEBIBYTE
    hostile.assert_alive()


@pytest.mark.parametrize("feed", ["soak-web", "soak-s3"])
def test_a_compressed_file_far_bigger_than_the_memory_is_loaded(hostile, feed):
    process = Process(hostile.pid)
    with process.limited(FILE_ROOM):
        process.forget_peak()
        summary = hostile.sync(feed)
    assert (summary["state"], summary["error"], summary["read"]) == ("succeeded", None, hostile.rows)
    print(f"{feed}: peak RSS {process.memory('VmHWM') / MEBIBYTE:.1f} MiB")
    hostile.assert_alive()


@pytest.mark.parametrize("feed", ["full", "wide"])
def test_what_is_just_within_the_limits_is_loaded(hostile, feed):
    summary = hostile.sync(feed)
    assert (summary["state"], summary["error"], summary["rejected"]) == ("succeeded", None, 0)
    print(f"{feed}: peak RSS {hostile.memory('VmHWM') / MEBIBYTE:.1f} MiB")
    hostile.assert_alive()


@pytest.mark.parametrize(
    ("feed", "error"),
    [
        ("flood", "response_too_large: "),
        ("lists", "too_many_records: more than 1,000,000 records in one page"),
        ("zeros", "too_many_records: more than 1,000,000 records in one page"),
        ("objects", "reject_limit: more than 10,000 records of page 1 were rejected, the last one for missing_key"),
        ("deep", "not_json: "),
        ("moved", "http_status: "),
        ("big-flood", "out_of_memory: "),
    ],
)
def test_what_expands_or_never_ends_fails_its_run_and_nothing_else(hostile, feed, error):
    summary = hostile.sync(feed)
    assert (summary["state"], summary["error"][: len(error)]) == ("failed", error)
    print(f"{feed}: peak RSS {hostile.memory('VmHWM') / MEBIBYTE:.1f} MiB")
    hostile.assert_alive()
