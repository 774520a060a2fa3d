"""Other people's tools, each in the configuration that its documentation calls the fastest for this job."""

import csv
import json
import os
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.bench.contenders import SLING
from tests.bench.loads import Job, Timed, fetching


def psycopg3(job: Job) -> Timed:
    """COPY with psycopg 3's `write_row`, its C implementation."""
    import psycopg
    from psycopg import sql

    assert psycopg.pq.__impl__ != "python"
    connection = psycopg.connect(**job.database)
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(job.table), sql.SQL(", ").join(map(sql.Identifier, job.columns))
    )

    def run():
        with connection.transaction(), connection.cursor() as cursor, cursor.copy(statement) as copy:
            for photo in fetching.records(job):
                copy.write_row(_values(photo))

    return run


def _values(photo: dict[str, Any]) -> tuple[Any, ...]:
    return photo["id"], photo["albumId"], photo["title"], photo["url"], photo["thumbnailUrl"], json.dumps(photo)


def django_postgres_copy(job: Job) -> Timed:
    """Write a CSV file and have django-postgres-copy load it: temporary table of text, then INSERT … SELECT."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    from django.db import connection
    from postgres_copy import CopyMapping

    from tests.bench.app.models import PlainPhoto

    connection.ensure_connection()
    path = Path(job.scratch) / "postgres_copy.csv"

    def run():
        with path.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(job.columns)
            rows.writerows(map(_values, fetching.records(job)))
        CopyMapping(PlainPhoto, str(path), {name: name for name in job.columns}).save(silent=True)
        path.unlink()

    return run


def sling(job: Job) -> Timed:
    """Append a file of JSON lines straight to the table: no temporary table, column types given, none guessed.

    https://docs.slingdata.io/sling-cli: `snapshot` is its mode that appends.
    """
    sling_bin = import_module(SLING).SLING_BIN
    database = job.database
    url = (
        f"postgresql://{database['user']}:{database['password']}@/{database['dbname']}"
        f"?host={database['host']}&port={database['port']}&sslmode=disable"
    )
    environment = os.environ | {
        "BENCH_DB": url,
        "SLING_DIRECT_INSERT": "true",
        "SLING_LOADED_AT_COLUMN": "false",
        "SLING_DISABLE_TELEMETRY": "true",
        "SLING_HOME_DIR": f"{job.scratch}/sling",
    }
    arguments = [
        sling_bin, "run", "--src-stream", f"file://{job.file}", "--src-options", '{"flatten": true}',
        "--columns", json.dumps({"remote_id": "bigint", "album_id": "bigint", "raw_data": "json"}),
        "--tgt-conn", "BENCH_DB", "--tgt-object", f"public.{job.table}", "--mode", "snapshot",
    ]  # fmt: skip

    def run():
        subprocess.run(arguments, env=environment, check=True, stdin=subprocess.DEVNULL, stdout=2)

    return run
