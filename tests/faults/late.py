"""Rows that become visible later than they are dated, and an incremental feed that reads them: fault 19."""

import json
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tests.faults import oracle, records
from tests.faults.catalogue import Trial, case
from tests.faults.collection import told
from tests.faults.killing import error_of
from tests.faults.surroundings import Surroundings
from tests.processes import wait_until
from tests.remote import Remote, Reply, Request

# Shorter than the overlap of the feed `dated`, which is 5 s.
LATEST_SECONDS = 2.0


@dataclass(frozen=True)
class Row:
    """A record, when it was changed by its own account, and when others see it: its transaction took that long."""

    number: int
    dated_at: datetime
    seen_at: datetime

    def text(self) -> bytes:
        return json.dumps(records.record("dated", self.number) | {"updated_at": self.dated_at.isoformat()}).encode()


class Ledger:
    """Serves what has changed since a time, a hundred rows a page, as far as it can be seen."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def answer(self, request: Request) -> Reply:
        now = datetime.now(UTC)
        since = datetime.fromisoformat(request.query.get("since", "2000-01-01T00:00:00+00:00"))
        seen = [row for row in list(self.rows) if row.seen_at <= now and row.dated_at >= since]
        seen.sort(key=lambda row: row.dated_at)
        start = (int(request.query["page"]) - 1) * 100
        body = b"[" + b",".join(row.text() for row in seen[start : start + 100]) + b"]"
        return Reply(body=body, headers={"Content-Type": "application/json"})


def write(trial: Trial, ledger: Ledger, stop: threading.Event) -> None:
    """Add a hundred rows a second until it is to stop; some have the same time as the one before."""
    number, dated_at = 0, datetime.now(UTC)
    while not stop.wait(0.01):
        number += 1
        if records.is_bad(number):
            continue
        if trial.chance.random() > 0.2:
            dated_at = datetime.now(UTC)
        late = timedelta(seconds=trial.chance.choice((0, 0, LATEST_SECONDS)) * trial.chance.random())
        ledger.rows.append(Row(number, dated_at, dated_at + late))


@case(19)
def _late_rows(trial: Trial) -> None:
    """Rows seen up to 2 s after their time, run after run for 20 s, the pool child killed: each is found."""
    around, ledger, stop = trial.around, Ledger(), threading.Event()
    writer = threading.Thread(target=write, args=(trial, ledger, stop))
    with Remote(ledger.answer) as remote, told(around, UNRULY_API_URL=remote.url), around.workers() as [worker]:
        around.fresh(dated=0)
        around.query("UPDATE ingestion_feedstate SET watermark = NULL, watermark_at = NULL")
        writer.start()
        ends_at = time.monotonic() + 20
        try:
            while time.monotonic() < ends_at:
                run = trial.trigger("dated")
                if trial.runs % 4 == 0:
                    worker.kill_child()
                ended(around, run)
        finally:
            stop.set()
            writer.join()
        last = max(row.seen_at for row in ledger.rows)
        wait_until(lambda: last < datetime.now(UTC), what="the last row")
        ended(around, trial.trigger("dated"))
        oracle.check_nothing_left(around)
    stored = dict(around.query("SELECT number, hash FROM faults_record"))
    written = {row.number: records.digest("dated", row.number) for row in ledger.rows}
    assert stored == written, f"missing: {sorted(written.keys() - stored.keys())[:10]}"
    late = sum(row.seen_at > row.dated_at for row in ledger.rows)
    trial.notes.append(f"{len(ledger.rows)} rows, {late} of them late")


def ended(around: Surroundings, run: int) -> None:
    wait_until(lambda: around.has_ended(run), what="the end of the run")
    assert around.state(run) == "succeeded", error_of(around, run)
