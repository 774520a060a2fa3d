"""Periodic tasks in the admin: django-celery-beat 2.9.0 lets those who may only look run and disable them."""

import json

import pytest
from celery import Celery, current_app
from django.contrib import admin
from django_celery_beat.admin import PeriodicTaskAdmin as BeatPeriodicTaskAdmin
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from tests.staff import said, session

pytestmark = pytest.mark.django_db

LIST = "/admin/django_celery_beat/periodictask/"
VIEW, CHANGE, DELETE = (f"django_celery_beat.{may}_periodictask" for may in ("view", "change", "delete"))
QUEUE = "tests-of-the-admin"


@pytest.fixture
def task() -> PeriodicTask:
    interval = IntervalSchedule.objects.create(every=1234, period=IntervalSchedule.SECONDS)
    return PeriodicTask.objects.create(
        name="sync it", task="worker.sync", interval=interval, kwargs='{"feed": "photos"}', queue=QUEUE
    )


@pytest.fixture
def queue():
    """Give the real broker's queue, as a function that returns its messages; no worker listens to it."""
    with current_app.connection_for_read() as connection:
        redis = connection.channel().client
        redis.delete(QUEUE)
        yield lambda: [json.loads(message) for message in redis.lrange(QUEUE, 0, -1)]
        redis.delete(QUEUE)


def act(client, action: str, task: PeriodicTask):
    return client.post(LIST, {"action": action, "index": "0", "_selected_action": [task.pk]})


def offered(client) -> list[str]:
    form = client.get(LIST).context["action_form"]
    return [name for name, _ in form.fields["action"].choices if name] if form else []


def test_it_is_still_beats_own_window():
    assert isinstance(admin.site._registry[PeriodicTask], BeatPeriodicTaskAdmin)


def test_who_may_only_look_is_offered_no_action(task):
    client = session(VIEW)
    shown = client.get(LIST)
    assert (shown.status_code, "sync it" in shown.text) == (200, True)
    assert offered(client) == []


@pytest.mark.parametrize("action", BeatPeriodicTaskAdmin.actions)
def test_who_may_only_look_gets_403_from_every_action(action, task, queue):
    assert act(session(VIEW), action, task).status_code == 403
    assert PeriodicTask.objects.get(pk=task.pk).enabled
    assert queue() == []


def test_who_may_delete_is_offered_that_alone(task):
    client = session(VIEW, DELETE)
    assert offered(client) == ["delete_selected"]
    assert act(client, "disable_tasks", task).status_code == 403
    assert PeriodicTask.objects.get(pk=task.pk).enabled


def test_who_may_change_can_disable_enable_and_toggle(task):
    client = session(VIEW, CHANGE)
    assert offered(client) == list(BeatPeriodicTaskAdmin.actions)
    for action, enabled in (("disable_tasks", False), ("enable_tasks", True), ("toggle_tasks", False)):
        assert act(client, action, task).status_code == 302
        assert PeriodicTask.objects.get(pk=task.pk).enabled == enabled


def test_who_may_change_can_run_a_task(task, queue):
    client = session(VIEW, CHANGE)
    assert act(client, "run_tasks", task).status_code == 302
    (message,) = queue()
    assert message["headers"]["task"] == "worker.sync"
    assert said(client.get(LIST)) == ["1 task was successfully run"]


def test_running_a_task_without_a_broker_is_answered_with_a_message(task, monkeypatch):
    unreachable = Celery(broker="redis://127.0.0.1:1/0", set_as_current=False)
    unreachable.conf.task_publish_retry = False
    unreachable.conf.broker_transport_options = {"max_retries": 1, "interval_start": 0, "interval_max": 0}
    monkeypatch.setattr(admin.site._registry[PeriodicTask], "celery_app", unreachable)
    client = session(VIEW, CHANGE)
    assert act(client, "run_tasks", task).status_code == 302
    assert said(client.get(LIST))[0].startswith("The broker does not answer, nothing was started: Error 111 ")
