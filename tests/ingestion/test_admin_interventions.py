"""Cancel and resume in the admin: who may, what is offered, and what is answered."""

import pytest

from ingestion import runs
from ingestion.models import FeedState, Run, State, Trigger
from tests.ingestion.pages import RUNS, make_run, page_of, text
from tests.staff import VIEWS, said, session

pytestmark = pytest.mark.django_db

CANCEL, RESUME = "ingestion.cancel_run", "ingestion.resume_run"


@pytest.fixture
def feed() -> FeedState:
    return FeedState.objects.get_or_create(name="photos")[0]


@pytest.fixture
def active(feed) -> Run:
    return runs.request("photos", trigger=Trigger.COMMAND, wake_workers=False)[0]


def act(client, action, *found):
    form = {"action": action, "index": "0", "select_across": "0", "_selected_action": [run.pk for run in found]}
    return client.post(RUNS, form)


def test_the_actions_cancel_and_resume_in_the_name_of_the_user(active):
    client = session(*VIEWS, CANCEL, RESUME)
    act(client, "cancel_runs", active)
    active.refresh_from_db()
    assert (active.state, active.error) == ("cancelled", "cancelled by ada")
    link = f'<a href="/admin/ingestion/run/{active.pk}/change/">run {active.pk}</a>'
    assert said(client.get(RUNS)) == [f"{link} of photos: cancelled."]
    act(client, "resume_runs", active)
    active.refresh_from_db()
    assert (active.state, active.resumes) == ("queued", 1)
    listed = client.get(RUNS)
    assert said(listed) == [f"{link} of photos: resumed."]
    assert "command, resumed 1×, last by ada" in listed.text


def test_what_cannot_be_done_is_said_run_by_run(feed, active):
    done = make_run(feed)
    client = session(*VIEWS, CANCEL, RESUME)
    act(client, "cancel_runs", done, active)
    messages = said(client.get(RUNS))
    assert sorted("not cancelled" in message for message in messages) == [False, True]
    assert any(f"run {done.pk} of photos has ended already: succeeded" in message for message in messages)
    act(client, "resume_runs", done)
    assert "cannot be resumed: it has succeeded; trigger a new one" in said(client.get(RUNS))[0]


@pytest.mark.parametrize("state", State)
def test_the_page_offers_what_the_state_allows(feed, state):
    run = make_run(feed, state)
    client = session(*VIEWS, CANCEL, RESUME)
    shown = text(client, page_of(run))
    offered = {verb for verb in ("cancel", "resume") if f"{verb.capitalize()} this run" in shown}
    expected = {
        "queued": {"cancel"}, "running": {"cancel"}, "waiting": {"cancel"},
        "failed": {"resume"}, "cancelled": {"resume"}, "succeeded": set(),
    }  # fmt: skip
    assert offered == expected[state]


def button(run: Run, verb: str) -> str:
    return f"/admin/ingestion/run/{run.pk}/{verb}/"


def test_the_buttons_do_it_and_go_back_to_the_run(active):
    client = session(*VIEWS, CANCEL, RESUME)
    for verb, state, error in (("cancel", "cancelled", "cancelled by ada"), ("resume", "queued", "")):
        response = client.post(button(active, verb), follow=True)
        active.refresh_from_db()
        assert (active.state, active.error) == (state, error)
        assert response.redirect_chain == [(page_of(active), 302)]
        assert len(said(response)) == 1


@pytest.mark.parametrize("permissions", [(), (RESUME,)])
def test_who_may_not_cancel_gets_403_and_no_offer(active, permissions):
    client = session(*VIEWS, *permissions)
    assert "Cancel this run" not in text(client, page_of(active))
    assert act(client, "cancel_runs", active).status_code == 403
    assert client.post(button(active, "cancel")).status_code == 403
    active.refresh_from_db()
    assert active.state == "queued"


@pytest.mark.parametrize("permissions", [(), (CANCEL,)])
def test_who_may_not_resume_gets_403_and_no_offer(feed, permissions):
    failed = make_run(feed, State.FAILED)
    client = session(*VIEWS, *permissions)
    assert "Resume this run" not in text(client, page_of(failed))
    assert act(client, "resume_runs", failed).status_code == 403
    assert client.post(button(failed, "resume")).status_code == 403
    failed.refresh_from_db()
    assert failed.state == "failed"


def test_the_buttons_take_posts_of_this_site_only(active):
    assert session(*VIEWS, CANCEL).get(button(active, "cancel")).status_code == 405
    client = session(*VIEWS, CANCEL, name="bob", enforce_csrf_checks=True)
    assert client.post(button(active, "cancel")).status_code == 403
    assert session(*VIEWS, CANCEL, name="eve").post("/admin/ingestion/run/4711/cancel/").status_code == 404
