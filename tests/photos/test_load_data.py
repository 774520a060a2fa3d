"""The command that loads photos with each loader of the article, and the profiles that it prints."""

import io
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from photos import article
from photos.article import LOADERS, LoadedPhoto
from photos.profiling import LoaderError, Profile, profile
from photos.sample_api import photo

# Profiled loads run in forked processes; the test process may have threads (of pytest-xdist, of a browser) that the
# command does not have, and Python 3.12 warns of that.
forks = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def table_exists() -> bool:
    return "load_data_photos" in connection.introspection.table_names()


@pytest.fixture
def committed_table(transactional_db: None) -> Iterator[None]:
    article.create_table()
    yield
    article.drop_table()


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
    assert list(LoadedPhoto.objects.order_by("id").values_list("raw_data__id", flat=True)) == list(range(1, 151))


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
