"""The feeds of the benchmark. A write mode that the engine does not have yet gives None, which declares nothing."""

import os
from typing import Any

from ingestion import feeds
from ingestion.cleaning import whole_record
from ingestion.feeds import Feed, Upsert, env_url
from ingestion.pagination import PageNumber
from ingestion.parts import PageRanges
from ingestion.sources import JsonApi
from tests.bench import shapes
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
