"""The Celery application: `celery -A config worker`, `celery -A config beat`."""

import os

from celery import Celery
from celery.signals import beat_init, celeryd_init

from ingestion import owners
from worker import transport

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
transport.install()

app = Celery("config")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["worker"])


@celeryd_init.connect
def name_worker(sender: str, **_: object) -> None:
    """Tell the history of attempts which worker it was, before the pool is forked."""
    owners.serve(sender)


@celeryd_init.connect
@beat_init.connect
def start_embedded_servers(**_: object) -> None:
    """Start the embedded servers where the worker or beat is the first to need them."""
    from config.embedded import ensure_servers

    ensure_servers()
