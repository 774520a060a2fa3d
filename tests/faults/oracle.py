"""The oracle: after any fault, when all is quiet, whether anything was lost, doubled, changed, stuck or left.

The numbers are those of the six demands: (1) nothing lost, (2) nothing twice, (3) nothing changed, (4) every run ended
and adds up, (5) nothing left behind, (6) no hand was needed, which holds because the tests lend none.
"""

from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.faults import records
from tests.processes import wait_until

if TYPE_CHECKING:
    from tests.faults.surroundings import Surroundings


# Feeds that have a table of their own.
TABLES = {"replaced": "faults_replaced", "bulky": "faults_numbered"}
# How long what ends by itself may take: a session that is being closed, a message on its way.
PATIENCE_SECONDS = 15.0


class Broken(AssertionError):
    """What the oracle found; the message begins with the number of the demand."""


def demand(number: int, is_met: bool, what: str) -> None:
    if not is_met:
        raise Broken(f"({number}) {what}")


def ask(around: "Surroundings") -> None:
    """Check all demands; for (5) it waits a little for what ends by itself.

    Raises:
        Broken: a demand is not met.
    """
    check_runs(around)
    for (source,) in around.query(
        "SELECT name FROM ingestion_feedstate WHERE id IN (SELECT feed_id FROM ingestion_run)"
    ):
        check_records(around, source)
    check_nothing_left(around)


def check_records(around: "Surroundings", source: str) -> None:
    """Compare table and quarantine with what the source has: demands 1, 2 and 3."""
    total = around.totals[source]
    good = {number for number in range(1, total + 1) if not records.is_bad(number)}
    table = TABLES.get(source, "faults_record")
    stored = around.query(f"SELECT number, payload, hash FROM {table} WHERE source = %s", source)
    # Of each run's rejects: every run meets the bad records again.
    rejected = around.query(
        "SELECT r.run_id, r.raw FROM ingestion_reject r JOIN ingestion_feedstate f ON f.id = r.feed_id"
        " JOIN ingestion_run u ON u.id = r.run_id WHERE f.name = %s AND u.state = 'succeeded'", source,
    )  # fmt: skip
    numbers = Counter(number for number, _, _ in stored)
    demand(
        2, max(numbers.values(), default=1) == 1, f"twice in the table: {_some(n for n in numbers if numbers[n] > 1)}"
    )
    bad = Counter((run, bytes(raw)) for run, raw in rejected)
    if source not in around.again:
        demand(2, max(bad.values(), default=1) == 1, f"twice in the quarantine: {_some(r for r in bad if bad[r] > 1)}")
    demand(1, good <= numbers.keys(), f"lost: {_some(good - numbers.keys())}")
    demand(2, numbers.keys() <= good, f"in the table, and never served: {_some(numbers.keys() - good)}")
    served = {records.text(source, number) for number in range(1, total + 1) if records.is_bad(number)}
    for run in {run for run, _ in bad} or {None}:
        found = {raw for of, raw in bad if of == run}
        demand(1, served <= found, f"not in the quarantine: {_some(served - found)}")
        demand(3, found <= served, f"changed in the quarantine: {_some(found - served)}")
    changed = [n for n, text, digest in stored if (text, digest) != _good(source, n)]
    demand(3, not changed, f"changed: {_some(changed)}")


def _good(source: str, number: int) -> tuple[str, str]:
    return records.payload(source, number), records.digest(source, number)


