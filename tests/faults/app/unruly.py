"""Feeds of sources that misbehave in their own ways: each case starts the server that it needs."""

import os
from datetime import timedelta

from django.db.models import Q

from ingestion.auth import RefreshToken
from ingestion.cleaning import integer
from ingestion.feeds import Feed, Mirror, Replace, Upsert, env_url
from ingestion.http import Limits, Retry, Transport
from ingestion.incremental import Incremental
from ingestion.pagination import NextCursor, OffsetLimit, PageNumber
from ingestion.sources import S3, Disk, Files, Ftp, JsonApi, Ndjson, Web
from tests.faults.app.models import Record, Replaced

KEY = ("source", "number")
TOTAL = "X-Total-Count"


def _feed(name, source, target=None, **options):
    return Feed(
        name=name,
        source=source,
        columns={field: field for field in ("source", "number", "payload", "hash", "size")},
        target=target or Upsert(Record, key=KEY),
        chunk_rows=500,
        chunk_bytes=128 * 1024,
        **options,
    )


def _api(name, pagination, *, url="UNRULY_API_URL", **options):
    return JsonApi(url=env_url(url, f"/{name}"), pagination=pagination, **options)


# What hangs is given up within seconds, so that a case may wait for it.
HASTY = Limits(connect=timedelta(seconds=1), silence=timedelta(seconds=1), deadline=timedelta(seconds=3))
PAGES = PageNumber(param="page", size_param="size", size=100, total_header=TOTAL)

hasty = _feed("hasty", _api("hasty", PAGES, limits=HASTY))
secure = _feed(
    "secure",
    _api(
        "secure",
        PAGES,
        url="UNRULY_TLS_API_URL",
        limits=HASTY,
        transport=Transport(ca_file=os.environ.get("UNRULY_CA", "")),
    ),
)
tokens = _feed(
    "tokens",
    _api(
        "tokens",
        PAGES,
        auth=RefreshToken(
            name="tokens",
            token_url=os.environ.get("UNRULY_API_URL", "http://127.0.0.1:9") + "/token",
            client_id="feed",
            client_secret=lambda: "hush",
        ),
    ),
)
cursors = _feed(
    "cursors",
    _api(
        "cursors",
        NextCursor(param="after", cursor=("next",), has_more=("more",)),
        records=("records",),
        max_pages=50,
    ),
)
offsets = _feed("offsets", _api("offsets", OffsetLimit(param="offset", size_param="size", size=100)))
counted = _feed(
    "counted", _api("counted", OffsetLimit(param="offset", size_param="size", size=100, total_header=TOTAL))
)
lapped = _feed(
    "lapped", _api("lapped", OffsetLimit(param="offset", size_param="size", size=100, total_header=TOTAL, overlap=1))
)
late = _feed("late", _api("late", PAGES), incremental=Incremental(field=integer("number"), since="since", overlap=100))
dated = _feed(
    "dated",
    _api("dated", PageNumber(param="page", size=100)),
    incremental=Incremental(field="updated_at", since="since", overlap=timedelta(seconds=5)),
)
mirrored = _feed("mirrored", _api("mirrored", PAGES), Mirror(Record, key=KEY, scope=Q(source="mirrored")))
replaced = _feed("replaced", _api("replaced", PAGES), Replace(Replaced, key=KEY))


def _files(name, place):
    quick = Retry(wait_initial=timedelta(seconds=0.1))
    return _feed(name, Files(place=place, pattern=f"{name}.ndjson", format=Ndjson(page_bytes=16 * 1024), retry=quick))


disk = _files("disk", Disk(folder=lambda: os.environ["UNRULY_FOLDER"]))
# Copied to the disk for temporary files before it is read.
zipped = _feed(
    "zipped",
    Files(place=Disk(folder=lambda: os.environ["UNRULY_FOLDER"]), pattern="zipped.ndjson.zip", format=Ndjson()),
)
web = _files("web", Web(urls=env_url("UNRULY_API_URL", "/web.ndjson")))
ftp = _files(
    "ftp",
    Ftp(
        host="127.0.0.1",
        port=int(os.environ.get("UNRULY_FTP_PORT", "9")),
        user="reader",
        password=lambda: "s3cret-passw0rd",
        tls=False,
        silence=timedelta(seconds=5),
    ),
)
bucket = _files(
    "bucket",
    S3(
        bucket="bucket",
        endpoint=lambda: os.environ["UNRULY_S3"],
        key_id=lambda: "key",
        secret=lambda: "s3cret",
        silence=timedelta(seconds=5),
    ),
)
ALL = (
    hasty,
    secure,
    tokens,
    cursors,
    offsets,
    counted,
    lapped,
    late,
    dated,
    mirrored,
    replaced,
    disk,
    zipped,
    web,
    ftp,
    bucket,
)
