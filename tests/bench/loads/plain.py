"""The floor and the article's ways: server-side COPY, the bare loop, and the loaders of `photos.article`."""

import contextlib
import json
import os
from collections.abc import Iterator

import psycopg2
from psycopg2 import sql

from tests.bench.loads import Job, Timed, fetching


def floor(job: Job) -> Timed:
    """COPY a prepared file, read by the server itself: no client, no network, no Python."""
    connection = psycopg2.connect(**job.database)
    statement = sql.SQL("COPY {} ({}) FROM {}").format(
        sql.Identifier(job.table), sql.SQL(", ").join(map(sql.Identifier, job.columns)), sql.Literal(job.file)
    )

    def run():
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)

    return run


def bare_loop(job: Job) -> Timed:
    """The article's loop around a remote: httpx, json, join, copy_from. Nothing is checked, all is one transaction."""
    from ingestion.streams import StringIteratorIO

    connection = psycopg2.connect(**job.database)

    def run():
        with connection, connection.cursor() as cursor:
            cursor.copy_from(StringIteratorIO(_lines(job)), job.table, columns=job.columns)

    return run


def _lines(job: Job) -> Iterator[str]:
    for photo in fetching.records(job):
        values = (photo["id"], photo["albumId"], photo["title"], photo["url"], photo["thumbnailUrl"], json.dumps(photo))
        yield "\t".join([_clean_csv_value(value) for value in values]) + "\n"


def _clean_csv_value(value: object) -> str:
    return r"\N" if value is None else str(value).replace("\n", "\\n")


def article(job: Job) -> Timed:
    """Call the loader `job.option` of `photos.article` into the article's table, with photos from the API."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    from django.db import connection

    from photos.article import LOADERS

    connection.ensure_connection()

    def run():
        with contextlib.closing(fetching.records(job)) as photos:
            LOADERS[job.option].load(photos)

    return run
