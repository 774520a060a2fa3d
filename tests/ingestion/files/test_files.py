"""Files into a table: which are read, in which order, once; when they change; what becomes of them then."""

import os
import threading
import time
from datetime import timedelta

import pytest
from django.core.management import call_command

from ingestion import pipeline
from ingestion.errors import ConfigurationError
from ingestion.feeds import Append, Mirror, Replace
from ingestion.models import Part, Reject, Run, SourceFile, State
from ingestion.sources import Csv, Disk, FileLimits, Files, Ndjson
from tests.ingestion.catalog import counts
from tests.ingestion.files.streams import rows_of
from tests.ingestion.slices import finish


def test_a_second_run_reads_only_what_is_new_or_changed(shelf):
    shelf.write("a.csv", 1, 2)
    shelf.write("b.csv", 3)
    assert counts(shelf.sync()) == {"read": 3, "inserted": 3}
    assert shelf.loaded() == ["a.csv", "b.csv"]
    assert counts(shelf.sync()) == {}
    shelf.write("b.csv", 3, 4)
    shelf.write("c.csv", 5)
    assert counts(shelf.sync()) == {"read": 3, "inserted": 2, "unchanged": 1}
    assert counts(shelf.sync(reload="always")) == {"read": 5, "unchanged": 5}


def test_no_folder_is_left_out_where_files_are_not_moved(shelf):
    shelf.write("None/a.csv", 1)
    assert counts(shelf.sync(pattern="**/*.csv")) == {"read": 1, "inserted": 1}


def test_what_is_remembered_is_committed_with_the_last_rows_of_a_file(shelf):
    shelf.write("a.csv", *range(10))
    part = shelf.begin(format=Csv(page_bytes=30))
    assert pipeline.advance(part, slice_seconds=0) == State.QUEUED
    assert (shelf.loaded(), len(shelf.codes()) > 0) == ([], True)
    while pipeline.advance(part, slice_seconds=0) == State.QUEUED:
        assert bool(shelf.loaded()) == (len(shelf.codes()) == 10)
    assert shelf.loaded() == ["a.csv"]
    known = SourceFile.objects.get()
    assert (known.run_id, known.size_bytes) == (Run.objects.get().pk, (shelf.folder / "a.csv").stat().st_size)


def test_the_records_of_a_file_are_counted_whoever_goes_on_with_it(shelf):
    shelf.write("a.csv", *range(10))
    (shelf.folder / "b.csv").write_text("code,name\n77,a\nbad,b\n")
    run = shelf.in_slices(format=Csv(page_bytes=30))
    assert (run.read, run.rejected) == (12, 1)
    assert dict(SourceFile.objects.values_list("name", "records")) == {"a.csv": 10, "b.csv": 2}


def test_a_cursor_that_did_not_count_leaves_the_number_open(shelf):
    shelf.write("a.csv", *range(10))
    part = shelf.begin(format=Csv(page_bytes=30))
    pipeline.advance(part, slice_seconds=0)
    cursor = Part.objects.get().cursor
    del cursor["records"]
    Part.objects.update(cursor=cursor)
    finish(part)
    assert (shelf.codes(), SourceFile.objects.get().records) == ([*range(10)], None)


def test_only_files_that_were_loaded_to_their_end_are_remembered(shelf):
    shelf.write("a.csv", 1, 2, 3)
    shelf.sync(dry_run=True)
    assert counts(shelf.sync(limit=2)) == {"read": 2, "inserted": 2}
    assert shelf.loaded() == []
    (shelf.folder / "b.csv").write_text('code,name\n9,"open\n')
    summary = shelf.sync(order="name")
    assert summary["error"].startswith("unterminated_quote: b.csv: ")
    assert shelf.loaded() == ["a.csv"]
    assert shelf.codes() == [1, 2, 3]


@pytest.mark.parametrize(("order", "expected"), [("modified", [2, 3, 1]), ("name", [1, 2, 3])])
def test_files_come_in_the_order_of_their_age_or_name(shelf, order, expected):
    for number, age in ((1, 10), (2, 30), (3, 20)):
        shelf.write(f"{number}.csv", number)
        then = time.time() - age
        os.utime(shelf.folder / f"{number}.csv", (then, then))
    pages = shelf.declare(order=order).pages(None)
    assert [int(rows_of(page)[0][0]) for page in pages] == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*.csv", [1]), ("sub/*.csv", [2]), ("**/*.csv", [1, 2, 3]), ("**/[x-z]?.csv", [3]), ("none*", [])],
)
def test_patterns(shelf, pattern, expected):
    shelf.write("a.csv", 1)
    shelf.write("sub/b.csv", 2)
    shelf.write("sub/deep/x1.csv", 3)
    shelf.sync(pattern=pattern)
    assert shelf.codes() == expected


