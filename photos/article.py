r"""The loaders of the article, side by side with the engine's own path, into a scratch table of the article's shape.

Follows Haki Benita, "Fastest Way to Load Data Into PostgreSQL Using Python"
(https://hakibenita.com/fast-load-data-python-postgresql), for a Django table of photos. The shapes of its functions are
kept, its holes are closed: separator, backslash, tab and carriage return are escaped as well as the newline.
`copy_from` quotes the whole name of its table since psycopg2 2.9, which fails for a name with a schema: `copy_expert`
with an Identifier takes its place. Nothing here is on the path of a feed.
"""

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import msgspec
from django.apps.registry import Apps
from django.db import connection, models
from django.db.models.functions import Now
from django.utils import timezone
from psycopg2 import sql

from ingestion import loaders
from ingestion.cleaning import Column, compile_columns, whole_record
from ingestion.encoding import NULL, encode_lines, escape
from ingestion.streams import StringIteratorIO
from photos.profiling import profile

Photo = Mapping[str, object]

TABLE_NAME = "load_data_photos"
COLUMNS = ("title", "url", "raw_data")
TIMESTAMPS = ("created", "updated")
SEPARATOR = "|"  # the article's; COPY's own default is the tab


class LoadedPhoto(models.Model):
    """One row of the scratch table."""

    id = models.BigAutoField(primary_key=True)
    title = models.CharField(max_length=255)
    url = models.CharField(max_length=255)
    raw_data = models.JSONField()
    created = models.DateTimeField(db_default=Now())
    updated = models.DateTimeField(db_default=Now())

    objects: ClassVar[models.Manager["LoadedPhoto"]] = models.Manager()

    class Meta:
        # A registry of its own: the project's migrations, checks and admin must not see a table that comes and goes.
        apps = Apps()
        app_label = "photos"
        db_table = TABLE_NAME

    def __str__(self) -> str:
        return self.title


TABLE = sql.Identifier(TABLE_NAME)


def create_table() -> None:
    """Create the scratch table, empty; one left behind by an interrupted command is replaced."""
    drop_table()
    with connection.schema_editor() as editor:
        editor.create_model(LoadedPhoto)


def empty_table() -> None:
    """Remove every row and start the ids again."""
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(TABLE))


def drop_table() -> None:
    """Drop the scratch table if it is there."""
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(TABLE))


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What the scratch table holds: `checksum` does not depend on the order of the rows.

    `spoilt` counts the rows whose columns differ from the raw data they were taken from.
    """

    rows: int
    spoilt: int
    checksum: str


def read_contents() -> Contents:
    """Count and sum up the rows of the scratch table."""
    with connection.cursor() as cursor:
        cursor.execute(
            sql.SQL(
                "SELECT count(*),"
                " count(*) FILTER (WHERE (title, url) IS DISTINCT FROM (raw_data->>'title', raw_data->>'url')),"
                " coalesce(sum(hashtextextended(jsonb_build_array(title, url, raw_data)::text, 0)), 0)::text FROM {}"
            ).format(TABLE)
        )
        rows, spoilt, checksum = cursor.fetchone()
    return Contents(rows=rows, spoilt=spoilt, checksum=checksum)


@profile
def bulk_create(photos: Iterator[Photo]) -> None:
    """Let Django insert a list of instances, their timestamps set here."""
    now = timezone.now()
    LoadedPhoto.objects.bulk_create(
        [
            LoadedPhoto(title=photo["title"], url=photo["url"], raw_data=photo, created=now, updated=now)
            for photo in photos
        ]
    )


@profile
def bulk_create_db(photos: Iterator[Photo]) -> None:
    """Let Django insert a list of instances, their timestamps set by the database (and read back by Django)."""
    LoadedPhoto.objects.bulk_create(
        [LoadedPhoto(title=photo["title"], url=photo["url"], raw_data=photo) for photo in photos]
    )


@profile
def string_io(photos: Iterator[Photo]) -> None:
    """Write every line into one string, then COPY it; timestamps set here."""
    now = timezone.now().isoformat()
    csv_file = io.StringIO()
    csv_file.writelines(csv_lines(photos, now, now))
    csv_file.seek(0)
    copy(csv_file, COLUMNS + TIMESTAMPS)


@profile
def string_io_db(photos: Iterator[Photo]) -> None:
    """Write every line into one string, then COPY it; timestamps set by the database."""
    csv_file = io.StringIO()
    csv_file.writelines(csv_lines(photos))
    csv_file.seek(0)
    copy(csv_file, COLUMNS)


@profile
def string_iterator(photos: Iterator[Photo]) -> None:
    """COPY the lines while they are made, holding one; timestamps set here."""
    now = timezone.now().isoformat()
    copy(StringIteratorIO(csv_lines(photos, now, now)), COLUMNS + TIMESTAMPS)


@profile
def string_iterator_db(photos: Iterator[Photo]) -> None:
    """COPY the lines while they are made, holding one; timestamps set by the database."""
    copy(StringIteratorIO(csv_lines(photos)), COLUMNS)


@profile
def engine(photos: Iterator[Photo]) -> None:
    """Take the path of a feed: cleaning, encoding, StringIteratorIO, COPY; timestamps set by the database.

    A feed's records arrive as JSON text: writing it first is part of this loader's time, and of no feed's.
    """
    clean = compile_columns(ENGINE_COLUMNS)
    rows = (clean(msgspec.Raw(msgspec.json.encode(photo))) for photo in photos)
    stream = StringIteratorIO(encode_lines(rows, [column.kind for column in ENGINE_COLUMNS]))
    with connection.cursor() as cursor:
        loaders.append(cursor, loaders.Table(name=TABLE_NAME, columns=COLUMNS), stream)


LOADERS = {
    loader.name: loader
    for loader in (bulk_create, bulk_create_db, string_io, string_io_db, string_iterator, string_iterator_db, engine)
}

ENGINE_COLUMNS = (
    Column(name="title", kind="text", path=("title",), max_length=255),
    Column(name="url", kind="text", path=("url",), max_length=255),
    Column(name="raw_data", kind="json", path=whole_record.path),
)


def csv_lines(photos: Iterable[Photo], *timestamps: str) -> Iterator[str]:
    """Make one newline-terminated line per photo, its timestamps last; holds one photo."""
    return (
        SEPARATOR.join(map(clean_csv_value, (photo["title"], photo["url"], json.dumps(photo), *timestamps))) + "\n"
        for photo in photos
    )


def clean_csv_value(value: object) -> str:
    """Write one value so that COPY reads it back unchanged (the article escapes newlines only)."""
    if value is None:
        return NULL
    return escape(str(value)).replace(SEPARATOR, "\\" + SEPARATOR)


def copy(csv_file: io.TextIOBase, columns: tuple[str, ...]) -> None:
    """COPY the lines of a file into the scratch table.

    Raises:
        psycopg2.Error: the database refused a line; nothing is stored.
        Exception: whatever fed a StringIteratorIO raised; nothing is stored.
    """
    statement = sql.SQL("COPY {} ({}) FROM STDIN WITH (DELIMITER {})").format(
        TABLE, sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Literal(SEPARATOR)
    )
    with connection.cursor() as cursor:
        try:
            cursor.copy_expert(statement, csv_file)
        except Exception:
            if isinstance(csv_file, StringIteratorIO) and csv_file.error is not None:
                raise csv_file.error from None  # COPY reports that the data stopped, not why
            raise
