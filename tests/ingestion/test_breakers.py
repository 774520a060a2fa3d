"""A host that keeps failing is left alone by all its feeds, tried by one part at a time, and gone on with."""

import getpass
import json
import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from ingestion import breakers, claims, pipeline, runs
from ingestion.errors import PartTaken, WrongState
from ingestion.http import Limits, Retry
from ingestion.models import Host, Part, Run, State, Trigger
from photos.feeds import PHOTOS
from photos.sample_api import photo
from tests.remote import Raw, Remote, Reply, json_pages
from tests.staff import said, session

pytestmark = pytest.mark.django_db(transaction=True)

GOOD = json_pages([photo(number) for number in range(1, 4)])


@pytest.fixture
def remote():
    with Remote(Reply(status=503)) as remote:
        yield remote


@pytest.fixture(autouse=True)
def _feeds(monkeypatch, settings, remote):
    """Two feeds of the remote, with one try for each request; nobody is woken."""
    settings.PHOTOS_API_URL = remote.url
    settings.INGESTION_WAKE = "builtins.id"
    monkeypatch.setenv("PHOTOS_API_URL", remote.url)
    declare(monkeypatch)


@pytest.fixture
def name(remote):
    """Return the name of the remote, as breakers know it."""
    return remote.url.removeprefix("http://")


def declare(monkeypatch, **limits):
    source = replace(PHOTOS.source, retry=Retry(attempts=1), limits=Limits(**limits))
    feed = replace(PHOTOS, source=source)
    monkeypatch.setattr("photos.feeds.PHOTOS", feed)
    monkeypatch.setattr("photos.feeds.OTHERS", replace(feed, name="others"), raising=False)


def queued(feed: str = "photos") -> Part:
    run, _ = runs.request(feed, trigger=Trigger.COMMAND, wake_workers=False)
    return run.parts.get()


def attempt(part: Part) -> State | None:
    """Claim a part, whose own wait is over, and advance it; None when it may not be claimed."""
    part.refresh_from_db()
    if part.state == State.WAITING and not part.waiting_for.startswith(breakers.WAITS):
        Part.objects.filter(pk=part.pk).update(next_attempt_at=Now())
    try:
        return pipeline.advance(part.pk, slice_seconds=60)
    except PartTaken:
        return None


def fail(count: int, *parts: Part) -> None:
    for turn in range(count):
        assert attempt(parts[turn % len(parts)]) == State.WAITING


def end_pause() -> None:
    """Let the pause be over, for the host and for those who wait for it."""
    Host.objects.update(probe_at=Now())
    Part.objects.filter(state=State.WAITING).update(next_attempt_at=Now())


def pause(host: Host) -> float:
    """Return the seconds from the last failure to the next probe."""
    return round((host.probe_at - host.failed_at).total_seconds())


def test_after_three_failures_all_feeds_of_the_host_wait_without_an_attempt(remote, caplog, name):
    first, second = queued(), queued("others")
    fail(2, first, second)
    assert Host.objects.get().opened_at is None
    fail(1, first)
    host = Host.objects.get()
    assert (host.name, host.failures, host.probes, pause(host)) == (name, 3, 0, 10)
    assert "503" in host.reason
    assert "host fails, its feeds wait" in caplog.text
    asked = len(remote.requests)
    Part.objects.filter(pk=second.pk).update(next_attempt_at=Now())
    assert [attempt(part) for part in (first, second)] == [None, None]
    for part in Part.objects.select_related("run"):
        # The one that opened it has not burnt an attempt either.
        assert (part.state, part.attempts, part.next_attempt_at) == ("waiting", 1, host.probe_at)
        assert part.run.state == "waiting"
        assert part.waiting_for.startswith("its host, which fails: GET http://127.0.0.1")
    assert len(remote.requests) == asked


