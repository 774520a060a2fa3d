"""The commands of the contract: what they print, and their exit status."""

import json
from dataclasses import replace

import pytest
from django.core.management import CommandError, call_command

from ingestion import claims, runs
from ingestion.models import Run, Trigger
from photos.feeds import PHOTOS
from photos.models import Photo
from photos.sample_api import photo
from tests.remote import Remote, Reply, json_pages

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("tried_often")]

SUMMARY = (
    "feed", "run", "state", "pages", "read", "inserted", "updated", "unchanged", "deleted", "duplicates", "rejected",
    "pages_skipped", "skipped", "coercions", "drift", "warnings", "seconds", "first_commit_at", "error",
)  # fmt: skip


@pytest.fixture
def run(capsys):
    """Run a command; returns (exit status, lines of stdout)."""

    def run(*arguments):
        capsys.readouterr()
        try:
            call_command(*arguments)
        except SystemExit as end:
            status = end.code
        else:
            status = 0
        return status, capsys.readouterr().out.splitlines()

    return run


@pytest.fixture
def remote(settings):
    with Remote(json_pages([photo(n) for n in range(1, 21)])) as remote:
        settings.PHOTOS_API_URL = remote.url
        yield remote


@pytest.mark.usefixtures("remote")
def test_ingest_prints_the_summary_as_its_last_line_and_ends_with_0(run):
    status, lines = run("ingest", "photos", "--json")
    summary = json.loads(lines[-1])
    assert status == 0
    assert set(SUMMARY) <= set(summary)
    assert (summary["state"], summary["read"], summary["inserted"], summary["error"]) == ("succeeded", 20, 20, None)


def test_ingest_of_a_failed_run_prints_its_error_and_ends_with_1(run, remote):
    remote.answer = lambda request: Reply(404)
    status, lines = run("ingest", "photos", "--json")
    summary = json.loads(lines[-1])
    assert (status, summary["state"]) == (1, "failed")
    assert "404 Not Found" in summary["error"]


@pytest.mark.usefixtures("remote")
def test_ingest_for_people_is_one_sentence(run):
    status, [line] = run("ingest", "photos")
    assert status == 0
    assert line.startswith("photos: run ")
    assert line.endswith("20 read, 20 inserted")


@pytest.mark.usefixtures("remote")
def test_ingest_dry_run_shows_new_and_changed_rows_and_keeps_nothing(run):
    run("ingest", "photos", "--limit", "2")
    Photo.objects.filter(remote_id=2).update(title="old")
    status, lines = run("ingest", "photos", "--dry-run", "--limit", "3", "--json")
    assert status == 0
    assert lines[0].startswith('~ remote_id=2: {"title": "old"} -> {"title": "')
    assert lines[1].startswith("+ remote_id=3: {")
    assert json.loads(lines[2])["dry_run"] is True
    assert Photo.objects.get(remote_id=2).title == "old"
    assert Photo.objects.count() == 2


@pytest.mark.usefixtures("remote")
def test_ingest_tells_how_many_pages_it_skipped_and_full_skips_none(run, monkeypatch):
    monkeypatch.setattr("photos.feeds.PHOTOS", replace(PHOTOS, skip_unchanged_pages=True))
    run("ingest", "photos")
    for options, told in (((), "20 read, 20 unchanged, 1 of 1 pages skipped"), (("--full",), "20 read, 20 unchanged")):
        status, [line] = run("ingest", "photos", *options)
        assert status == 0
        assert line.endswith(told)


def test_ingest_of_an_unknown_feed_names_the_known_ones():
    with pytest.raises(CommandError, match=r"no feed is named 'nothing'; known feeds: .*photos"):
        call_command("ingest", "nothing")


def test_ingest_of_a_feed_that_runs_elsewhere_says_since_when():
    claims.request_and_claim("photos", trigger=Trigger.COMMAND)
    with pytest.raises(CommandError, match="photos is already running since"):
        call_command("ingest", "photos")


@pytest.mark.parametrize("command", [("runs",), ("rejects", "photos"), ("files", "photos")])
@pytest.mark.parametrize("limit", ["0", "-1", "x"])
def test_a_list_of_less_than_one_is_refused(command, limit):
    with pytest.raises(CommandError, match="whole number from 1"):
        call_command(*command, "--limit", limit)


