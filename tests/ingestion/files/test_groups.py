"""Groups of files as parts: each file is read by one of them, and a run ends when all are."""

import os
import time
from datetime import timedelta

import pytest

from ingestion import pipeline
from ingestion.errors import RetryLater, RunFailed
from ingestion.feeds import Mirror
from ingestion.models import Part, Reject, State
from ingestion.pagination import SinglePage
from ingestion.parts import FileGroups, ParentGroups
from ingestion.sources import Csv, JsonApi
from tests.ingestion.catalog import counts
from tests.ingestion.slices import begin, finish, work_off


def groups(shelf, *, files=1, **options):
    """Declare the feed and begin a run of it, of one part so far."""
    feed = {"parts": FileGroups(files=files), "parts_at_once": 10, "chunk_rows": 1} | options.pop("feed", {})
    shelf.declare(feed=feed, **options)
    return begin("shelf")


def shares(run):
    return [part.share for part in run.parts.order_by("number")]


def aged(shelf, *names):
    """Write files of three products each, the first of them the oldest."""
    for number, name in enumerate(names):
        shelf.write(name, *range(number * 3, number * 3 + 3))
        then = time.time() - 1000 + number
        os.utime(shelf.folder / name, (then, then))


@pytest.mark.parametrize(("files", "expected"), [(1, ["b", "a", "c"]), (2, ["ba", "c"]), (3, ["bac"]), (9, ["bac"])])
def test_files_are_divided_in_their_order(shelf, files, expected):
    aged(shelf, "b.csv", "a.csv", "c.csv")
    run = work_off(groups(shelf, files=files))
    assert ["".join(name[0] for name in share["files"]) for share in shares(run)] == expected
    assert (run.state, run.read, run.inserted) == ("succeeded", 9, 9)
    assert shelf.loaded() == ["a.csv", "b.csv", "c.csv"]
    assert counts(shelf.sync(feed={"parts": FileGroups()})) == {}


def test_only_what_is_new_or_changed_is_divided(shelf):
    aged(shelf, "a.csv", "b.csv")
    shelf.sync()
    shelf.write("b.csv", 3, 4, 50)
    shelf.write("c.csv", 6)
    run = work_off(groups(shelf))
    assert shares(run) == [{"files": ["b.csv"]}, {"files": ["c.csv"]}]
    assert counts(run.summary()) == {"read": 4, "inserted": 2, "unchanged": 2}


def test_parts_go_on_inside_their_files_and_between_them(shelf):
    aged(shelf, "a.csv", "b.csv", "c.csv", "d.csv")
    run = work_off(groups(shelf, files=2, format=Csv(page_bytes=12)))
    assert (run.state, run.read, run.inserted) == ("succeeded", 12, 12)
    assert run.pages > 8
    assert run.parts.count() == 2


def test_a_file_that_was_added_meanwhile_is_for_the_next_run(shelf):
    aged(shelf, "a.csv", "b.csv")
    run = groups(shelf)
    pipeline.advance(run.parts.get().pk, slice_seconds=0)
    shelf.write("c.csv", 9)
    assert work_off(run).read == 6
    assert counts(work_off(groups(shelf)).summary()) == {"read": 1, "inserted": 1}


def test_a_file_that_was_changed_meanwhile_is_read_as_it_is_then(shelf):
    aged(shelf, "a.csv", "b.csv")
    run = groups(shelf)
    pipeline.advance(run.parts.get().pk, slice_seconds=0)
    shelf.write("b.csv", 3, 4, 5, 6, 7)
    assert work_off(run).read == 8
    assert work_off(groups(shelf)).read == 0


def test_a_file_that_vanished_before_its_turn_is_not_taken_for_one_without_records(shelf):
    model = shelf.model
    aged(shelf, "a.csv", "b.csv", "c.csv")
    options = {"target": Mirror(model, key="code", allow_delete_share=1), "reload": "always"}
    assert work_off(groups(shelf, **options)).state == "succeeded"
    run = groups(shelf, **options)
    pipeline.advance(run.parts.get().pk, slice_seconds=0)
    (shelf.folder / "b.csv").unlink()
    pipeline.advance(run.parts.get(number=2).pk, slice_seconds=60)
    waiting = run.parts.get(number=2)
    assert (waiting.state, waiting.waiting_for) == (State.WAITING, "b.csv was removed before it was read")
    # It comes back, as files do that are replaced.
    shelf.write("b.csv", 3, 4, 5)
    Part.objects.filter(state=State.WAITING).update(next_attempt_at=waiting.run.requested_at)
    run = work_off(run)
    assert (run.state, run.read, run.deleted, shelf.codes()) == ("succeeded", 9, 0, [*range(9)])


