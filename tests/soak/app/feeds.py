"""The same export from both places, into the photos table."""

from ingestion.cleaning import constant
from ingestion.feeds import Feed, Upsert, env_url
from ingestion.sources import S3, Csv, Files, Web
from photos.models import Photo
from tests.soak import exports

_COLUMNS = {
    "remote_id": "id",
    "title": "title",
    "album_id": constant(1),
    "url": constant(""),
    "thumbnail_url": constant(""),
    "raw_data": constant({}),
}

WEB = Feed(
    name="soak-web",
    source=Files(place=Web(urls=env_url("SOAK_API_URL", f"/{exports.NAME}")), format=Csv(), reload="always"),
    columns=_COLUMNS,
    target=Upsert(Photo, key="remote_id"),
)
BUCKET = Feed(
    name="soak-s3",
    source=Files(
        place=S3(
            bucket=exports.BUCKET,
            endpoint=env_url("SOAK_S3_URL"),
            key_id=lambda: exports.KEY_ID,
            secret=lambda: exports.SECRET,
        ),
        format=Csv(),
        reload="always",
    ),
    columns=_COLUMNS,
    target=Upsert(Photo, key="remote_id"),
)
