"""How many parts are read from one host at once: over all feeds, also when they are claimed at the same time."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now

from ingestion import attempts, claims, hosts, runs, turns, waking
from ingestion.errors import ConfigurationError, PartTaken
from ingestion.feeds import env_text
from ingestion.models import Part, Run, State, Trigger
from ingestion.pagination import SinglePage
from ingestion.parts import PageRanges
from ingestion.sources import S3, Csv, Disk, Files, Ftp, JsonApi, Sftp, Web
from photos.feeds import PHOTOS

pytestmark = pytest.mark.django_db(transaction=True)


def missing() -> str:
    message = "not set"
    raise ConfigurationError(message)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://user:secret@api.example.com:8443/photos?key=1", "api.example.com:8443"),
        ("https://api.example.com:443/photos", "api.example.com"),
        ("http://api.example.com:443/photos", "api.example.com:443"),
        ("http://[::1]/", "[::1]"),
        ("http://[::1]:8000/", "[::1]:8000"),
        ("http://:8000/", ""),
        ("http://api.example.com:port/", ""),
        (f"http://{'a' * 253}/", "a" * 253),
        (f"http://{'a' * 253}:8000/", ""),
        (lambda: "http://API.example.com", "api.example.com"),
        (missing, ""),
        ("http://[bad", ""),
        ("", ""),
    ],
)
def test_the_host_is_that_of_the_url_with_a_port_of_its_own(url, host):
    assert hosts.host_of(JsonApi(url=url, pagination=SinglePage())) == host


@pytest.mark.parametrize(
    ("place", "host"),
    [
        (Disk(folder="."), ""),
        (Ftp(host="ftp.example.com"), "ftp.example.com"),
        (Ftp(host="::1", port=2121), "[::1]:2121"),
        (Sftp(host="sftp.example.com", user="a", known_hosts=""), "sftp.example.com"),
        (Sftp(host="sftp.example.com", port=2222, user="a", known_hosts=""), "sftp.example.com:2222"),
        (Ftp(host=lambda: "ftp.example.com"), "ftp.example.com"),
        (Ftp(host=env_text("NOT_SET_ANYWHERE")), ""),
        (S3(bucket="b"), "s3.amazonaws.com"),
        (S3(bucket="b", endpoint=lambda: "https://s3.example.com:9000"), "s3.example.com:9000"),
        (Web(urls="https://files.example.com/a"), "files.example.com"),
        (Web(urls=(lambda: "https://files.example.com/a", "https://other.example.com/b")), "files.example.com"),
    ],
)
def test_the_host_of_files_is_that_of_their_place(place, host):
    assert hosts.host_of(Files(place=place, format=Csv())) == host


def test_a_source_without_a_url_has_no_host():
    assert hosts.host_of(object()) == ""


@pytest.fixture
def parts(monkeypatch, settings):
    """Queue a run of six parts, all of them due."""
    settings.PHOTOS_API_URL = "http://api.example.com"
    feed = replace(PHOTOS, parts=PageRanges(pages=1), parts_at_once=6)
    monkeypatch.setattr("photos.feeds.PHOTOS", feed)
    run, _ = runs.request("photos", trigger=Trigger.COMMAND, wake_workers=False)
    first = claims.claim(run.parts.get().pk)
    turns.divide(first, [{"first": n} for n in range(6)], at_once=6)
    attempts.release(first)
    return list(run.parts.order_by("number").values_list("pk", flat=True))


def test_a_part_waits_while_its_host_has_no_room(settings, parts):
    settings.PARTS_PER_HOST = 2
    taken = [claims.claim(part) for part in parts[:2]]
    with pytest.raises(PartTaken, match=r"waits for room at api\.example\.com"):
        claims.claim(parts[2])
    waiting = Part.objects.get(pk=parts[2])
    assert (waiting.state, waiting.attempts) == ("waiting", 0)
    assert waiting.waiting_for == "as much is read from api.example.com already as PARTS_PER_HOST=2 allows"
    assert parts[2] not in waking.due_parts()
    Part.objects.filter(pk=parts[2]).update(next_attempt_at=Now())
    attempts.release(taken[0])
    assert claims.claim(parts[2]).attempts == 1
    with pytest.raises(PartTaken):
        claims.claim(parts[3])


def test_a_part_takes_as_much_room_as_it_has_requests_at_once(settings, monkeypatch, parts):
    source = replace(PHOTOS.source, concurrency=3)
    monkeypatch.setattr("photos.feeds.PHOTOS", replace(PHOTOS, source=source, parts=PageRanges(pages=1)))
    settings.PARTS_PER_HOST = 8
    assert hosts.at_once(source) == 3
    for part in parts[:2]:
        claims.claim(part)
    with pytest.raises(PartTaken, match="waits for room"):
        claims.claim(parts[2])
    settings.PARTS_PER_HOST = 9
    with pytest.raises(PartTaken, match="not due"):
        claims.claim(parts[2])
    assert claims.claim(parts[3]).state == State.RUNNING
    settings.PARTS_PER_HOST = 2
    assert hosts.at_once(source) == 2
    settings.PARTS_PER_HOST = 0
    assert hosts.at_once(source) == 3


def test_parts_of_the_dead_take_no_room(settings, parts):
    settings.PARTS_PER_HOST = 1
    claims.claim(parts[0])
    Part.objects.filter(pk=parts[0]).update(leased_until=Now() - timedelta(seconds=1))
    assert claims.claim(parts[1]).state == State.RUNNING


def test_parts_that_are_claimed_at_the_same_time_do_not_exceed_the_limit(settings, parts):
    settings.PARTS_PER_HOST = 2
    together = threading.Barrier(len(parts))

    def claim(part):
        together.wait(30)
        try:
            return claims.claim(part).state
        except PartTaken:
            return None
        finally:
            connection.close()

    with ThreadPoolExecutor(len(parts)) as pool:
        states = list(pool.map(claim, parts))
    assert states.count("running") == 2
    assert Part.objects.filter(state=State.WAITING).count() == 4


@pytest.mark.parametrize("port", ["", ":8443"])
def test_all_ports_of_a_host_share_its_room(settings, monkeypatch, parts, port):
    settings.PARTS_PER_HOST = 2
    source = JsonApi(url=f"http://api.example.com{port}", pagination=SinglePage())
    monkeypatch.setattr("photos.feeds.OTHERS", replace(PHOTOS, name="others", source=source), raising=False)
    run, _ = runs.request("others", trigger=Trigger.COMMAND, wake_workers=False)
    assert run.host == f"api.example.com{port}"
    for part in parts[:2]:
        claims.claim(part)
    with pytest.raises(PartTaken, match="waits for room"):
        claims.claim(run.parts.get().pk)
    assert Part.objects.get(run=run).waiting_for.startswith("as much is read from api.example.com already")


def test_other_hosts_and_no_limit_have_room(settings, parts):
    settings.PARTS_PER_HOST = 1
    claims.claim(parts[0])
    Run.objects.update(host="elsewhere.example.com")
    with pytest.raises(PartTaken):
        claims.claim(parts[1])
    settings.PARTS_PER_HOST = 0
    assert [claims.claim(part).state for part in parts[2:]] == ["running"] * 4


def test_whoever_runs_a_feed_by_hand_does_not_wait(settings, parts):
    settings.PARTS_PER_HOST = 1
    claims.claim(parts[0])
    assert claims.claim(parts[1], now=True).state == State.RUNNING