def test_a_run_that_is_asked_for_meanwhile_waits_from_the_start_and_says_why(remote):
    fail(3, queued())
    late = queued("others")
    assert attempt(late) is None
    late.refresh_from_db()
    run = Run.objects.get(pk=late.run_id)
    assert (run.state, late.state, late.attempts, late.epoch) == ("waiting", "waiting", 0, 0)
    assert run.summary()["waiting_for"] == late.waiting_for
    assert len(remote.requests) == 3


def test_one_part_probes_at_a_time_and_each_failure_makes_the_pause_longer(remote):
    parts = [queued(), queued("others")]
    fail(3, parts[0])
    assert attempt(parts[1]) is None
    for probes, seconds in enumerate((20, 40, 80, 160, 300, 300), start=1):
        end_pause()
        prober, waiting = parts[probes % 2], parts[1 - probes % 2]
        part = claims.claim(prober.pk)
        with pytest.raises(PartTaken, match="waits for its host 127"):
            claims.claim(waiting.pk)
        assert pipeline.advance_claimed(part) == State.WAITING
        host = Host.objects.get()
        assert (host.probes, pause(host), host.probe) == (probes, seconds, None)
        assert set(Part.objects.values_list("next_attempt_at", flat=True)) == {host.probe_at}
    assert [part.attempts for part in Part.objects.order_by("pk")] == [2, 0]
    assert len(remote.requests) == 3 + 6


def test_of_many_that_come_at_once_one_is_let_through():
    part = queued()
    fail(3, part)
    crowd = Part.objects.bulk_create(Part(run=part.run, number=number) for number in range(2, 9))
    end_pause()
    together = threading.Barrier(len(crowd))

    def claim(part):
        together.wait(30)
        try:
            return claims.claim(part.pk).pk
        except PartTaken:
            return None
        finally:
            connection.close()

    with ThreadPoolExecutor(len(crowd)) as pool:
        let_through = [pk for pk in pool.map(claim, crowd) if pk]
    assert let_through == [Host.objects.get().probe_id]
    assert Part.objects.filter(state=State.WAITING).count() == len(crowd)


def test_when_a_probe_succeeds_the_others_go_on_at_once(remote, caplog):
    parts = [queued(), queued("others")]
    fail(3, parts[0])
    assert attempt(parts[1]) is None
    end_pause()
    remote.answer = GOOD
    assert attempt(parts[1]) == State.SUCCEEDED
    host = Host.objects.get()
    assert (host.opened_at, host.failures, host.closed_by, host.closed_at is not None) == (None, 0, "", True)
    assert "host answers, its feeds go on" in caplog.text
    assert attempt(parts[0]) == State.SUCCEEDED
    assert set(Run.objects.values_list("state", "error")) == {("succeeded", "")}


def test_a_probe_whose_process_dies_is_over_with_its_lease():
    parts = [queued(), queued("others")]
    fail(3, parts[0])
    end_pause()
    claims.claim(parts[0].pk)
    assert attempt(parts[1]) is None
    Part.objects.filter(pk=parts[0].pk).update(leased_until=Now() - timedelta(seconds=1))
    Part.objects.filter(pk=parts[1].pk).update(next_attempt_at=Now())
    assert claims.claim(parts[1].pk).state == State.RUNNING
    assert Host.objects.get().probe_id == parts[1].pk


def test_what_was_under_way_when_the_host_was_given_up_burns_no_attempt(remote):
    under_way = claims.claim(queued("others").pk)
    fail(3, queued())
    assert pipeline.advance_claimed(under_way) == State.WAITING
    host = Host.objects.get()
    under_way.refresh_from_db()
    assert (under_way.attempts, under_way.next_attempt_at, host.failures) == (0, host.probe_at, 3)


def test_a_run_outlasts_a_host_that_fails_longer_than_its_attempts_allow(remote):
    part = queued()
    fail(3, part)
    for _ in range(10):
        end_pause()
        assert attempt(part) == State.WAITING
    remote.answer = GOOD
    end_pause()
    assert attempt(part) == State.SUCCEEDED


