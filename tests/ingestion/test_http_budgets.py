"""Rates as the remote sees them: never more requests in any window, whoever asks."""

import subprocess
import sys
import time
import uuid
from datetime import timedelta

import pytest

from ingestion.errors import ConfigurationError, RetryLater
from ingestion.http import Client, Limits, Rate
from ingestion.pagination import SinglePage
from ingestion.sources import Csv, Files, Soap, Web
from tests.ingestion import soap_server
from tests.ingestion.files import servers
from tests.processes import ROOT
from tests.remote import Remote, Reply

WINDOW = timedelta(milliseconds=500)

ASKING = """
import os, sys, django
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
django.setup()
from datetime import timedelta
from ingestion.http import Client, Rate
url, name, requests = sys.argv[1:]
with Client(rates=(Rate(name=name, requests=4, within=timedelta(milliseconds=500)),)) as client:
    for _ in range(int(requests)):
        client.get(url, {})
"""


class Watched(Remote):
    """Notes when each request arrives; every fifth is answered late."""

    def __init__(self):
        self.seen = []

        def answer(request):
            self.seen.append(time.monotonic())
            if len(self.seen) % 5 == 0:
                time.sleep(0.2)
            return Reply(body=b"[]")

        super().__init__(answer)


def closest(seen, requests):
    """Return the shortest time in which one more than `requests` arrived."""
    return min(late - early for early, late in zip(seen, seen[requests:], strict=False))


def test_two_processes_never_exceed_their_rate_over_any_window():
    name = uuid.uuid4().hex
    with Watched() as remote:
        command = [sys.executable, "-c", ASKING, remote.url, name, "14"]
        processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
        assert [process.wait(60) for process in processes] == [0, 0]
    assert len(remote.seen) == 28
    assert closest(remote.seen, 4) >= 0.5


def test_without_redis_a_process_counts_for_itself(settings, caplog):
    settings.BUDGETS_URL = "redis://127.0.0.1:1/0"
    rate = Rate(name=uuid.uuid4().hex, requests=2, within=WINDOW)
    with Watched() as remote:
        for _ in range(2):
            with Client(rates=(rate,)) as client:
                for _ in range(3):
                    client.get(remote.url, {})
    assert closest(remote.seen, 2) >= 0.5
    assert "no Redis for budgets; this process counts for itself" in caplog.text


def test_several_windows_hold_at_once():
    rates = tuple(
        Rate(name=uuid.uuid4().hex, requests=requests, within=within)
        for requests, within in ((2, timedelta(milliseconds=100)), (5, timedelta(seconds=1)))
    )
    with Watched() as remote, Client(rates=rates) as client:
        for _ in range(7):
            client.get(remote.url, {})
    assert closest(remote.seen, 2) >= 0.1
    assert closest(remote.seen, 5) >= 1


def test_a_place_that_is_far_away_is_not_waited_for():
    rate = Rate(name=uuid.uuid4().hex, requests=1, within=timedelta(hours=1))
    with Watched() as remote, Client(rates=(rate,), limits=Limits(deadline=timedelta(seconds=5))) as client:
        client.get(remote.url, {})
        with pytest.raises(RetryLater, match="is used up") as raised:
            client.get(remote.url, {})
    assert timedelta(minutes=59) < raised.value.wait <= timedelta(hours=1, seconds=1)
    assert len(remote.seen) == 1


@pytest.mark.parametrize(
    "rate",
    [Rate(name="", requests=1), Rate(name="x", requests=0), Rate(name="x", requests=1, within=timedelta(0))],
)
def test_rates_that_cannot_be_kept(rate):
    with pytest.raises(ConfigurationError, match="the rate"), Client(rates=(rate,)):
        pass


def test_files_and_soap_services_keep_to_their_rates(tmp_path):
    (tmp_path / "a.csv").write_text("code\n1\n")
    rates = (Rate(name=uuid.uuid4().hex, requests=2, within=WINDOW),)
    with servers.web(tmp_path) as remote:
        began = time.monotonic()
        assert len(list(Files(place=Web(urls=f"{remote.url}/a.csv", rates=rates), format=Csv()).pages(None))) == 1
        assert len(remote.requests) == 3
    assert time.monotonic() - began >= WINDOW.total_seconds()
    with soap_server.serve(soap_server.Stock(items=[])) as remote:
        began = time.monotonic()
        soap = Soap(
            wsdl=f"{remote.url}/service?wsdl",
            operation="GetItems",
            records=("items", "item"),
            pagination=SinglePage(),
            arguments={"request": {"page": 1, "size": 9}},
            rates=(Rate(name=uuid.uuid4().hex, requests=2, within=WINDOW),),
        )
        assert len(list(soap.pages(None))) == 1
        assert len(remote.requests) == 3
    assert time.monotonic() - began >= WINDOW.total_seconds()
