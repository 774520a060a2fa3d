"""Two feeds of the same kind: what happens to one must not harm the other. Beside them a big and the unruly ones."""

from ingestion.feeds import Feed, Upsert, env_url
from ingestion.pagination import PageNumber
from ingestion.sources import JsonApi
from tests.faults.app import unruly
from tests.faults.app.models import Numbered, Record


def _feed(name: str, target: Upsert, *, times: int = 1) -> Feed:
    return Feed(
        name=name,
        source=JsonApi(
            url=env_url("FAULTS_API_URL", f"/{name}"),
            pagination=PageNumber(param="page", size_param="size", size=100 * times, total_header="X-Total-Count"),
        ),
        columns={name: name for name in ("source", "number", "payload", "hash", "size")},
        target=target,
        chunk_rows=500 * times,
        chunk_bytes=128 * 1024 * times,
    )


ALPHA = _feed("alpha", Upsert(Record, key=("source", "number")))
BETA = _feed("beta", Upsert(Record, key=("source", "number")))
# Its chunks take many packets to send, and go straight into the table.
BULKY = _feed("bulky", Upsert(Numbered, key="number"), times=10)

# Feeds are found by the names of this module.
globals().update({feed.name.upper(): feed for feed in unruly.ALL})