CUT = Raw([b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[]"])
SILENT = Raw([], end="silence")


@pytest.mark.parametrize(
    ("answer", "in_a_row"),
    [
        *((Reply(status=status), 2) for status in (502, 503, 504, 520, 530)),
        (CUT, 2), (SILENT, 2),
        # The host answers: one part that meets it again and again is no proof.
        (Reply(status=500), 1), (Reply(status=501), 1),
        # The host works, and says what it wants.
        *((Reply(status=status), 0) for status in (408, 425, 429)),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Reply) else "",
)  # fmt: skip
def test_what_counts_against_the_host(monkeypatch, remote, answer, in_a_row):
    declare(monkeypatch, silence=timedelta(seconds=0.2))
    remote.answer = lambda request: answer
    fail(2, queued())
    assert [host.failures for host in Host.objects.all()] == ([in_a_row] if in_a_row else [])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_a_feed_that_is_refused_does_not_count(remote, status):
    remote.answer = lambda request: Reply(status=status)
    assert attempt(queued()) == State.FAILED
    assert not Host.objects.exists()


def test_errors_of_several_parts_count_although_the_host_answers(remote):
    remote.answer = lambda request: Reply(status=500)
    fail(3, queued(), queued("others"))
    assert Host.objects.get().opened_at is not None


def test_a_host_that_refuses_connections_counts(remote):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    source = replace(PHOTOS.source, url=f"http://127.0.0.1:{port}", retry=Retry(attempts=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("photos.feeds.PHOTOS", replace(PHOTOS, source=source))
        fail(3, queued())
    assert "ConnectError" in Host.objects.get(opened_at__isnull=False).reason


def test_another_service_of_the_host_on_a_port_of_its_own_goes_on(monkeypatch, name):
    fail(3, queued())
    with Remote(GOOD) as beside:
        source = replace(PHOTOS.source, url=beside.url)
        monkeypatch.setattr("photos.feeds.OTHERS", replace(PHOTOS, name="others", source=source))
        assert attempt(queued("others")) == State.SUCCEEDED
    assert list(Host.objects.filter(opened_at__isnull=False).values_list("name", flat=True)) == [name]


def test_a_success_of_any_feed_and_ten_minutes_forget_the_failures(remote):
    part = queued()
    fail(2, part)
    Host.objects.update(failed_at=Now() - timedelta(minutes=11))
    fail(1, part)
    assert Host.objects.get().failures == 1
    answer, remote.answer = remote.answer, GOOD
    assert attempt(queued("others")) == State.SUCCEEDED
    assert Host.objects.get().failures == 0
    remote.answer = answer
    fail(1, part)
    assert Host.objects.get().opened_at is None


def test_without_a_number_of_failures_nobody_waits(settings):
    settings.HOST_FAILURES = 0
    part = queued()
    fail(4, part)
    assert attempt(part) == State.FAILED
    assert "gave up after 5 attempts" in Run.objects.get().error


def test_a_breaker_that_was_open_already_holds_nobody_up_without_a_number_of_failures(settings):
    waiting, late = queued(), queued("others")
    fail(3, waiting)
    settings.HOST_FAILURES = 0
    Part.objects.filter(pk=waiting.pk).update(next_attempt_at=Now())
    assert [claims.claim(part.pk).state for part in (late, waiting)] == ["running", "running"]


def test_whoever_runs_a_feed_by_hand_does_not_wait_and_closes_the_breaker(remote):
    for _ in range(3):
        assert pipeline.run_here("photos").summary["state"] == "failed"
    assert Host.objects.get().opened_at is not None
    remote.answer = GOOD
    assert pipeline.run_here("photos", dry_run=True).summary["state"] == "succeeded"
    assert Host.objects.get().opened_at is not None
    assert pipeline.run_here("photos").summary["state"] == "succeeded"
    assert Host.objects.get().opened_at is None


def test_nobody_asks_earlier_than_the_host_has_asked_for(remote, name):
    remote.answer = lambda request: Reply(status=503, headers={"Retry-After": "100"})
    part = queued()
    fail(3, part)
    breakers.close(name, by="ada")
    part.refresh_from_db()
    assert (part.state, part.attempts) == ("waiting", 2)
    assert part.next_attempt_at - timezone.now() > timedelta(seconds=90)


def test_closed_by_hand_its_feeds_are_due_at_once(caplog, name):
    part = queued()
    fail(3, part)
    breakers.close(name, by="ada")
    host = Host.objects.get()
    assert (host.opened_at, host.failures, host.closed_by) == (None, 0, "ada")
    assert "ada" in caplog.text
    assert claims.claim(part.pk).attempts == 3
    with pytest.raises(WrongState, match=f"the breaker of {name} is not open"):
        breakers.close(name, by="ada")
    with pytest.raises(WrongState, match="is not open"):
        breakers.close("nowhere.example.com", by="ada")


def test_a_healthy_host_costs_two_questions_a_slice(remote):
    remote.answer = json_pages([photo(number) for number in range(1, 5001)])
    part = queued()
    with CaptureQueriesContext(connection) as captured:
        assert attempt(part) == State.SUCCEEDED
    asked = [query["sql"] for query in captured.captured_queries if "ingestion_host" in query["sql"]]
    assert len(asked) == 2
    assert not Host.objects.exists()


def test_the_command_lists_hosts_and_closes_their_breakers(capsys, name):
    part = queued()
    fail(3, part)
    call_command("hosts")
    line = capsys.readouterr().out
    assert re.match(rf"{name}: open since \d{{4}}-\S+ \S+, next probe \d{{4}}-\S+ \S+, 1 parts wait: GET http", line)
    call_command("runs")
    assert re.search(r"waiting: 0 read: its host, which fails: GET http://127\S+ answered 503", capsys.readouterr().out)
    call_command("hosts", "close", name)
    assert capsys.readouterr().out.startswith(f"{name}: closed, 0 failures in a row; open until 20")
    call_command("hosts", "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["host"], found["breaker"], found["waiting"], found["probe_at"]) == (name, "closed", 0, None)
    assert found["closed_by"] == getpass.getuser()
    for arguments, message in [
        (("close", name), f"the breaker of {name} is not open"),
        (("close",), "hosts close takes a name"),
        (("list", name), "hosts list takes no name"),
    ]:
        with pytest.raises(CommandError, match=message):
            call_command("hosts", *arguments)


HOSTS = "/admin/ingestion/host/"


def test_the_admin_lists_hosts_and_closes_breakers_for_those_who_may(name):
    part = queued()
    fail(3, part)
    host = Host.objects.get()
    client = session("ingestion.view_host", "ingestion.close_host", name="eve")
    listed = client.get(HOSTS)
    assert all(text in listed.text for text in ('<span class="state state-failed">open</span>', "503", name))
    Host.objects.update(probe_at=Now())
    Part.objects.update(next_attempt_at=Now())
    claims.claim(part.pk)
    page = client.get(f"{HOSTS}{host.pk}/change/")
    assert '<span class="state state-running">half-open</span>' in page.text
    close = {"action": "close_breakers", "index": "0", "select_across": "0", "_selected_action": [host.pk]}
    session("ingestion.view_host", name="looker").post(HOSTS, close)
    assert Host.objects.get().opened_at is not None
    client.post(HOSTS, close)
    assert Host.objects.get().closed_by == "eve"
    listed = client.get(HOSTS)
    assert said(listed) == [f"The breaker of {name} is closed; its feeds go on."]
    assert "by eve" in listed.text
    client.post(HOSTS, close)
    assert said(client.get(HOSTS)) == [f"Not closed: the breaker of {name} is not open."]