@pytest.mark.parametrize("pattern", ["", "/etc/*", "../*.csv", "a/../b"])
def test_a_pattern_never_leaves_its_place(shelf, pattern):
    with pytest.raises(ConfigurationError):
        shelf.declare(pattern=pattern)


def test_a_run_goes_on_inside_a_file_and_between_files(shelf):
    shelf.write("a.csv", *range(1, 8))
    shelf.write("b.csv", *range(8, 15))
    run = shelf.in_slices(format=Csv(page_bytes=40), order="name")
    assert (run.state, run.read, run.inserted) == ("succeeded", 14, 14)
    assert run.pages > 4
    assert shelf.codes() == list(range(1, 15))


def test_a_file_that_changed_between_two_slices_is_begun_again(shelf):
    shelf.write("a.csv", *range(1, 8))
    part = shelf.begin(format=Csv(page_bytes=40))
    pipeline.advance(part, slice_seconds=0)
    shelf.write("a.csv", *range(1, 10))
    finish(part)
    assert Run.objects.get().state == "succeeded"
    assert shelf.codes() == list(range(1, 10))


def test_a_file_that_changed_between_two_slices_is_never_appended_twice(shelf):
    shelf.write("a.csv", *range(1, 8))
    part = shelf.begin(format=Csv(page_bytes=40), target=Append(shelf.model))
    pipeline.advance(part, slice_seconds=0)
    loaded = shelf.codes()
    shelf.write("a.csv", *range(1, 10))
    assert pipeline.advance(part, slice_seconds=0) == State.FAILED
    assert Run.objects.get().error.startswith("file_changed: a.csv is another version")
    assert shelf.codes() == loaded


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes() + b"9,late\n"), "changed while it was read"),
        (
            lambda path: path.with_name("new").write_bytes(path.read_bytes()) and path.with_name("new").replace(path),
            "changed",
        ),
        (lambda path: path.unlink(), "removed while it was read"),
    ],
    ids=["growing", "replaced", "deleted"],
)
def test_a_file_that_changes_while_it_is_read_is_tried_again_later(shelf, change, said):
    shelf.write("a.csv", *range(1, 60))
    part = shelf.begin(format=Csv(page_bytes=100))
    changed = threading.Event()
    read = Csv.blocks

    def blocks(self, *arguments):
        for block in read(self, *arguments):
            if not changed.is_set():
                changed.set()
                change(shelf.folder / "a.csv")
            yield block

    shelf.monkeypatch.setattr(Csv, "blocks", blocks)
    assert pipeline.advance(part, slice_seconds=60) == State.WAITING
    assert said in Part.objects.get().waiting_for
    assert shelf.loaded() == []


def test_a_file_that_was_changed_just_now_can_wait(shelf):
    shelf.write("a.csv", 1)
    shelf.write("b.csv", 2)
    then = time.time() - 600
    os.utime(shelf.folder / "a.csv", (then, then))
    shelf.sync(settled_for=timedelta(minutes=5))
    assert (shelf.codes(), shelf.loaded()) == ([1], ["a.csv"])


def test_an_empty_file_is_loaded_or_fails_as_the_feed_says(shelf):
    (shelf.folder / "a.csv").write_bytes(b"")
    (shelf.folder / "b.csv").write_bytes(b"code,name\n")
    assert shelf.sync()["state"] == "succeeded"
    assert shelf.loaded() == ["a.csv", "b.csv"]
    summary = shelf.sync(may_be_empty=False, reload="always", order="name")
    assert summary["error"].startswith("empty_file: a.csv: ")


def test_no_file_at_all_is_a_run_without_records(shelf):
    assert counts(shelf.sync()) == {}


@pytest.mark.parametrize("name", ["new\nline.csv", "back\\slash.csv", "-rf *.csv", "ünï😀.csv", "%2e%2e%2f.csv"])
def test_strange_names_are_only_names(shelf, name):
    shelf.write(name, 1)
    assert counts(shelf.sync()) == {"read": 1, "inserted": 1}
    assert shelf.loaded() == [name]
    assert counts(shelf.sync()) == {}


