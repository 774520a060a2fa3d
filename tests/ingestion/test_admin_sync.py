"""Sync now: who may, what it answers, and that nothing is lost when the broker is down."""

import pytest
from django.test import Client
from django.urls import reverse

from ingestion import attempts, claims, runs, waking
from ingestion.feeds import Feed, Upsert
from ingestion.models import FeedState, Run, State, Trigger
from ingestion.pagination import SinglePage
from ingestion.sources import JsonApi
from photos import feeds as photos_feeds
from photos.models import Photo
from tests.staff import VIEWS, said, session

SYNC = "ingestion.sync_feedstate"
LIST = "/admin/ingestion/feedstate/"

woken: list[int] = []


def record_wake(part: int) -> None:
    woken.append(part)


def refuse_wake(part: int) -> None:
    woken.append(part)
    message = "the broker is down"
    raise OSError(message)


@pytest.fixture
def feed(db) -> FeedState:
    runs.remember_feeds()
    return FeedState.objects.get(name="photos")


@pytest.fixture
def second(feed, monkeypatch) -> FeedState:
    declared = Feed(
        name="second",
        source=JsonApi(url="http://127.0.0.1:1/", pagination=SinglePage()),
        columns={"remote_id": "id"},
        target=Upsert(Photo, key="remote_id"),
    )
    monkeypatch.setattr(photos_feeds, "SECOND", declared, raising=False)
    return FeedState.objects.create(name="second")


def page(feed: FeedState) -> str:
    return reverse("admin:ingestion_feedstate_change", args=(feed.pk,))


def button(feed: FeedState) -> str:
    return reverse("admin:ingestion_feedstate_sync", args=(feed.pk,))


def act(client: Client, *feeds: FeedState, action: str = "sync_now"):
    form = {"action": action, "index": "0", "select_across": "0", "_selected_action": [feed.pk for feed in feeds]}
    return client.post(LIST, form)


def end(run: Run) -> None:
    part = claims.claim(run.parts.get().pk)
    attempts.end(part, State.SUCCEEDED)


def test_the_action_starts_a_run_in_the_name_of_the_user(feed):
    client = session(*VIEWS, SYNC)
    response = act(client, feed)
    run = Run.objects.get()
    assert (run.feed, run.state, run.trigger, run.requested_by) == (feed, State.QUEUED, Trigger.ADMIN, "ada")
    assert run.parts.count() == 1
    assert response.url == LIST
    link = f'<a href="/admin/ingestion/run/{run.pk}/change/">run {run.pk}</a>'
    assert said(client.get(LIST)) == [f"Feed photos: started {link}."]


def test_an_action_of_its_own_asks_for_every_page(feed):
    client = session(*VIEWS, SYNC)
    act(client, feed, action="sync_every_page")
    assert Run.objects.get().full
    end(Run.objects.get())
    act(client, feed)
    assert not Run.objects.first().full


def test_the_action_leaves_a_running_feed_alone_and_says_since_when(feed):
    client = session(*VIEWS, SYNC)
    run, _ = runs.request("photos", trigger=Trigger.COMMAND)
    act(client, feed)
    assert Run.objects.count() == 1
    (message,) = said(client.get(LIST))
    assert message.startswith(f"Feed photos: already running since {run.requested_at:%Y-%m-%d %H:%M:%S} UTC: <a ")
    assert f"run {run.pk}" in message


def test_the_action_starts_a_feed_again_once_its_run_ended(feed):
    client = session(*VIEWS, SYNC)
    act(client, feed)
    end(Run.objects.get())
    act(client, feed)
    assert [run.state for run in Run.objects.all()] == [State.QUEUED, State.SUCCEEDED]


def test_the_action_answers_for_each_feed(feed, second):
    gone = FeedState.objects.create(name="gone")
    client = session(*VIEWS, SYNC)
    act(client, feed, gone, second)
    messages = said(client.get(LIST))
    assert sorted(run.feed.name for run in Run.objects.all()) == ["photos", "second"]
    assert len(messages) == 3
    assert messages[0].startswith("Feed gone: not started: no feed is named &#x27;gone&#x27;; known feeds: photos")
    assert messages[1].startswith("Feed photos: started ")
    assert messages[2].startswith("Feed second: started ")


