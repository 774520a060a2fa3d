"""The admin's lists with 100,000 runs: how often they ask the database, and that they never read the whole history."""

import time

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from ingestion.admin.windows import COUNTED_ROWS
from ingestion.models import FeedState, Run
from tests.ingestion.test_waking import plan_of
from tests.staff import VIEWS, session

pytestmark = pytest.mark.django_db

RUNS, FEEDS = 100_000, 20
# Twenty feeds take turns; every fortieth run failed, every hundredth was asked for in the admin.
HISTORY = f"""
    INSERT INTO ingestion_feedstate (name) SELECT 'feed ' || n FROM generate_series(1, {FEEDS}) n;
    INSERT INTO ingestion_run (feed_id, state, trigger, requested_by, requested_at, started_at, finished_at,
        pages, read, inserted, updated, unchanged, deleted, duplicates, rejected, error)
    SELECT feed.id, CASE n % 40 WHEN 1 THEN 'failed' ELSE 'succeeded' END,
        CASE n % 100 WHEN 7 THEN 'admin' ELSE 'schedule' END,
        '', now() - interval '1 minute' * ({RUNS} - n), now(), now(), 1, 0, 0, 0, 0, 0, 0, 0, ''
    FROM generate_series(1, {RUNS}) n JOIN ingestion_feedstate feed ON feed.name = 'feed ' || (n % {FEEDS} + 1)
    ORDER BY n;
    INSERT INTO ingestion_part (run_id, number, state, epoch, owner, attempts, waiting_for)
    SELECT id, 1, state, 1, 'elsewhere:1:1', 0, '' FROM ingestion_run;
    INSERT INTO ingestion_attempt (part_id, epoch, owner, worker, ended_at, outcome, detail)
    SELECT id, 1, 'elsewhere:1:1', '', now(), state, '' FROM ingestion_part;
    ANALYZE ingestion_run, ingestion_part, ingestion_attempt, ingestion_feedstate;
"""
LISTS = {
    "the first page": "run/",
    "the hundredth page": "run/?p=99",
    "a common state": "run/?state__exact=succeeded",
    "those that failed": "run/?state__exact=failed",
    "a state that no run has": "run/?state__exact=running",
    "one feed": "run/?feed__id__exact={feed}",
    "a rare trigger": "run/?trigger__exact=admin",
    "a day": "run/?requested_at__gte={day}T00:00:00%2B00:00&requested_at__lt={next_day}T00:00:00%2B00:00",
    "a run's number": "run/?q={run}",
    "a run's page": "run/{run}/change/",
    "the feeds": "feedstate/",
    "the feeds whose last run failed": "feedstate/?last=failed",
    "a feed's page": "feedstate/{feed}/change/",
}
# What a page asks for with any number of runs: session, user, permissions, and what it shows.
MOST_QUERIES = 10
# The list is counted up to a limit; a row may be met in an index, in a table, and once more in a join.
MOST_ROWS = 2 * COUNTED_ROWS + 1_000


def test_no_list_of_the_admin_reads_the_whole_history():
    with connection.cursor() as cursor:
        cursor.execute(HISTORY)
        cursor.execute("SELECT (now() - interval '30 days')::date, (now() - interval '29 days')::date")
        day, next_day = cursor.fetchone()
    run, feed = Run.objects.order_by("pk")[RUNS // 2].pk, FeedState.objects.get(name="feed 3").pk
    client = session(*VIEWS)
    for what, path in LISTS.items():
        url = "/admin/ingestion/" + path.format(run=run, feed=feed, day=day, next_day=next_day)
        client.get(url)
        with CaptureQueriesContext(connection) as captured:
            started_at = time.process_time()
            response = client.get(url)
            took = time.process_time() - started_at
        assert response.status_code == 200
        asked = [query["sql"] for query in captured.captured_queries if query["sql"].startswith("SELECT")]
        assert len(asked) <= MOST_QUERIES, what
        for sql in asked:
            kinds, read = plan_of(sql)
            assert read <= MOST_ROWS, f"{what}: {sql} reads {read} rows: {kinds}"
        in_database = sum(float(query["time"]) for query in captured.captured_queries)
        print(f"{what}: {len(asked)} queries, {in_database * 1000:.0f} ms in the database, {took * 1000:.0f} ms of CPU")
