"""Exports: created once whoever dies, waited for without a worker, read from wherever they are, and failed clearly."""

import json
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db.models.functions import Now

from ingestion import claims, interventions, pipeline, waking
from ingestion.errors import ConfigurationError, NotReady, RunFailed
from ingestion.feeds import Append, Feed, Upsert
from ingestion.http import Retry, Transport
from ingestion.models import Part, Run, State
from ingestion.sources import Csv, Export, Facts, Ndjson
from tests.ingestion.catalog import COLUMNS, counts, rows, table_of
from tests.ingestion.slices import begin
from tests.remote import Remote, Reply

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("tried_twice")]
SECRET = "s3cr3t-t0ken-of-the-exports"


@pytest.fixture
def model():
    with table_of() as model:
        yield model


def lines(*codes):
    return ("code,name\n" + "".join(f"{code},product {code}\n" for code in codes)).encode()


class Office:
    """Makes exports, each ready when it was asked for so often; the files may be elsewhere."""

    def __init__(self, *files, polls=2):
        self.files, self.polls, self.made, self.asked = files, polls, [], 0
        self.state, self.storage, self.signature, self.why = "", "", 0, "no disk"

    def __call__(self, request):
        if request.method == "POST":
            self.made.append(request)
            return Reply(status=202, body=json.dumps({"id": f"e/{len(self.made)}"}).encode())
        if request.path.startswith("/files/"):
            return self.file(request)
        assert request.path == f"/exports/e%2F{len(self.made)}", request.path
        self.asked += 1
        state = self.state or ("done" if self.asked >= self.polls else "running")
        self.signature += 1
        links = [f"{self.storage}/files/{n}?signature={self.signature}" for n in range(len(self.files))]
        told = {"status": state, "urls": links if len(links) != 1 else links[0], "why": self.why}
        return Reply(body=json.dumps(told if state == "done" else told | {"urls": None}).encode())

    def file(self, request):
        if int(request.query["signature"]) < self.signature:
            return Reply(403)
        body = self.files[int(request.path.split("/")[2])]
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if not start:
            return Reply(body=body)
        span = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return Reply(status=206, body=body[start:], headers={"Content-Range": span})


def export(remote, **options):
    settings = {
        "url": f"{remote.url}/exports",
        "status": f"{remote.url}/exports/{{export}}",
        "ready": frozenset({"done"}),
        "failed": frozenset({"broken"}),
        "expired": frozenset({"gone"}),
        "link": ("urls",),
        "reason": ("why",),
        "body": {"what": "everything"},
        "headers": {"Authorization": f"Bearer {SECRET}"},
        "format": Csv(page_bytes=30),
        "interval": timedelta(milliseconds=1),
        "retry": Retry(attempts=2, wait_initial=timedelta(milliseconds=1)),
    }
    return Export(**settings | options)


@pytest.fixture
def declare(monkeypatch, model):
    def declare(remote, target=None, **options):
        # Nothing absorbs a record that is read twice.
        feed = Feed(
            name="office",
            source=export(remote, **options),
            columns=COLUMNS,
            target=target or Append(model),
            chunk_rows=1,
        )
        monkeypatch.setattr("photos.feeds.OFFICE", feed, raising=False)
        return feed.source

    return declare


def begin_part():
    return begin("office").parts.get().pk


def codes_of(pages):
    return [json.loads(bytes(record))["code"] for page in pages for record in page.records]


def test_an_export_is_created_awaited_and_read(declare, model):
    office = Office(lines(*range(12)), polls=3)
    with Remote(office) as remote:
        declare(remote, params={"year": "2026"})
        summary = pipeline.run_here("office").summary
    assert (summary["state"], counts(summary)) == ("succeeded", {"read": 12, "inserted": 12}), summary["error"]
    (made,) = office.made
    assert (made.query, json.loads(made.body)) == ({"year": "2026"}, {"what": "everything"})
    assert made.headers["content-type"] == "application/json"
    # The steps before the file are no pages.
    assert summary["pages"] == Part.objects.get().run.pages > 3
    assert office.asked == 3


def test_several_files_are_read_in_their_order(declare, model):
    with Remote(Office(lines(1, 2), lines(3), lines(4, 5))) as remote:
        declare(remote)
        assert pipeline.run_here("office").summary["read"] == 5
        assert codes_of(export(remote).pages(None)) == ["1", "2", "3", "4", "5"]


def test_a_file_at_a_known_place_needs_no_link(declare, model):
    office = Office(b'{"code": 1, "name": "a"}\n')

    def answer(request):
        return Reply(body=office.files[0]) if request.path == "/download/e%2F1" else office(request)

    with Remote(answer) as remote:
        declare(remote, link=(), download=f"{remote.url}/download/{{export}}", format=Ndjson())
        assert pipeline.run_here("office").summary["read"] == 1


