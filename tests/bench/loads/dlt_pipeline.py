"""dlt: its pipeline of extract, normalize and load, tuned as its own performance guide says.

https://dlthub.com/docs/reference/performance and …/dlt-ecosystem/destinations/postgres: pages are yielded whole, orjson
reads them, files are rotated so that normalizing uses both cores and loading several connections, buffers are bigger
than the default, nothing is compressed, no index is made on `_dlt_id`. The column `raw_data` is declared as JSON, which
keeps dlt from unnesting it.
"""

import os
import shutil
from typing import Any

from tests.bench.loads import Job, Timed
from tests.bench.loads.fetching import bodies

DATASET = "bench_dlt"
SETTINGS = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "ERROR",
    "EXTRACT__DATA_WRITER__BUFFER_MAX_ITEMS": "20000",
    "EXTRACT__DATA_WRITER__FILE_MAX_ITEMS": "50000",
    "NORMALIZE__DATA_WRITER__BUFFER_MAX_ITEMS": "20000",
    "NORMALIZE__DATA_WRITER__FILE_MAX_ITEMS": "50000",
    "NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION": "true",
    "NORMALIZE__WORKERS": "2",
    "LOAD__WORKERS": "2",
    "DESTINATION__POSTGRES__CREATE_INDEXES": "false",
}


def run_pipeline(job: Job) -> Timed:
    """Load with the file format `job.option`: insert_values (dlt's default), csv, or arrow (tables, then csv)."""
    home = f"{job.scratch}/dlt"
    shutil.rmtree(home, ignore_errors=True)
    os.environ.update(SETTINGS | {"DLT_DATA_DIR": home})
    import dlt
    from dlt.common import json

    make_page = _arrow_page(json) if job.option == "arrow" else list
    database = job.database

    @dlt.resource(
        name=job.table.rpartition(".")[2], write_disposition="append", columns={"raw_data": {"data_type": "json"}}
    )
    def photos():
        for body in bodies(job):
            yield make_page([_row(photo) for photo in json.loadb(body)])

    # libpq takes the last host: dlt itself knows no Unix sockets.
    url = (
        f"postgresql://{database['user']}:{database['password']}@localhost:{database['port']}/{database['dbname']}"
        f"?host={database['host']}"
    )
    pipeline = dlt.pipeline(
        "bench", destination=dlt.destinations.postgres(url), dataset_name=DATASET, pipelines_dir=f"{home}/pipelines"
    )

    def run():
        pipeline.run(photos(), loader_file_format="insert_values" if job.option == "insert_values" else "csv")

    return run


def _row(photo: dict[str, Any]) -> dict[str, Any]:
    return {
        "remote_id": photo["id"],
        "album_id": photo["albumId"],
        "title": photo["title"],
        "url": photo["url"],
        "thumbnail_url": photo["thumbnailUrl"],
        "raw_data": photo,
    }


def _arrow_page(json: Any) -> Any:
    """Return a function from rows to an Arrow table, which dlt loads without normalizing it; JSON has to be text."""
    import pyarrow as pa

    return lambda rows: pa.Table.from_pylist([row | {"raw_data": json.dumps(row["raw_data"])} for row in rows])