def test_the_button_starts_a_run_and_goes_to_its_page(feed):
    client = session(*VIEWS, SYNC)
    assert f'action="{button(feed)}"' in client.get(page(feed)).text
    response = client.post(button(feed), follow=True)
    run = Run.objects.get()
    assert (run.trigger, run.requested_by) == (Trigger.ADMIN, "ada")
    assert response.redirect_chain == [(f"/admin/ingestion/run/{run.pk}/change/", 302)]
    assert said(response) == [f'Feed photos: started <a href="/admin/ingestion/run/{run.pk}/change/">run {run.pk}</a>.']


def test_the_button_goes_back_to_the_feed_for_who_may_not_see_runs(feed):
    client = session("ingestion.view_feedstate", SYNC)
    response = client.post(button(feed), follow=True)
    assert response.redirect_chain == [(page(feed), 302)]
    assert response.status_code == 200
    assert Run.objects.count() == 1


def test_a_feed_that_is_no_longer_declared_has_no_button_and_gets_a_message(feed):
    gone = FeedState.objects.create(name="gone")
    client = session(*VIEWS, SYNC)
    assert "Sync now" not in client.get(page(gone)).text
    response = client.post(button(gone), follow=True)
    assert response.redirect_chain == [(page(gone), 302)]
    assert said(response)[0].startswith("Feed gone: not started: no feed is named ")
    assert not Run.objects.exists()


def test_who_may_only_look_sees_neither_action_nor_button(feed):
    client = session(*VIEWS)
    listed = client.get(LIST)
    assert (listed.status_code, "photos" in listed.text) == (200, True)
    assert "sync_now" not in listed.text
    assert "action-select" not in listed.text
    shown = client.get(page(feed))
    assert (shown.status_code, "Sync now" in shown.text, button(feed) in shown.text) == (200, False, False)


def test_who_may_only_look_gets_403_from_both(feed):
    client = session(*VIEWS)
    assert act(client, feed).status_code == 403
    assert client.post(button(feed)).status_code == 403
    assert not Run.objects.exists()


def test_who_may_sync_but_not_look_gets_403_from_both(feed):
    client = session(SYNC)
    assert act(client, feed).status_code == 403
    assert client.post(button(feed)).status_code == 403
    assert not Run.objects.exists()


def test_without_a_login_both_lead_to_it(feed):
    client = Client()
    for response in (act(client, feed), client.post(button(feed))):
        assert (response.status_code, response.url.split("?")[0]) == (302, "/admin/login/")
    assert not Run.objects.exists()


def test_a_post_from_another_site_is_refused(feed):
    client = session(*VIEWS, SYNC, enforce_csrf_checks=True)
    assert act(client, feed).status_code == 403
    assert client.post(button(feed)).status_code == 403
    assert not Run.objects.exists()


def test_the_button_takes_posts_only(feed):
    response = session(*VIEWS, SYNC).get(button(feed))
    assert (response.status_code, response["Allow"]) == (405, "POST")
    assert not Run.objects.exists()


@pytest.mark.parametrize("key", ["0", "999999999", "99999999999999999999", "x", "_2F"])
def test_the_button_of_a_feed_that_is_not_there_is_404(feed, key):
    client = session(*VIEWS, SYNC)
    assert client.post(f"{LIST}{key}/sync/").status_code == 404


@pytest.mark.parametrize("action", ["delete_selected", "no_such_action"])
def test_an_action_that_is_not_offered_is_403(feed, action):
    assert act(session(*VIEWS, SYNC), feed, action=action).status_code == 403
    assert FeedState.objects.filter(pk=feed.pk).exists()


def test_nothing_selected_starts_nothing(feed):
    client = session(*VIEWS, SYNC)
    assert act(client).status_code == 302
    assert not Run.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_workers_are_woken_for_the_new_runs_only(feed, second, settings):
    client = session(*VIEWS, SYNC)
    runs.request("photos", trigger=Trigger.COMMAND, wake_workers=False)
    settings.INGESTION_WAKE = "tests.ingestion.test_admin_sync.record_wake"
    woken.clear()
    act(client, feed, second)
    assert woken == [Run.objects.get(feed=second).parts.get().pk]


@pytest.mark.django_db(transaction=True)
def test_a_broker_that_is_down_is_tried_once_and_the_runs_are_queued(feed, second, settings):
    client = session(*VIEWS, SYNC)
    settings.INGESTION_WAKE = "tests.ingestion.test_admin_sync.refuse_wake"
    woken.clear()
    assert act(client, feed, second).status_code == 302
    assert len(woken) == 1
    assert [run.state for run in Run.objects.all()] == [State.QUEUED, State.QUEUED]
    assert len(waking.due_parts()) == 2
