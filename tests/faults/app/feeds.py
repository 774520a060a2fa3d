"""Two feeds of the same kind: what happens to one must not harm the other. Beside them the unruly ones."""

from ingestion.feeds import Feed, Upsert, env_url
from ingestion.pagination import PageNumber
from ingestion.sources import JsonApi
from tests.faults.app import unruly
from tests.faults.app.models import Record


def _feed(name: str) -> Feed:
    return Feed(
        name=name,
        source=JsonApi(
            url=env_url("FAULTS_API_URL", f"/{name}"),
            pagination=PageNumber(param="page", size_param="size", size=100, total_header="X-Total-Count"),
        ),
        columns={name: name for name in ("source", "number", "payload", "hash", "size")},
        target=Upsert(Record, key=("source", "number")),
        chunk_rows=500,
        chunk_bytes=128 * 1024,
    )


ALPHA = _feed("alpha")
BETA = _feed("beta")

# Feeds are found by the names of this module.
globals().update({feed.name.upper(): feed for feed in unruly.ALL})
