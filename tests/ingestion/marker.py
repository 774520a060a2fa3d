"""Everything that the project writes down, read for a text that it must never hold."""

import io
import logging
import re
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
import structlog
from django.conf import settings
from django.core.management import call_command
from django.db import connection

from tests.staff import superuser

# No page is the same with other sorting or filters as far as texts go, and these change something or leave.
_NOT_FOLLOWED = re.compile(r"logout|password|jsi18n|/add/")
# Pages of one kind show the same members of other rows; the rows themselves are read in full.
_PAGES_OF_A_KIND = 5


@contextmanager
def logs() -> Iterator[io.StringIO]:
    """Collect what every logger says, debugging included, as the project's handler writes it."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(
        next(
            each.formatter
            for each in logging.getLogger().handlers
            if isinstance(each.formatter, structlog.stdlib.ProcessorFormatter)
        )
    )
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield written
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def places(written: io.StringIO) -> Iterator[tuple[str, str]]:
    """Yield each place by its name, with all its text."""
    yield "logs", written.getvalue()
    yield from _tables()
    yield from _pages()
    yield from _redis()
    yield from _commands()
    for path in sorted(Path(settings.DATA_DIR, "logs").glob("*")):
        yield str(path.name), path.read_text(errors="replace")


def _tables() -> Iterator[tuple[str, str]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        for (table,) in cursor.fetchall():
            cursor.execute(f'SELECT row_to_json(t)::text, t::text FROM "{table}" t')
            # A bytea is written in hex.
            rows = [(*row, _from_hex(row[0])) for row in cursor.fetchall()]
            yield f"table {table}", "\n".join("\n".join(row) for row in rows)


def _from_hex(text: str) -> str:
    found = re.findall(r"\\\\x((?:[0-9a-f]{2})+)", text)
    return "\n".join(bytes.fromhex(each).decode("utf-8", "replace") for each in found)


def _pages() -> Iterator[tuple[str, str]]:
    client, seen, due, kinds = superuser(), set(), deque(["/admin/"]), Counter[str]()
    while due:
        url = due.popleft()
        kind = re.sub(r"\d+", "1", url)
        if url in seen or kinds[kind] == _PAGES_OF_A_KIND:
            continue
        seen.add(url)
        kinds[kind] += 1
        response = client.get(url)
        if "html" not in response.headers.get("Content-Type", ""):
            continue
        text = response.content.decode()
        yield url, text
        links = (link.partition("?")[0] for link in re.findall(r'href="(/admin/[^"#]*)"', text))
        due.extend(link for link in links if not _NOT_FOLLOWED.search(link))


def _redis() -> Iterator[tuple[str, str]]:
    store: Any = redis.from_url(settings.BUDGETS_URL)
    read = {
        b"string": store.get,
        b"hash": store.hgetall,
        b"list": lambda key: store.lrange(key, 0, -1),
        b"set": store.smembers,
        b"zset": lambda key: store.zrange(key, 0, -1),
    }
    for key in store.scan_iter():
        kind = store.type(key)
        yield f"Redis {key!r}", f"{key!r} {read[kind](key)!r}" if kind in read else repr(key)
    store.close()


def _commands() -> Iterator[tuple[str, str]]:
    for command in (
        ("feeds",), ("feeds", "--json"), ("runs", "--limit", "1000"), ("runs", "--requests"), ("runs", "--json"),
        ("credentials",), ("hosts",), ("watermark",), ("check",),
    ):  # fmt: skip
        output = io.StringIO()
        call_command(*command, stdout=output, stderr=output)
        yield f"manage.py {' '.join(command)}", output.getvalue()