@pytest.mark.parametrize("limit", ["0", "-1"])
def test_ingest_refuses_a_limit_that_reads_nothing(limit):
    with pytest.raises(CommandError, match="at least 1"):
        call_command("ingest", "photos", "--limit", limit)


def test_trigger_queues_a_run_and_does_not_wait(run, settings):
    settings.INGESTION_WAKE = "tests.ingestion.test_runs.record_wake"
    status, lines = run("trigger", "photos", "--json")
    assert (status, json.loads(lines[-1])["state"]) == (0, "queued")
    assert run("trigger", "photos", "--json")[0] == 0
    assert Run.objects.get().full is False


def test_trigger_full_asks_for_every_page(run, settings):
    settings.INGESTION_WAKE = "tests.ingestion.test_runs.record_wake"
    run("trigger", "photos", "--full")
    assert Run.objects.get().full is True


def test_a_second_trigger_says_since_when_the_feed_is_running(settings, capsys):
    settings.INGESTION_WAKE = "tests.ingestion.test_runs.record_wake"
    run, _ = runs.request("photos", trigger=Trigger.COMMAND)
    call_command("trigger", "photos")
    since = f"{run.requested_at:%Y-%m-%d %H:%M:%S} UTC"
    assert f"photos is already running since {since}: run {run.pk}" in capsys.readouterr().err


def test_trigger_of_an_unknown_feed_is_an_error():
    with pytest.raises(CommandError, match="no feed is named"):
        call_command("trigger", "nothing")


@pytest.mark.usefixtures("remote")
def test_runs_lists_the_newest_first(run):
    for limit in ("1", "2"):
        run("ingest", "photos", "--limit", limit)
    status, lines = run("runs", "photos", "--json")
    assert status == 0
    assert [json.loads(line)["read"] for line in lines] == [2, 1]
    assert len(run("runs", "--limit", "1")[1]) == 1


def test_rejects_are_listed_and_counted_by_reason(run, remote):
    records = [photo(n) for n in range(1, 21)]
    records[2]["title"] = "x" * 300
    records[5]["title"] = "a\x00"
    records[6]["title"] = "b\x00"
    remote.answer = json_pages(records)
    run("ingest", "photos")
    _, lines = run("rejects", "photos")
    assert lines[-2:] == ["       2  nul_character  title", "       1  too_long  title"]
    _, lines = run("rejects", "photos", "--json", "--limit", "1")
    [shown] = map(json.loads, lines)
    assert (shown["reason"], shown["field"], shown["key"], shown["page"], shown["position"]) == (
        "nul_character", "title", "7", 1, 6,
    )  # fmt: skip
    assert json.loads(shown["raw"]) == records[6]


def test_feeds_tells_state_last_run_and_next_run(run, remote):
    _, [line] = run("feeds")
    assert "never ran" in line
    run("ingest", "photos")
    _, [line] = run("feeds")
    assert "succeeded (run " in line
    _, [line] = run("feeds", "--json")
    shown = json.loads(line)
    assert (shown["feed"], shown["last_run"]["state"]) == ("photos", "succeeded")
    assert shown["next_run_at"] is not None


def test_cancel_prints_the_run_and_ends_with_0(run, settings):
    settings.INGESTION_WAKE = "tests.ingestion.test_runs.record_wake"
    queued = json.loads(run("trigger", "photos", "--json")[1][-1])
    status, lines = run("cancel", str(queued["run"]), "--json")
    summary = json.loads(lines[-1])
    assert (status, summary["state"]) == (0, "cancelled")
    assert summary["error"].startswith("cancelled by ")
    assert run("cancel", str(queued["run"]))[0] == 0


@pytest.mark.usefixtures("remote")
def test_cancel_of_a_run_that_has_ended_is_an_error(run):
    summary = json.loads(run("ingest", "photos", "--json")[1][-1])
    with pytest.raises(CommandError, match="has ended already: succeeded"):
        call_command("cancel", str(summary["run"]))


def test_resume_queues_the_run_and_does_not_wait(run, settings):
    settings.INGESTION_WAKE = "tests.ingestion.test_runs.record_wake"
    number = json.loads(run("trigger", "photos", "--json")[1][-1])["run"]
    run("cancel", str(number))
    status, lines = run("resume", str(number), "--json")
    assert (status, json.loads(lines[-1])["state"]) == (0, "queued")
    with pytest.raises(CommandError, match=f"run {number} of photos cannot be resumed: it is queued"):
        call_command("resume", str(number))