def test_a_file_elsewhere_is_fetched_without_credentials_where_the_feed_allows_it(declare, model):
    office = Office(lines(1, 2, 3))
    with Remote(office) as remote, Remote(office.file) as storage:
        office.storage = storage.url
        declare(remote)
        summary = pipeline.run_here("office").summary
        assert (summary["state"], summary["error"][:14], storage.requests) == ("failed", "foreign_origin", [])
        declare(remote, transport=Transport(other_origins=(storage.url,)))
        assert pipeline.run_here("office").summary["read"] == 3
    assert [request.headers.get("authorization") for request in storage.requests] == [None]
    assert {request.headers["authorization"] for request in remote.requests} == {f"Bearer {SECRET}"}


def test_whoever_takes_over_at_any_chunk_creates_no_other_export(declare, model):
    office = Office(lines(*range(12)), polls=1)
    with Remote(office) as remote:
        declare(remote)
        part = begin_part()
        cursors = []
        while pipeline.advance(part, slice_seconds=0) == State.QUEUED:
            cursors.append(json.dumps(Part.objects.get().cursor))
    assert json.loads(cursors[0])["export"] == "e/1"
    assert len(cursors) > 4
    assert (len(office.made), rows(model, "code")) == (1, [*range(12)])
    # Each slice has got a link of its own, and none is kept.
    assert office.signature >= len(cursors)
    assert not [cursor for cursor in cursors if "signature" in cursor or SECRET in cursor]


def test_a_worker_that_dies_while_it_waits_is_replaced_and_waits_for_the_same_export(declare, model):
    office = Office(lines(1, 2), polls=1)
    office.state = "running"
    with Remote(office) as remote:
        declare(remote, interval=timedelta(seconds=30))
        part = begin_part()
        assert pipeline.advance(part, slice_seconds=60) == State.WAITING
        Part.objects.update(next_attempt_at=Now())
        taken = claims.claim(part)  # and never comes back
        Part.objects.update(leased_until=Now() - timedelta(seconds=1))
        office.state = ""
        assert pipeline.advance(part, slice_seconds=60) == State.SUCCEEDED
    assert (len(office.made), taken.epoch < Part.objects.get().epoch) == (1, True)
    assert rows(model, "code") == [1, 2]


def test_a_long_wait_frees_the_worker_and_is_no_attempt_that_failed(declare, model):
    office = Office(lines(1), polls=9)
    with Remote(office) as remote:
        declare(remote, interval=timedelta(seconds=40), interval_max=timedelta(seconds=100))
        part = begin_part()
        for asked in range(1, 9):
            assert pipeline.advance(part, slice_seconds=60) == State.WAITING
            waiting = Part.objects.get()
            assert waiting.waiting_for.startswith("export e/1 is 'running' after")
            seconds = (waiting.next_attempt_at - waiting.history.first().taken_at).total_seconds()
            assert seconds == pytest.approx({1: 40, 2: 80}.get(asked, 100), abs=20)
            assert (office.asked, waiting.cursor["polls"], waiting.owner) == (asked, asked, "")
            assert waking.due_parts() == []
            Part.objects.update(next_attempt_at=Now())
        # More often than the feed's attempts: each question is progress.
        assert pipeline.advance(part, slice_seconds=60) == State.SUCCEEDED
    assert rows(model, "code") == [1]


def test_the_remote_says_how_long_it_wants_to_be_left_alone(declare, model):
    office = Office(lines(1))

    def answer(request):
        reply = office(request)
        return replace(reply, headers={"Retry-After": "300"}) if request.method == "GET" else reply

    with Remote(answer) as remote:
        declare(remote)
        part = begin_part()
        assert pipeline.advance(part, slice_seconds=60) == State.WAITING
    waiting = Part.objects.get()
    assert (waiting.next_attempt_at - waiting.history.first().taken_at) > timedelta(seconds=290)


def test_whoever_waits_in_the_foreground_waits(declare, model):
    office = Office(lines(1))
    with Remote(office) as remote:
        source = declare(remote, interval=timedelta(seconds=10))
        steps = source.for_feed(Facts(frees_worker=True)).pages(None)
        assert [next(steps).following["polls"], next(steps).following["polls"]] == [0, 1]
        with pytest.raises(NotReady) as raised:
            next(steps)
        assert raised.value.wait == timedelta(seconds=10)
        declare(remote, interval=timedelta(milliseconds=1))
        dry = pipeline.run_here("office", dry_run=True)
    assert (dry.summary["read"], model.objects.count()) == (1, 0)


@pytest.mark.parametrize(
    ("state", "code"),
    [("broken", "export_failed: export e/1 is 'broken': no disk"), ("gone", "export_expired: export e/1 is 'gone'")],
)
def test_an_export_that_failed_or_expired_fails_the_run(declare, model, state, code):
    office = Office(lines(1))
    office.state = state
    with Remote(office) as remote:
        declare(remote)
        part = begin_part()
        assert pipeline.advance(part, slice_seconds=60) == State.FAILED
        assert Run.objects.get().error.startswith(code)
        # Whoever resumes it asks for the same one, and whoever starts another run gets another one.
        interventions.resume(Run.objects.get().pk, wake_workers=False)
        assert pipeline.advance(part, slice_seconds=60) == State.FAILED
        office.state = ""
        assert (len(office.made), pipeline.run_here("office").summary["state"]) == (1, "succeeded")
    assert len(office.made) == 2


