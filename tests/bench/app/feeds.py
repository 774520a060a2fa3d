"""The feeds of the benchmark. A write mode that the engine does not have yet gives None, which declares nothing."""

import os
from typing import Any

from ingestion import feeds
from ingestion.cleaning import whole_record
from ingestion.feeds import Append, Feed, Upsert, env_url
from ingestion.pagination import PageNumber
from ingestion.parts import PageRanges
from ingestion.sources import S3, Connection, Csv, Files, GraphQL, JsonApi, Web
from tests.bench import remotes, shapes
from tests.bench.app import models
from tests.bench.shapes import Shape


def _feed(name: str, shape: Shape, target: Any, *, api: str = "BENCH_API_URL", **options: Any) -> Feed | None:
    return target and Feed(
        name=name,
        source=JsonApi(
            url=env_url(api, shape.path),
            pagination=PageNumber(
                param="_page", size_param="_limit", size=shapes.PAGE_RECORDS, total_header="X-Total-Count"
            ),
        ),
        columns={name: ".".join(path) if path else whole_record for name, path in shape.paths.items()},
        target=target,
        **options,
    )


def _target(mode: str, model: Any, **arguments: Any) -> Any:
    kind = getattr(feeds, mode, None)
    return kind and kind(model, **arguments)


DIRTY = _feed("bench-dirty", shapes.DIRTY, Upsert(models.KeyedPhoto, key="remote_id"))
WIDE = _feed("bench-wide", shapes.WIDE, Upsert(models.WideRecord, key="remote_id"))
NESTED = _feed("bench-nested", shapes.NESTED, Upsert(models.NestedRecord, key="remote_id"))
TINY = _feed("bench-tiny", shapes.TINY, Upsert(models.TinyRecord, key="remote_id"))

APPEND = _feed("bench-append", shapes.PLAIN, _target("Append", models.PlainPhoto), api="PHOTOS_API_URL")
# The switch's name is a guess until the engine has one.
_SKIPPING = {"skip_unchanged_pages": True}
SKIPPING = (
    _feed(
        "bench-skip",
        shapes.KEYED,
        _target("Upsert", models.KeyedPhoto, key="remote_id"),
        api="PHOTOS_API_URL",
        **_SKIPPING,
    )
    if _SKIPPING.keys() <= Feed.__dataclass_fields__.keys()
    else None
)
REPLACE = _feed("bench-replace", shapes.PLAIN, _target("Replace", models.PlainPhoto), api="PHOTOS_API_URL")
PARTS = _feed(
    "bench-parts",
    shapes.KEYED,
    Upsert(models.KeyedPhoto, key="remote_id"),
    api="PHOTOS_API_URL",
    parts=PageRanges(pages=int(os.environ.get("BENCH_RANGE_PAGES", "250"))),
)
MIRROR = _feed(
    "bench-mirror", shapes.KEYED, _target("Mirror", models.KeyedPhoto, key="remote_id"), api="PHOTOS_API_URL"
)

# The same columns as `bench-append`, which they are compared with.
_COLUMNS = {name: ".".join(path) if path else whole_record for name, path in shapes.PLAIN.paths.items()}
GRAPHQL = Feed(
    name="bench-graphql",
    source=GraphQL(
        url=env_url("BENCH_API_URL", "/graphql"),
        query="""query ($first: Int!, $after: String) {
          photos(first: $first, after: $after) {
            nodes { albumId id title url thumbnailUrl }
            pageInfo { endCursor hasNextPage }
          }
        }""",
        records=("photos",),
        pagination=Connection(size=shapes.PAGE_RECORDS),
    ),
    columns=_COLUMNS,
    target=Append(models.PlainPhoto),
)
# Without a memory of what was loaded: each round reads the same file.
CSV = Feed(
    name="bench-csv",
    source=Files(place=Web(urls=env_url("BENCH_API_URL", f"/{remotes.FILE}")), format=Csv(), reload="always"),
    columns=_COLUMNS,
    target=Append(models.PlainPhoto),
)
BUCKET = Feed(
    name="bench-s3",
    source=Files(
        place=S3(
            bucket=remotes.BUCKET,
            endpoint=env_url("BENCH_API_URL"),
            key_id=lambda: "bench",
            secret=lambda: "bench",
        ),
        format=Csv(),
        reload="always",
    ),
    columns=_COLUMNS,
    target=Append(models.PlainPhoto),
)
