"""Who may look into the windows, what a list costs, and what a source's description hides."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from ingestion.admin import windows
from ingestion.admin.outlook import source_text
from ingestion.feeds import Feed, Upsert, env_url
from ingestion.models import FeedState, Part, Run, State
from ingestion.pagination import SinglePage
from ingestion.sources import JsonApi
from photos.models import Photo
from tests.ingestion.pages import AT, FEEDS, LISTS, REJECTS, RUNS, cells, make_reject, make_run, page_of, text
from tests.staff import VIEWS, session, superuser

pytestmark = pytest.mark.django_db


@pytest.fixture
def feed() -> FeedState:
    return FeedState.objects.get_or_create(name="photos")[0]


@pytest.mark.parametrize("url", LISTS)
def test_a_list_is_for_those_who_may_view_it(url, client, feed):
    assert client.get(url).status_code == 302
    assert session("ingestion.sync_feedstate", name="syncs").get(url).status_code == 403
    assert session(*VIEWS, name="views").get(url).status_code == 200


@pytest.mark.parametrize("model", ["feedstate", "run", "reject"])
def test_not_even_a_superuser_can_add_change_or_delete(model, feed):
    client = superuser()
    run = make_run(feed)
    row = {"feedstate": feed, "run": run, "reject": make_reject(run)}[model]
    before = type(row).objects.filter(pk=row.pk).values().get()
    assert client.get(f"/admin/ingestion/{model}/add/").status_code == 403
    assert client.post(f"/admin/ingestion/{model}/add/", {}).status_code == 403
    assert (
        client.post(page_of(row), {"name": "x", "state": "failed", "reason": "x", "_save": "Save"}).status_code == 403
    )
    assert client.post(f"/admin/ingestion/{model}/{row.pk}/delete/", {"post": "yes"}).status_code == 403
    form = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    assert client.post(f"/admin/ingestion/{model}/", form).status_code == 403
    assert type(row).objects.filter(pk=row.pk).values().get() == before


def test_parts_are_seen_with_their_run_by_whoever_sees_runs(feed):
    run = make_run(feed, State.WAITING)
    Part.objects.create(
        run=run, state=State.WAITING, next_attempt_at=AT + timedelta(minutes=2), attempts=2, epoch=4,
        waiting_for="503 from the remote", cursor={"at": {"page": 121}}, owner="host:7:1",
    )  # fmt: skip
    shown = text(session("ingestion.view_run"), page_of(run))
    for expected in (
        "503 from the remote",
        "2026-11-22 03:06:05",
        "host:7:1",
        "{&quot;at&quot;: {&quot;page&quot;: 121}}",
    ):
        assert expected in shown


@pytest.mark.parametrize("url", [*LISTS, f"{FEEDS}?last=failed", f"{RUNS}?q=photos", f"{REJECTS}?reason=too_long"])
def test_a_list_takes_as_many_queries_for_one_row_as_for_many(url):
    FeedState.objects.all().delete()
    client = superuser()

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert len(cells(client, url)) == Run.objects.count()
        return len(captured)

    def add_rows(numbers: range) -> None:
        for number in numbers:
            run = make_run(FeedState.objects.create(name=f"photos-{number}"), State.FAILED, rejected=1)
            make_reject(run)

    add_rows(range(1))
    few = queries()
    add_rows(range(1, 12))
    assert queries() == few
    assert few <= 9


def test_the_reject_list_does_not_fetch_the_bytes(feed):
    make_reject(make_run(feed))
    client = session(*VIEWS)
    with CaptureQueriesContext(connection) as captured:
        text(client, REJECTS)
    assert not [query["sql"] for query in captured if '"ingestion_reject"."raw"' in query["sql"]]


def test_a_big_list_is_not_counted_to_its_end(feed, monkeypatch):
    monkeypatch.setattr(windows, "COUNTED_ROWS", 60)
    client = session(*VIEWS)
    for _ in range(60):
        make_run(feed)
    shown = text(client, RUNS)
    assert "60 runs" in shown
    assert "There are more" not in shown
    make_run(feed)
    shown = text(client, RUNS)
    assert "There are more runs: the first 60 are listed." in shown
    assert len(cells(client, f"{RUNS}?p=2")) == 10
    assert client.get(f"{RUNS}?p=3").status_code == 302
    assert client.get(f"{RUNS}?all=").status_code == 200


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ada:secret@example.com/photos?key=secret#secret", "JsonApi: https://example.com/photos"),
        ("http://[::1]:8001/photos", "JsonApi: http://[::1]:8001/photos"),
        (lambda: "http://127.0.0.1:8001/a", "JsonApi: http://127.0.0.1:8001/a"),
        ("http://[broken/", "JsonApi: Invalid IPv6 URL"),
        (
            env_url("NO_SUCH_SETTING"),
            "JsonApi: NO_SUCH_SETTING is not set: put the base URL of the remote into the environment",
        ),
    ],
)
def test_a_source_is_shown_without_what_its_url_may_hide(url, shown):
    source = JsonApi(url=url, pagination=SinglePage())
    assert source_text(Feed(name="x", source=source, columns={}, target=Upsert(Photo, key="remote_id"))) == shown