def test_what_a_remote_says_back_is_hidden():
    office = Office(lines(1))
    office.state, office.why = "broken", f"cannot export for {SECRET}"
    with Remote(office) as remote, pytest.raises(RunFailed, match=r"cannot export for …$"):
        list(export(remote, body={"password": SECRET}).pages(None))


def test_a_key_in_the_url_of_the_status_is_hidden():
    office = Office(lines(1))
    office.state, office.why = "broken", "cannot export for k3y-of-the-status"
    with Remote(office) as remote, pytest.raises(RunFailed, match=r"cannot export for …$"):
        list(export(remote, status=f"{remote.url}/exports/{{export}}?key=k3y-of-the-status").pages(None))


def test_an_export_is_asked_for_what_has_changed():
    office = Office(lines(1), polls=1)
    with Remote(office) as remote:
        list(export(remote).with_values({"filter.since": 7}).pages(None))
        list(export(remote, body=None, params={"a": "b"}).with_values({"since": 7}).pages(None))
    assert json.loads(office.made[0].body) == {"what": "everything", "filter": {"since": 7}}
    assert office.made[1].query == {"a": "b", "since": "7"}


def test_a_status_that_is_gone_is_an_export_that_expired():
    def answer(request):
        return Reply(body=b'{"id": 7}') if request.method == "POST" else Reply(410)

    with Remote(answer) as remote, pytest.raises(RunFailed, match="export_expired: export 7 is 'gone'"):
        list(export(remote).pages(None))


def test_an_export_that_is_never_ready_fails_at_its_deadline():
    office = Office(lines(1), polls=10**9)
    with Remote(office) as remote:
        source = export(remote, deadline=timedelta(hours=1))
        at = next(source.pages(None)).following
        with pytest.raises(RunFailed, match="export_late: export e/1 is 'running' after 36"):
            list(source.pages(at | {"since": time.time() - 3601}))


def test_a_link_that_has_expired_is_asked_for_anew():
    office = Office(lines(1), lines(2), lines(3), polls=1)

    def answer(request):
        if request.path == "/files/1" and request.query["signature"] == "1":
            office.signature += 1
        return office(request)

    with Remote(answer) as remote:
        assert codes_of(export(remote).pages(None)) == ["1", "2", "3"]
    assert office.asked == 2


def test_a_key_makes_a_creation_that_is_repeated_harmless(declare, model):
    office, lost = Office(lines(1)), [True]

    def answer(request):
        reply = office(request)
        return Reply(503) if request.method == "POST" and len(office.made) <= 3 else reply

    with Remote(answer) as remote:
        declare(remote, idempotency_header="Idempotency-Key")
        part = begin_part()
        assert pipeline.advance(part, slice_seconds=60) == State.WAITING
        Part.objects.update(next_attempt_at=Now())
        assert pipeline.advance(part, slice_seconds=60) == State.SUCCEEDED, Run.objects.get().error
        keys = {request.headers["idempotency-key"] for request in office.made}
        assert (len(office.made) > 3, len(keys), lost) == (True, 1, [True])
        office.asked = 0
        pipeline.run_here("office")
    assert office.made[-1].headers["idempotency-key"] not in keys


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({"id": None}, "cursor: id is None"),
        ({"id": ".."}, "cursor: id of a new export"),
        ({"id": 1, "status": "done"}, "shape: export 1 is ready, but urls is no link"),
        ({"id": 1, "status": "done", "urls": []}, "shape: export 1 is ready, but urls is no link"),
        ({"id": 1, "status": "done", "urls": "ftp://127.0.0.1/a"}, "foreign_origin"),
    ],
)
def test_answers_that_cannot_be_used_fail(told, problem):
    with Remote(Reply(body=json.dumps(told).encode())) as remote, pytest.raises(RunFailed, match=problem):
        list(export(remote).pages(None))


@pytest.mark.parametrize(
    "options",
    [{"link": ()}, {"download": "http://127.0.0.1/{export}"}, {"ready": frozenset()}, {"interval": timedelta(0)}],
)
def test_mistakes_are_configuration_errors(options):
    with Remote(Reply()) as remote, pytest.raises(ConfigurationError, match="Export needs"):
        export(remote, **options)


def test_columns_that_the_file_lacks_are_told_with_the_export(declare, model):
    with Remote(Office(b"name\na\n")) as remote:
        declare(remote, Upsert(model, key="code"))
        assert pipeline.run_here("office").summary["error"].startswith("header: e/1/00001: ")
