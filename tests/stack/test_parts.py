"""A run of several parts by several real workers, one of them killed in the middle."""

import threading
import time

import pytest

from photos.sample_api import photo
from tests.processes import running_stack, wait_until
from tests.remote import Remote, json_pages

# 24 ranges of one page; each page takes a moment, so that a kill finds parts under way.
PAGES, PAGE_SECONDS = 24, 0.1
FEEDS = """
from ingestion.feeds import Feed, Mirror, env_url
from ingestion.pagination import PageNumber
from ingestion.parts import PageRanges
from ingestion.sources import JsonApi
from photos.models import Photo

RANGES = Feed(
    name="ranges",
    source=JsonApi(
        url=env_url("PHOTOS_API_URL", "/photos"),
        pagination=PageNumber(param="_page", size_param="_limit", size=100, total_header="X-Total-Count"),
    ),
    columns={"remote_id": "id", "album_id": "albumId", "title": "title", "url": "url", "thumbnail_url": "thumbnailUrl",
             "raw_data": "id"},
    target=Mirror(Photo, key="remote_id", allow_delete_share=1),
    parts=PageRanges(pages=1),
    parts_at_once=2,
)
"""


@pytest.fixture
def remote():
    served = json_pages([photo(n) for n in range(1, PAGES * 100 + 1)])
    at_once, lock = [0, 0], threading.Lock()

    def slowly(request):
        with lock:
            at_once[0] += 1
            at_once[1] = max(at_once)
        time.sleep(PAGE_SECONDS)
        with lock:
            at_once[0] -= 1
        return served(request)

    with Remote(slowly) as remote:
        remote.most_at_once = lambda: at_once[1]
        yield remote


def test_workers_share_a_run_and_one_that_is_killed_is_replaced(tmp_path, remote):
    app = tmp_path / "app/divided"
    app.mkdir(parents=True)
    (app / "__init__.py").touch()
    (app / "feeds.py").write_text(FEEDS)
    variables = {"EXTRA_APPS": "divided", "PYTHONPATH": str(app.parent), "PHOTOS_API_URL": remote.url}
    with running_stack(tmp_path / "data", **variables) as stack:
        stack.query("INSERT INTO photos (remote_id, album_id, title, url, thumbnail_url, raw_data)"
                    " VALUES (9999, 1, '', '', '', '{}') RETURNING 1", commit=True)  # fmt: skip
        workers = [stack.start_worker("-n", f"{name}@%h") for name in ("first", "second", "third")]
        run = stack.summary("trigger", "ranges", "--json")["run"]
        ended = f"SELECT count(*) FROM ingestion_part WHERE run_id = {run} AND state = 'succeeded'"
        wait_until(lambda: stack.query(ended)[0][0] >= 4, what="the first parts")
        stack.stop(workers[0], kill=True)
        found = f"SELECT state, read, inserted, deleted FROM ingestion_run WHERE id = {run} AND finished_at IS NOT NULL"
        total = PAGES * 100
        assert wait_until(lambda: stack.query(found), what="the end") == [("succeeded", total, total, 1)]
        parts = f"SELECT count(*), count(DISTINCT share::text) FROM ingestion_part WHERE run_id = {run}"
        assert stack.query(parts) == [(PAGES, PAGES)]
        assert stack.query("SELECT count(*), count(DISTINCT remote_id) FROM photos") == [(total, total)]
        names = stack.query("SELECT count(DISTINCT worker) FROM ingestion_attempt")
        assert names[0][0] >= 2, "one worker did it all"
    # A killed worker's request may still be answered while its part's next one is.
    assert remote.most_at_once() in (2, 3)
