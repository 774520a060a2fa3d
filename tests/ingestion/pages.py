"""The admin's windows as the tests read them, and rows to show there."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape

from ingestion.models import FeedState, Reject, Run, State, Trigger

FEEDS, RUNS, REJECTS = LISTS = [f"/admin/ingestion/{model}/" for model in ("feedstate", "run", "reject")]
AT = datetime(2026, 11, 22, 3, 4, 5, tzinfo=UTC)


def make_run(feed: FeedState, state: State = State.SUCCEEDED, **fields) -> Run:
    ended = {"finished_at": AT + timedelta(seconds=75)} if state in ("succeeded", "failed", "cancelled") else {}
    fields = {"trigger": Trigger.SCHEDULE, "requested_at": AT, "started_at": AT} | ended | fields
    return Run.objects.create(feed=feed, state=state, **fields)


def make_reject(run: Run, raw: bytes = b"{}", **fields) -> Reject:
    fields = {"reason": "too_long", "page": 3, "position": 17, "size_bytes": len(raw), "digest": "d" * 64} | fields
    return Reject.objects.create(feed=run.feed, run=run, raw=raw, **fields)


def text(client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return response.text


def cells(client, url: str) -> list[dict[str, str]]:
    """Return the rows of a list: the text of each cell by its column, white space and tags removed."""
    found = []
    body = re.search(r"<tbody>(.*?)</tbody>", text(client, url), re.DOTALL)
    for row in re.findall(r"<tr>(.*?)</tr>", body[1] if body else "", re.DOTALL):
        columns = re.findall(r'<t[hd] class="(?:nowrap )?(?:field-)?(\S+?)(?: nowrap)?">(.*?)</t[hd]>', row, re.DOTALL)
        found.append({name: " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split()) for name, html in columns})
    return found


def page_of(instance) -> str:
    return f"/admin/ingestion/{instance._meta.model_name}/{instance.pk}/change/"
