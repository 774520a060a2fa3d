"""What the photos table is kept in step with."""

from datetime import timedelta

from ingestion.cleaning import text, whole_record
from ingestion.feeds import Feed, Upsert, env_url
from ingestion.pagination import PageNumber
from ingestion.sources import JsonApi
from photos.models import Photo

PHOTOS = Feed(
    name="photos",
    source=JsonApi(
        url=env_url("PHOTOS_API_URL", "/photos"),
        pagination=PageNumber(param="_page", size_param="_limit", size=1000, total_header="X-Total-Count"),
    ),
    columns={
        "remote_id": "id",
        "album_id": "albumId",
        "title": "title",
        "url": "url",
        "thumbnail_url": text("thumbnailUrl", default=""),
        "raw_data": whole_record,
    },
    target=Upsert(Photo, key="remote_id"),
    every=timedelta(hours=1),
)
