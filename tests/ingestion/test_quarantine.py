"""The quarantine after a record got there: superseded, replayed, exported, forgotten."""

import csv
import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError
from django.db.models.functions import Now

from ingestion import pipeline, quarantine, runs
from ingestion.models import Part, Reject, Run, Trigger
from photos.models import Photo
from photos.sample_api import photo
from tests.remote import Remote, json_pages

pytestmark = pytest.mark.django_db(transaction=True)


def sync(settings, records):
    with Remote(json_pages(records)) as remote:
        settings.PHOTOS_API_URL = remote.url
        summary = pipeline.run_here("photos").summary
    assert summary["state"] == "succeeded", summary
    return summary


@pytest.fixture
def rejected(settings):
    """Load 30 photos, three of them with titles that are too long and one without a key."""
    records = [photo(n) for n in range(1, 31)]
    for n in (5, 10, 15):
        records[n - 1]["title"] = f"{n} " + "x" * 300
    del records[19]["id"]
    sync(settings, records)
    assert Reject.objects.filter(resolved_at=None).count() == 4
    return records


@pytest.fixture
def wide_titles(monkeypatch):
    """Deploy a feed that cuts titles instead of rejecting them."""
    from dataclasses import replace

    from ingestion.cleaning import text
    from photos import feeds

    columns = {**feeds.PHOTOS.columns, "title": text("title", truncate=True)}
    monkeypatch.setattr(feeds, "PHOTOS", replace(feeds.PHOTOS, columns=columns))


def open_rejects():
    return list(Reject.objects.filter(resolved_at=None).order_by("pk").values_list("key", "reason"))


def test_a_newer_good_version_of_the_key_resolves_its_rejects(settings, rejected):
    sync(settings, [photo(5), photo(6), *[photo(n) for n in range(100, 110)]])
    assert open_rejects() == [("10", "too_long"), ("15", "too_long"), ("", "missing_key")]
    resolved = Reject.objects.get(key="5")
    assert (resolved.resolution, resolved.resolved_at is not None) == ("superseded", True)


def test_a_newer_bad_version_leaves_the_rejects_open(settings, rejected):
    sync(settings, [rejected[4], *[photo(n) for n in range(100, 110)]])
    assert [key for key, _ in open_rejects()].count("5") == 2


def test_replay_with_todays_feed_loads_what_it_now_accepts(rejected, wide_titles):
    [run] = quarantine.replay("photos", Reject.objects.all(), by="ada")
    summary = run.summary()
    assert (summary["state"], summary["read"], summary["inserted"], summary["rejected"]) == ("succeeded", 4, 3, 1)
    assert (run.trigger, run.requested_by) == ("replay", "ada")
    assert Photo.objects.get(remote_id=10).title == ("10 " + "x" * 300)[:255]
    assert Reject.objects.filter(resolution="replayed").count() == 4
    assert [(r.key, r.reason, r.run_id) for r in Reject.objects.filter(resolved_at=None)] == [
        ("", "missing_key", run.pk)
    ]


def test_replay_of_a_selection(rejected, wide_titles):
    [run] = quarantine.replay("photos", Reject.objects.filter(key="15"))
    assert run.inserted == 1
    assert len(open_rejects()) == 3


def test_replay_never_overwrites_a_newer_version(settings, rejected, wide_titles):
    sync(settings, [photo(10), *[photo(n) for n in range(100, 110)]])
    list(quarantine.replay("photos", Reject.objects.all()))
    assert Photo.objects.get(remote_id=10).title == photo(10)["title"]


def test_replay_of_nothing_makes_no_run(rejected, wide_titles):
    assert list(quarantine.replay("photos", Reject.objects.filter(reason="other"))) == []
    assert Run.objects.count() == 1


def test_replay_leaves_records_that_were_cut_to_fit(settings, wide_titles):
    records = [photo(n) for n in range(1, 21)]
    records[3]["title"] = "x" * 100_000
    wide = Reject.objects.filter(key="4")
    from photos import feeds

    assert feeds.PHOTOS.columns["title"].truncate
    del records[5]["id"]
    records[5]["note"] = "y" * 100_000
    sync(settings, records)
    assert (wide.count(), list(quarantine.replay("photos", Reject.objects.all()))) == (0, [])
    assert open_rejects() == [("", "missing_key")]


def test_replay_waits_for_no_active_run(rejected, wide_titles):
    runs.request("photos", trigger=Trigger.COMMAND, wake_workers=False)
    with pytest.raises(CommandError, match="replay when it has ended"):
        call_command("replay", "photos")
    assert Part.objects.filter(run__trigger="replay").count() == 0


def test_replay_command_says_what_it_did_and_ends_with_1_while_something_is_refused(rejected, wide_titles, capsys):
    with pytest.raises(SystemExit) as ended:
        call_command("replay", "photos", "--json")
    assert ended.value.code == 1
    assert json.loads(capsys.readouterr().out)["inserted"] == 3
    call_command("replay", "photos", "--reason", "too_long")
    assert capsys.readouterr().out == "no open reject to replay\n"


def test_export_as_ndjson_gives_every_field_and_the_bytes(rejected, capsys):
    call_command("rejects", "photos", "--export", "ndjson")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["key"] for line in lines] == [None, "15", "10", "5"]
    assert json.loads(lines[1]["raw"]) == rejected[14]
    assert tuple(lines[0]) == quarantine.COLUMNS


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_export_as_csv_disarms_formulas(settings, tmp_path, start):
    records = [photo(n) for n in range(1, 21)]
    records[2] = {"id": f"{start}cmd|' /C calc'!A0", "title": "x"}
    sync(settings, records)
    output = tmp_path / "rejects.csv"
    call_command("rejects", "photos", "--export", "csv", "--output", str(output))
    with output.open(encoding="utf-8", newline="") as file:
        [row] = csv.DictReader(file)
    assert row["key"] == f"'{start}cmd|' /C calc'!A0"
    assert json.loads(row["raw"]) == records[2]


def test_forget_deletes_old_rejects_resolved_ones_sooner(rejected):
    Reject.objects.filter(key="5").update(resolved_at=Now() - timedelta(days=40), resolution="replayed")
    Reject.objects.filter(key="10").update(created_at=Now() - timedelta(days=400))
    assert quarantine.forget(resolved_for=timedelta(days=30), kept_for=timedelta(days=365)) == 2
    assert open_rejects() == [("15", "too_long"), ("", "missing_key")]


def test_the_database_refuses_a_resolution_without_a_time(rejected):
    with pytest.raises(IntegrityError, match="resolution_has_a_time"):
        Reject.objects.update(resolution="replayed")
