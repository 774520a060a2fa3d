"""A feed of products for the tests of the write modes: its records are in memory, its table is real."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from django.db import connection, models

from ingestion import pipeline
from ingestion.feeds import Feed
from ingestion.models import Run
from ingestion.types import Cursor, Page, Share
from tests.ingestion.orders import order
from tests.ingestion.slices import in_slices


@dataclass(frozen=True)
class Records:
    """A source that gives one page for each list of records; `before` is called with the number of each page."""

    lists: Sequence[Sequence[Any]]
    before: Callable[[int], None] = field(default=lambda number: None)

    def pages(self, cursor: Cursor | None) -> Iterator[Page]:
        for number in range(cursor["page"] if cursor else 1, len(self.lists) + 1):
            self.before(number)
            texts = [json.dumps(record).encode() for record in self.lists[number - 1]]
            yield Page(
                number=number,
                records=[msgspec.Raw(text) for text in texts],
                size_bytes=sum(map(len, texts)),
                following={"page": number + 1} if number < len(self.lists) else None,
            )


@dataclass(frozen=True)
class EachList:
    """Parts of one list of Records each; `planning` is called whenever somebody plans."""

    planning: Callable[[], None] = field(default=lambda: None)

    def plan(self, source: Any, *, now: datetime) -> Sequence[Share]:
        self.planning()
        return [{"list": number} for number in range(len(source.lists))]

    def bind(self, source: Any, share: Share) -> Records:
        number = share["list"]
        return Records([source.lists[number]], lambda _: source.before(number + 1))

    def problem(self, source: Any) -> str | None:
        return None


FIELDS = {
    "code": models.BigIntegerField(unique=True),
    "name": models.CharField(max_length=20),
    "note": models.CharField(max_length=20, db_default="own"),
}
COLUMNS = {"code": "code", "name": "name"}


def products(*codes: int, **changes: Any) -> list[dict[str, Any]]:
    return [{"code": code, "name": f"product {code}"} | changes for code in codes]


@contextmanager
def table_of(meta: dict[str, Any] | None = None, **fields: Any) -> Iterator[Any]:
    """Make a model and its table for the time being."""
    model = order(meta, **(fields or FIELDS))
    with connection.schema_editor() as editor:
        editor.create_model(model)
    try:
        yield model
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f'DROP TABLE IF EXISTS "{model._meta.db_table}" CASCADE')
            cursor.execute("SELECT relname FROM pg_class WHERE relname ~ '^ingestion_(keys|stage)_' AND relkind = 'r'")
            for (name,) in cursor.fetchall():
                cursor.execute(f'DROP TABLE "{name}"')


class Catalog:
    """Runs a feed, declared beside the photos feed, whose target and records are given each time."""

    def __init__(self, monkeypatch: Any) -> None:
        self.monkeypatch = monkeypatch

    def declare(self, target: Any, *lists: Sequence[Any], before: Any = None, **options: Any) -> None:
        """Declare the feed; each page is a chunk of its own."""
        source = Records(lists) if before is None else Records(lists, before)
        options = {"columns": COLUMNS, "chunk_rows": 1} | options
        self.monkeypatch.setattr(
            "photos.feeds.CATALOG", Feed(name="catalog", source=source, target=target, **options), raising=False
        )

    def sync(self, target: Any, *lists: Sequence[Any], **options: Any) -> dict[str, Any]:
        """Run the feed to its end and return the summary."""
        known = ("limit", "dry_run", "confirm_deletes")
        arguments = {name: options.pop(name) for name in known if name in options}
        self.declare(target, *lists, **options)
        return pipeline.run_here("catalog", **arguments).summary

    def in_slices(self, target: Any, *lists: Sequence[Any], **options: Any) -> Run:
        """Run the feed in slices of one chunk, each claimed anew, as workers do that take over from each other."""
        self.declare(target, *lists, **options)
        run, _ = in_slices("catalog")
        return run


def counts(summary: dict[str, Any]) -> dict[str, int]:
    """Return the counters that are not zero; a run that failed shows its code as well."""
    names = ("read", "inserted", "updated", "unchanged", "deleted", "duplicates", "rejected")
    return {name: summary[name] for name in names if summary[name]}


def tables_of_runs() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^ingestion_(keys|stage)_' ORDER BY 1"
        )
        return [name for (name,) in cursor.fetchall()]


def rows(model: Any, *names: str) -> list[Any]:
    """Return all rows in order; of one column its values."""
    return list(model.objects.order_by(*names).values_list(*names, flat=len(names) == 1))


def written(table: str) -> tuple[int, int, int]:
    """Return how many tuples were inserted, updated and deleted in a table so far."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables WHERE relname = %s", [table])
        found: tuple[int, int, int] = cursor.fetchone()
        return found


def execute(statement: str, *arguments: Any) -> list[Any]:
    """Run a statement and return its rows, if it has any."""
    with connection.cursor() as cursor:
        cursor.execute(statement, arguments or None)
        return cursor.fetchall() if cursor.description else []


def trigger(body: str, when: str = "BEFORE INSERT OR UPDATE") -> None:
    """Put a trigger with this body on the table of the model that `table_of` makes by default."""
    execute(
        f"CREATE FUNCTION pg_temp.change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;"
        f"CREATE TRIGGER change {when} ON photos_order FOR EACH ROW EXECUTE FUNCTION pg_temp.change()"
    )
