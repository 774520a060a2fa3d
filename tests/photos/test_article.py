"""The article's loaders against a real PostgreSQL: what they store, and that it is the same."""

import itertools
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, transaction
from django.utils import timezone

from photos import article
from photos.article import LOADERS, LoadedPhoto
from photos.management.commands.load_data import complaint, make_photos
from photos.sample_api import photo

every_loader = pytest.mark.parametrize("loader", LOADERS)
streaming_loaders = pytest.mark.parametrize("loader", ["string_iterator", "string_iterator_db", "engine"])

DIRTY_TITLES = (
    "tab\there",
    "\tat both ends\t",
    "newline\nhere",
    "ends with newline\n",
    "carriage\rreturn",
    "crlf\r\n",
    "backslash \\ here",
    "\\",
    "\\\\",
    "ends with backslash\\",
    r"\n is not a newline, \t no tab, \x41 no A",
    "pipe | here",
    "|",
    r"\|",
    '"double" quotes',
    "'single' quotes",
    "comma, semicolon; percent % %s %(name)s",
    r"\N",
    r"\.",
    "\\.\n",
    "NULL",
    "",
    " spaces ",
    "grüße, 写真, фото",
    "emoji 🦊 👩‍👩‍👧‍👦",
    "right-to-left \u202e mark, zero\u200bwidth, line\u2028separator, nel\x85",
    "\x01\x1f\x7f",
    "x" * 255,
    "🦊" * 255,
)


def dirty_photos() -> Iterator[dict[str, object]]:
    for photo_id, title in enumerate(DIRTY_TITLES, start=1):
        yield photo(photo_id) | {"title": title, "url": title[::-1], "more": {title: [title, None, True, 1.5]}}


def stored() -> list[tuple[str, str, Any]]:
    return list(LoadedPhoto.objects.order_by("id").values_list("title", "url", "raw_data"))


@pytest.fixture
def table(db: None) -> None:
    article.create_table()


# What is stored


@every_loader
def test_every_title_is_stored_as_it_is(table: None, loader: str) -> None:
    LOADERS[loader].load(dirty_photos())
    expected = [(found["title"], found["url"], found) for found in dirty_photos()]
    assert stored() == expected
    assert article.read_contents().spoilt == 0


def test_every_loader_stores_the_same(table: None) -> None:
    contents = set()
    for loader in LOADERS.values():
        article.empty_table()
        loader.load(dirty_photos())
        contents.add(article.read_contents())
    assert len(contents) == 1
    assert contents.pop().rows == 29


@every_loader
def test_both_timestamps_are_set_to_the_time_of_the_load(table: None, loader: str) -> None:
    before = timezone.now()
    LOADERS[loader].load(map(photo, range(1, 4)))
    times = [time for row in LoadedPhoto.objects.values_list("created", "updated") for time in row]
    assert len(times) == 6
    # The database's clock may read a little earlier: it is another process, and another rounding.
    assert all(before - timedelta(seconds=1) <= time <= timezone.now() + timedelta(seconds=1) for time in times)


@every_loader
def test_no_photos_make_no_rows(table: None, loader: str) -> None:
    LOADERS[loader].load(iter(()))
    assert stored() == []


@every_loader
def test_what_the_column_cannot_hold_is_an_error_and_stores_nothing(table: None, loader: str) -> None:
    photos = [photo(1), photo(2) | {"title": "x" * 256}]
    with pytest.raises(Exception, match=r"too_long|too long"), transaction.atomic():
        LOADERS[loader].load(iter(photos))
    assert stored() == []


@streaming_loaders
def test_an_error_of_the_source_comes_through_and_stores_nothing(table: None, loader: str) -> None:
    def photos() -> Iterator[dict[str, object]]:
        yield photo(1)
        raise ConnectionResetError("the remote went away")

    with pytest.raises(ConnectionResetError, match="the remote went away"), transaction.atomic():
        LOADERS[loader].load(photos())
    assert stored() == []


def test_the_table_has_the_shape_of_the_article(table: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT column_name, data_type, character_maximum_length, is_nullable, is_identity"
            " FROM information_schema.columns WHERE table_name = 'load_data_photos' ORDER BY ordinal_position"
        )
        assert cursor.fetchall() == [
            ("id", "bigint", None, "NO", "YES"),
            ("title", "character varying", 255, "NO", "NO"),
            ("url", "character varying", 255, "NO", "NO"),
            ("raw_data", "jsonb", None, "NO", "NO"),
            ("created", "timestamp with time zone", None, "NO", "NO"),
            ("updated", "timestamp with time zone", None, "NO", "NO"),
        ]


def test_the_project_does_not_know_the_table() -> None:
    assert "loadedphoto" not in apps.all_models["photos"]


# Lines


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, r"\N"),
        (r"\N", r"\\N"),
        (r"\.", r"\\."),
        ("a|b", r"a\|b"),
        ("a\\|b", r"a\\\|b"),
        ("a\nb\tc\rd\\e", r"a\nb\tc\rd\\e"),
        ("", ""),
        (7, "7"),
    ],
)
def test_a_value_is_written_for_copy(value: object, written: str) -> None:
    assert article.clean_csv_value(value) == written


def test_a_line_has_the_columns_of_the_article() -> None:
    found = {"id": 1, "title": "a|b", "url": "c"}
    assert list(article.csv_lines([found], "t1", "t2")) == [
        'a\\|b|c|{"id": 1, "title": "a\\|b", "url": "c"}|t1|t2\n',
    ]


def test_lines_are_made_one_by_one() -> None:
    lines = article.csv_lines(map(photo, itertools.count(1)))
    assert len(list(itertools.islice(lines, 3))) == 3


def test_the_photos_are_made_one_by_one_and_repeat() -> None:
    photos = make_photos(10**12)
    assert list(itertools.islice(photos, 4_999, 5_002)) == [photo(5_000), photo(1), photo(2)]


# Verification


def test_contents_do_not_depend_on_the_order_of_the_rows(table: None) -> None:
    article.string_iterator.load(map(photo, (1, 2, 3)))
    forwards = article.read_contents()
    article.empty_table()
    article.string_iterator.load(map(photo, (3, 1, 2)))
    assert article.read_contents() == forwards


@pytest.mark.parametrize("column", ["title", "url"])
def test_a_column_that_differs_from_the_raw_data_is_counted(table: None, column: str) -> None:
    article.string_iterator.load(map(photo, (1, 2, 3)))
    before = article.read_contents()
    LoadedPhoto.objects.filter(id=2).update(**{column: "changed"})
    after = article.read_contents()
    assert (before.spoilt, after.spoilt) == (0, 1)
    assert after.checksum != before.checksum


def test_a_row_twice_instead_of_two_rows_is_noticed(table: None) -> None:
    article.string_iterator.load(map(photo, (1, 2)))
    right = article.read_contents()
    article.empty_table()
    article.string_iterator.load(map(photo, (1, 1)))
    wrong = article.read_contents()
    assert complaint(wrong, rows=2, reference=None) is None
    assert complaint(wrong, rows=2, reference=right) == "stored other contents than the loader before it"
    assert complaint(right, rows=2, reference=right) is None
    assert complaint(right, rows=3, reference=None) == "stored 2 rows of 3"