def test_a_run_in_the_foreground_fails_for_a_file_that_vanished_and_loads_the_others(shelf, monkeypatch):
    aged(shelf, "a.csv", "b.csv", "c.csv")
    read = Csv.blocks

    def blocks(self, *arguments):
        (shelf.folder / "b.csv").unlink(missing_ok=True)
        yield from read(self, *arguments)

    monkeypatch.setattr(Csv, "blocks", blocks)
    summary = shelf.sync(feed={"parts": FileGroups()})
    assert (summary["state"], summary["error"]) == ("failed", "b.csv was removed before it was read")
    assert shelf.codes() == [0, 1, 2, 6, 7, 8]


def test_what_vanishes_once_it_was_read_is_missed_by_nobody(shelf):
    aged(shelf, "a.csv", "b.csv")
    run = groups(shelf, files=2, format=Csv(page_bytes=12))
    part = run.parts.get().pk
    while not shelf.loaded():
        pipeline.advance(part, slice_seconds=0)
    (shelf.folder / "a.csv").unlink()
    assert (work_off(run).state, run.read) == ("succeeded", 6)


def test_a_file_that_vanishes_while_it_is_read_says_so(shelf):
    aged(shelf, "a.csv", "b.csv")
    source = shelf.declare(format=Csv(page_bytes=12)).named(["a.csv", "b.csv"])
    cursor = next(iter(source.pages(None))).following
    (shelf.folder / "a.csv").unlink()
    with pytest.raises(RetryLater, match=r"a\.csv was removed while it was read"):
        next(source.pages(cursor))


def test_files_that_cannot_be_read_are_rejected_once(shelf):
    aged(shelf, "a.csv", "b.csv")
    (shelf.folder.parent / "secret.csv").write_text("code,name\n7,secret\n")
    (shelf.folder / "c.csv").symlink_to(shelf.folder.parent / "secret.csv")
    run = work_off(groups(shelf))
    assert shares(run) == [{"files": ["a.csv"], "unsafe": True}, {"files": ["b.csv"]}]
    assert [reject.reason for reject in Reject.objects.filter(run=run)] == ["unsafe_name"]
    run = work_off(groups(shelf))
    assert (shares(run), run.rejected) == ([{"files": [], "unsafe": True}], 1)


def test_no_file_at_all_is_a_run_without_records(shelf):
    run = work_off(groups(shelf))
    assert (run.state, run.read, run.parts.count()) == ("succeeded", 0, 1)


def test_a_file_that_was_changed_just_now_waits_for_the_next_run(shelf):
    aged(shelf, "a.csv", "b.csv")
    run = groups(shelf, settled_for=timedelta(minutes=5))
    pipeline.advance(run.parts.get().pk, slice_seconds=0)
    shelf.write("b.csv", 3, 4, 5, 6)
    assert (work_off(run).read, shelf.loaded()) == (3, ["a.csv"])


def test_files_are_moved_when_the_whole_run_has_succeeded(shelf):
    aged(shelf, "a.csv", "b.csv", "c.csv")
    run = groups(shelf, move_to="done")
    finish(run.parts.get().pk)
    assert (shelf.loaded(), (shelf.folder / "a.csv").exists()) == (["a.csv"], True)
    work_off(run)
    assert len(list((shelf.folder / "done").iterdir())) == 3


def test_a_share_of_another_way_to_cut_is_refused(shelf):
    source = shelf.declare()
    with pytest.raises(RunFailed, match="share: the run was divided before the feed had FileGroups"):
        FileGroups().bind(source, {"first": 1})
    with pytest.raises(RunFailed, match="share: the run was divided before the feed had FileGroups"):
        FileGroups().bind(object(), {"files": ["a.csv"]})


@pytest.mark.parametrize(
    ("parts", "problem"),
    [(FileGroups(), None), (FileGroups(files=0), "from 1 on"), (ParentGroups(), "has no parents")],
)
def test_what_cannot_be_divided_says_why(shelf, parts, problem):
    found = parts.problem(shelf.declare())
    assert found is None if problem is None else problem in found
    assert "no files" in FileGroups().problem(JsonApi(url="", pagination=SinglePage()))