def test_a_name_that_is_no_utf8_is_written_in_escapes(shelf):
    (shelf.folder / os.fsdecode(b"caf\xe9.csv")).write_text("code,name\n1,a\n")
    assert counts(shelf.sync()) == {"read": 1, "inserted": 1}
    assert shelf.loaded() == [r"caf\xe9.csv"]
    assert counts(shelf.sync()) == {}


def test_a_link_out_of_the_folder_is_rejected_by_name(shelf):
    shelf.write("a.csv", 1)
    secret = shelf.folder.parent / "secret.csv"
    secret.write_text("code,name\n7,secret\n")
    (shelf.folder / "b.csv").symlink_to(secret)
    assert counts(shelf.sync()) == {"read": 2, "inserted": 1, "rejected": 1}
    reject = Reject.objects.get()
    assert (reject.reason, bytes(reject.raw), shelf.codes()) == ("unsafe_name", b"b.csv", [1])


def test_a_file_whose_records_are_bad_says_which(shelf):
    (shelf.folder / "a.csv").write_text("code,name\n1,a\nx,b\n3\n")
    assert counts(shelf.sync()) == {"read": 3, "inserted": 1, "rejected": 2}
    assert sorted((r.reason, bytes(r.raw)) for r in Reject.objects.all()) == [
        ("column_count", b"3"),
        ("not_an_integer", b'{"code":"x","name":"b"}'),
    ]


def test_files_are_moved_once_they_are_loaded(shelf):
    shelf.write("a.csv", 1)
    shelf.write("sub/b.csv", 2)
    os.utime(shelf.folder / "a.csv", (1_700_000_000, 1_700_000_000))
    os.utime(shelf.folder / "sub/b.csv", (1_700_000_000, 1_700_000_000))
    options = {"pattern": "**/*.csv", "move_to": "done"}
    shelf.sync(dry_run=True, **options)
    assert (shelf.folder / "a.csv").exists()
    assert counts(shelf.sync(**options)) == {"read": 2, "inserted": 2}
    left = sorted(path.relative_to(shelf.folder).as_posix() for path in shelf.folder.rglob("*.csv"))
    assert left == ["done/20231114T221320-a.csv", "done/20231114T221320-b.csv"]
    assert counts(shelf.sync(**options)) == {}


def test_a_file_that_could_not_be_moved_is_moved_by_the_next_run(shelf):
    shelf.write("a.csv", 1)
    (shelf.folder / "done").write_text("in the way")
    assert shelf.sync(move_to="done")["state"] == "succeeded"
    assert (shelf.folder / "a.csv").exists()
    (shelf.folder / "done").unlink()
    assert counts(shelf.sync(move_to="done")) == {}
    assert [path.parent.name for path in shelf.folder.rglob("*.csv")] == ["done"]


def test_a_forgotten_file_is_read_again(shelf, capsys):
    shelf.write("a.csv", 1)
    shelf.sync()
    call_command("files", "shelf")
    assert capsys.readouterr().out.startswith("a.csv: 22 bytes, 1 record, loaded ")
    call_command("files", "shelf", forget=["a.csv", "b.csv"])
    assert capsys.readouterr().out == "shelf: forgot 1 of 2 files\n"
    assert counts(shelf.sync()) == {"read": 1, "unchanged": 1}


def test_a_listing_has_a_limit(shelf):
    for number in range(3):
        shelf.write(f"{number}.csv", number)
    assert shelf.sync(limits=FileLimits(files=2))["error"].startswith("too_many_files: more than 2 files")


def test_a_folder_that_is_not_there_is_a_configuration_error(shelf):
    summary = shelf.sync(place=Disk(folder=shelf.folder / "nowhere"))
    assert "is not there, or cannot be read" in summary["error"]


@pytest.mark.parametrize("target", [Replace, Mirror])
def test_a_target_that_deletes_needs_every_file_each_time(shelf, target):
    shelf.write("a.csv", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    chosen = target(shelf.model, key="code")
    shelf.sync(target=chosen, reload="always")
    shelf.write("a.csv", *range(1, 10))
    summary = shelf.sync(target=chosen, reload="always")
    assert (summary["state"], summary["deleted"], shelf.codes()) == ("succeeded", 1, list(range(1, 10)))


@pytest.mark.parametrize(
    "options", [{"order": "age"}, {"reload": "never"}, {"compression": "rar"}, {"move_to": "../x"}]
)
def test_options_that_cannot_be_are_configuration_errors(options):
    with pytest.raises(ConfigurationError):
        Files(place=Disk(folder="."), pattern="*", format=Ndjson(), **options)