def check_runs(around: "Surroundings") -> None:
    """Compare counters, states and tables: demand 4."""
    active = around.query("SELECT id, state FROM ingestion_run WHERE finished_at IS NULL")
    demand(4, not active, f"not ended: {active}")
    parts = around.query(
        "SELECT p.id, p.state, p.owner FROM ingestion_part p JOIN ingestion_run r ON r.id = p.run_id"
        " WHERE p.state IN ('queued', 'running', 'waiting') OR p.owner <> '' OR p.leased_until IS NOT NULL"
        " OR (r.state = 'succeeded' AND p.state <> 'succeeded')"
    )
    demand(4, not parts, f"parts of ended runs: {parts}")
    attempts = around.query("SELECT id, part_id FROM ingestion_attempt WHERE ended_at IS NULL")
    demand(4, not attempts, f"attempts that are still open: {attempts}")
    wrong = around.query(
        "SELECT r.id, f.name, read, inserted, updated, unchanged, duplicates, rejected FROM ingestion_run r"
        " JOIN ingestion_feedstate f ON f.id = r.feed_id WHERE"
        # What was read for a replacement that did not take place was neither inserted nor anything else.
        " (read <> inserted + updated + unchanged + duplicates + rejected AND NOT"
        " (r.state <> 'succeeded' AND f.name = 'replaced'))"
        " OR (SELECT count(*) FROM ingestion_reject j WHERE j.run_id = r.id) <> rejected"
        " OR started_at > finished_at OR requested_at > started_at"
    )
    demand(4, not wrong, f"counters or times that do not add up: {wrong}")
    for run, name, read in around.query(
        "SELECT r.id, f.name, read FROM ingestion_run r JOIN ingestion_feedstate f ON f.id = r.feed_id"
        " WHERE r.state = 'succeeded'"
    ):
        total = around.totals[name]
        is_all = read > total if name in around.again else read == total
        demand(4, is_all, f"run {run} read {read} of {total} records")
    [(inserted,)] = around.query("SELECT coalesce(sum(inserted - deleted), 0) FROM ingestion_run")
    stored = sum(around.query(f"SELECT count(*) FROM {table}")[0][0] for table in ("faults_record", *TABLES.values()))
    demand(4, inserted == stored, f"{inserted} rows were counted, {stored} are stored")


LOCKS = "SELECT pid, objid FROM pg_locks WHERE locktype = 'advisory'"
IDLE = (
    "SELECT pid, state, query FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND datname = 'ingestion'"
)
STAGING = (
    "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r'"
    " AND (n.nspname LIKE 'pg_temp%' OR c.relname LIKE 'ingestion_stage_%' OR c.relname LIKE 'ingestion_keys_%')"
)


def check_nothing_left(around: "Surroundings") -> None:
    """Look for locks, sessions, staging and messages: demand 5.

    Messages of killed workers stay unacknowledged until the visibility timeout, an hour: its end is brought about here,
    and what is then delivered again must change nothing.
    """
    _none(around, LOCKS, "advisory locks")
    _none(around, IDLE, "sessions idle in a transaction")
    _none(around, STAGING, "staging tables")
    before = _fingerprint(around)
    if around.broker.left():
        around.broker.let_time_out()
    try:
        wait_until(lambda: not _messages(around), seconds=PATIENCE_SECONDS)
    except AssertionError:
        raise Broken(f"(5) stuck in Redis: {_messages(around)}") from None
    demand(5, _fingerprint(around) == before, "messages that were delivered again changed something")


def _messages(around: "Surroundings") -> list[str]:
    # Workers send each other dispatch every few seconds, which may be on its way at any time.
    waiting = [text for text in around.broker.client.lrange("ingestion", 0, -1) if "worker.dispatch" not in text]
    unacked = [text for text in around.broker.client.hvals("unacked") if "worker.dispatch" not in text]
    others = set(around.broker.left()) - {"ingestion", "unacked", "unacked_index", "unacked_mutex"}
    return waiting + unacked + sorted(others)


def _fingerprint(around: "Surroundings") -> list[tuple[Any, ...]]:
    return around.query(
        "SELECT (SELECT count(*) FROM faults_record), (SELECT count(*) FROM ingestion_reject),"
        " (SELECT string_agg(r::text, ';' ORDER BY id) FROM ingestion_run r),"
        " (SELECT string_agg(p.id || state || epoch, ';' ORDER BY p.id) FROM ingestion_part p)"
    )


def _none(around: "Surroundings", sql: str, what: str) -> None:
    try:
        wait_until(lambda: not around.query(sql), seconds=PATIENCE_SECONDS)
    except AssertionError:
        raise Broken(f"(5) {what}: {around.query(sql)}") from None


def _some(found: Any) -> str:
    listed = sorted(found, key=str)
    return ", ".join(map(str, listed[:5])) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
