"""The article's loaders against a real PostgreSQL: what they store, and what the command reports of them."""

import io
import itertools
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from photos import article
from photos.article import LOADERS, LoadedPhoto
from photos.management.commands.load_data import complaint, make_photos
from photos.profiling import LoaderError, Profile, profile
from photos.sample_api import photo

# Profiled loads run in forked processes; the test process may have threads (of pytest-xdist, of a browser) that the
# command does not have, and Python 3.12 warns of that.
forks = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

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


def table_exists() -> bool:
    return "load_data_photos" in connection.introspection.table_names()


@pytest.fixture
def table(db: None) -> None:
    article.create_table()


@pytest.fixture
def committed_table(transactional_db: None) -> Iterator[None]:
    article.create_table()
    yield
    article.drop_table()


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


# Profiles


def take(loader: Callable[[Iterator[dict[str, object]]], None], written: list[str] | None = None) -> Profile:
    lines: list[str] = [] if written is None else written
    return profile(loader)(lambda: map(photo, range(1, 151)), empty_table=article.empty_table, write=lines.append)


@forks
def test_a_profile_prints_the_call_the_time_and_the_memory(committed_table: None) -> None:
    written: list[str] = []
    found = take(article.string_iterator.load, written)
    assert written == ["\nstring_iterator()", f"Time   {found.seconds:.4}", f"Memory {found.peak_mib:.2f}"]
    assert found.seconds > 0


@forks
def test_a_profiled_load_leaves_exactly_its_photos(committed_table: None) -> None:
    take(article.bulk_create.load)
    take(article.string_io.load)  # into the table that the other has filled
    assert [row[2]["id"] for row in stored()] == list(range(1, 151))


@forks
def test_memory_is_the_peak_of_this_load_whatever_was_loaded_before(committed_table: None) -> None:
    def greedy(photos: Iterator[dict[str, object]]) -> None:
        if len(list(photos)) == 150:  # not in the warm-up
            bytearray(64 << 20)[::4096] = b"x" * (64 << 8)

    def modest(photos: Iterator[dict[str, object]]) -> None:
        assert list(photos)

    first, second, third = take(greedy), take(modest), take(greedy)
    # The load takes 64 MiB; what the process had before and gave back is used again and does not count.
    assert 48 < first.peak_mib < 80
    assert second.peak_mib < 16
    assert 48 < third.peak_mib < 80


@forks
def test_a_loader_that_raises_is_reported_by_its_error(committed_table: None) -> None:
    def broken(photos: Iterator[dict[str, object]]) -> None:
        raise KeyError("title")

    with pytest.raises(LoaderError, match="KeyError: 'title'"):
        take(broken)


@forks
def test_a_loader_whose_process_dies_is_reported_by_its_status(committed_table: None) -> None:
    def dying(photos: Iterator[dict[str, object]]) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(LoaderError, match="status -9"):
        take(dying)


# The command


def load_data(*arguments: str) -> tuple[dict[str, Any], str]:
    output = io.StringIO()
    call_command("load_data", "--json", *arguments, stdout=output)
    return json.loads(output.getvalue().splitlines()[-1]), output.getvalue()


@forks
def test_every_loader_loads_the_sample_photos(transactional_db: None) -> None:
    summary, output = load_data()
    assert summary["state"] == "succeeded"
    assert summary["rows"] == 5_000
    assert summary["error"] is None
    assert summary["seconds"] > 0
    assert [(found["loader"], found["rows"]) for found in summary["loaders"]] == [
        ("bulk_create", 5_000),
        ("bulk_create_db", 5_000),
        ("string_io", 5_000),
        ("string_io_db", 5_000),
        ("string_iterator", 5_000),
        ("string_iterator_db", 5_000),
        ("engine", 5_000),
    ]
    assert all(found["seconds"] > 0 for found in summary["loaders"])
    # Only so much: a process forked from a long test run has free memory that a small load does not exceed.
    peaks = {found["loader"]: found["peak_mib"] for found in summary["loaders"]}
    assert 0 <= peaks["string_iterator"] <= peaks["bulk_create"]
    for name in LOADERS:
        assert f"\n{name}()\nTime   " in output
        assert f"│ {name} " in output
    assert not table_exists()


@forks
def test_loaders_are_chosen_and_run_in_the_order_given(transactional_db: None) -> None:
    summary, _ = load_data("--loader", "engine", "--loader", "string_io", "--loader", "engine", "--times", "2")
    assert summary["rows"] == 10_000
    assert [(found["loader"], found["rows"]) for found in summary["loaders"]] == [
        ("engine", 10_000),
        ("string_io", 10_000),
    ]


@forks
def test_the_table_is_kept_on_request_and_replaced_by_the_next_load(transactional_db: None) -> None:
    load_data("--loader", "string_io_db", "--keep")
    assert LoadedPhoto.objects.count() == 5_000
    assert LoadedPhoto.objects.order_by("id").last().raw_data == photo(5_000)  # type: ignore[union-attr]
    load_data("--loader", "string_iterator")
    assert not table_exists()


@forks
def test_a_loader_that_loses_a_row_fails_the_command_and_the_others_still_run(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losing(photos: Iterator[article.Photo]) -> None:
        next(photos)
        article.string_iterator.load(photos)

    def raising(photos: Iterator[article.Photo]) -> None:
        raise ValueError("no")

    monkeypatch.setitem(LOADERS, "losing", profile(losing))
    monkeypatch.setitem(LOADERS, "raising", profile(raising))
    output = io.StringIO()
    arguments = ["--loader", "losing", "--loader", "raising", "--loader", "engine", "--json"]
    with pytest.raises(CommandError, match="stored 4,999 rows of 5,000"):
        call_command("load_data", *arguments, stdout=output)
    summary = json.loads(output.getvalue().splitlines()[-1])
    assert summary["state"] == "failed"
    assert summary["error"] == "losing: stored 4,999 rows of 5,000; raising: ValueError: no"
    assert [(found["loader"], found["rows"]) for found in summary["loaders"]] == [
        ("losing", 4_999),
        ("raising", 0),
        ("engine", 5_000),
    ]
    assert summary["loaders"][1]["seconds"] is None
    assert not table_exists()


@forks
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_command_stops_the_load_and_drops_the_table(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def endless(photos: Iterator[article.Photo]) -> None:
        os.kill(os.getppid(), number)
        signal.pause()

    monkeypatch.setitem(LOADERS, "endless", profile(endless))
    # Whoever was started in the background ignores SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(CommandError, match="interrupted"):
            call_command("load_data", "--loader", "endless", "--loader", "engine", stdout=io.StringIO())
    finally:
        signal.signal(signal.SIGINT, before)
    assert multiprocessing.active_children() == []
    assert not table_exists()


@pytest.mark.parametrize(
    "arguments", [["--loader", "nope"], ["--times", "0"], ["--times", "-1"], ["--times", "x"], ["--times", "²"]]
)
def test_wrong_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(CommandError, match=r"loader|times"):
        call_command("load_data", *arguments)
