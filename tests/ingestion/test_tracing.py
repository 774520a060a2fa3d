"""What a run's requests cost is kept with its chunks and shown, without a statement more per page."""

import json
from datetime import UTC, datetime

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from ingestion.models import Run, RunTraces
from ingestion.pagination import PageNumber
from ingestion.sources import JsonApi
from ingestion.tracing import load
from tests.ingestion.catalog import products, table_of
from tests.ingestion.pages import page_of, text
from tests.ingestion.shop import Shop
from tests.ingestion.slices import in_slices
from tests.remote import Reply
from tests.staff import VIEWS, session

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("tried_twice")]


@pytest.fixture
def shop(monkeypatch):
    with table_of() as model:
        shop = Shop(monkeypatch, model, 5)
        shop.options["skip_unchanged_pages"] = False
        with shop.remote:
            yield shop


def traces(run):
    return load(RunTraces.objects.filter(run=run).first())


def test_the_requests_of_a_run_are_kept_with_their_pages(shop):
    traced = traces(shop.sync()["run"])
    (total,) = traced.totals.values()
    assert total.requests == 5
    assert total.size_bytes == sum(trace.size_bytes for trace in traced.newest) > 0
    assert [trace.page for trace in traced.newest] == [5, 4, 3, 2, 1]
    assert sorted(trace.page for trace in traced.slowest) == [1, 2, 3, 4, 5]


def test_those_of_a_run_that_fails_are_kept_too_and_what_was_not_answered(shop):
    shop.broken = {4}
    summary = shop.sync()
    assert summary["state"] == "failed"
    traced = traces(summary["run"])
    assert sorted((name.split()[1], total.requests) for name, total in traced.totals.items()) == [
        ("200", 3),
        ("404", 1),
    ]
    assert (traced.newest[0].status, traced.newest[0].page) == (404, None)


def test_slices_add_to_each_other_and_a_dry_run_leaves_nothing(shop):
    shop.declare()
    run, slices = in_slices("shop")
    assert slices > 1
    traced = traces(run.pk)
    (total,) = traced.totals.values()
    # What was fetched ahead when a slice ended is fetched again.
    assert total.requests == len(shop.remote.requests)
    shop.sync(dry_run=True)
    assert list(RunTraces.objects.values_list("run", flat=True)) == [run.pk]


def statements(shop, pages):
    shop.pages = [products(2 * number, 2 * number + 1) for number in range(1, pages + 1)]
    with CaptureQueriesContext(connection) as captured:
        shop.sync(chunk_bytes=1)
    assert len([query for query in captured if "UPDATE ingestion_run" in query["sql"]]) == pages
    return sum("ingestion_runtraces" in query["sql"] for query in captured)


def test_pages_cost_no_statement(shop):
    """Within a second everything is written once, with the last chunk."""
    few, many = statements(shop, 2), statements(shop, 20)
    assert few <= 4
    assert many <= few + 4


def test_they_are_shown_on_the_run_s_page_and_by_the_command(shop, capsys):
    shop.broken = {5}
    number = shop.sync()["run"]
    host = shop.remote.url.removeprefix("http://")
    page = text(session(*VIEWS), page_of(Run.objects.get(pk=number)))
    assert f"GET {shop.remote.url}" in page
    assert host in page
    call_command("runs", "--run", str(number), "--requests")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"shop: run {number} failed")
    assert any(line.startswith(f"  {host} answered 4 × 200: ") for line in lines)
    assert any(line.startswith(f"  {host} answered 1 × 404: ") for line in lines)
    assert any(line.endswith("attempt 1, page 4") for line in lines)
    call_command("runs", "--run", str(number), "--requests", "--json")
    requests = json.loads(capsys.readouterr().out)["requests"]
    assert {(total["status"], total["requests"]) for total in requests["totals"]} == {(200, 4), (404, 1)}
    newest = requests["newest"][0]
    assert (newest["status"], newest["attempt"], newest["page"]) == (404, 1, None)
    assert datetime.fromisoformat(newest["at"]).tzinfo == UTC


def test_no_secret_is_in_them(shop):
    original = shop._answer
    shop.remote.answer = lambda request: original(request) if request.query["page"] != "3" else Reply(500)
    pagination = PageNumber(param="page", size=2)
    source = JsonApi(url=shop.remote.url, pagination=pagination, params={"key": "s3cr3t"}, headers={"X-Key": "s3cr3t"})
    shop.sync(source=source)
    assert Run.objects.get().state == "failed"
    kept = json.dumps(RunTraces.objects.get().traces)
    assert "GET http://127.0.0.1" in kept
    assert "s3cr3t" not in kept
