"""The oracle finds what it is there to find."""

import pytest

from tests.faults import oracle

pytestmark = pytest.mark.xdist_group("faults")

RECORDS = 200


@pytest.fixture(scope="module")
def worker(around):
    with around.workers() as [worker]:
        yield worker


@pytest.fixture
def synced(around, worker):
    around.fresh(alpha=RECORDS)
    around.verdict(around.trigger())
    return around


NO_KEY = "ALTER TABLE faults_record DROP CONSTRAINT faults_record_key; "
ONE_LESS = "; UPDATE ingestion_run SET inserted = inserted - 1, unchanged = unchanged + 1"
DAMAGES = {
    "DELETE FROM faults_record WHERE number = 7": r"\(4\) 198 rows were counted, 197",
    f"DELETE FROM faults_record WHERE number = 7{ONE_LESS}": r"\(1\) lost: 7",
    "UPDATE faults_record SET number = 1000 WHERE number = 7": r"\(1\) lost: 7",
    f"{NO_KEY} UPDATE faults_record SET number = 8 WHERE number = 7": r"\(2\) twice in the table: 8",
    "DELETE FROM ingestion_reject WHERE position > 90": r"\(4\) counters",
    "UPDATE ingestion_reject SET raw = 'other'": r"\(2\) twice in the quarantine",
    "UPDATE ingestion_reject SET raw = 'other' WHERE position > 95": r"\(1\) not in the quarantine",
    "UPDATE faults_record SET hash = 'other' WHERE number = 7": r"\(3\) changed: 7",
    "UPDATE ingestion_run SET state = 'running', finished_at = NULL": r"\(4\) not ended",
    "UPDATE ingestion_part SET owner = 'somebody'": r"\(4\) parts of ended runs",
    "UPDATE ingestion_run SET read = read + 1, unchanged = 1": r"\(4\) run \d+ read 201",
    "UPDATE ingestion_attempt SET ended_at = NULL, outcome = ''": r"\(4\) attempts that are still open",
    "CREATE TABLE ingestion_stage_1_2 (id int)": r"\(5\) staging tables",
}


@pytest.mark.parametrize(("damage", "found"), DAMAGES.items())
def test_damage_in_the_database_is_found(synced, monkeypatch, damage, found):
    monkeypatch.setattr(oracle, "PATIENCE_SECONDS", 0.2)
    # The database itself refuses some of it: its triggers sleep meanwhile.
    synced.query(f"SET session_replication_role = replica; {damage}; RESET session_replication_role")
    try:
        with pytest.raises(oracle.Broken, match=found):
            oracle.ask(synced)
    finally:
        synced.query("DROP TABLE IF EXISTS ingestion_stage_1_2; TRUNCATE faults_record")
        synced.query("ALTER TABLE faults_record DROP CONSTRAINT IF EXISTS faults_record_key")
        synced.query("ALTER TABLE faults_record ADD CONSTRAINT faults_record_key UNIQUE (source, number)")


def test_what_is_left_in_sessions_and_in_redis_is_found(synced, monkeypatch):
    monkeypatch.setattr(oracle, "PATIENCE_SECONDS", 0.2)
    other = synced.connect()
    with other, other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(1)")
        with pytest.raises(oracle.Broken, match=r"\(5\) advisory locks"):
            oracle.ask(synced)
        cursor.execute("SELECT pg_advisory_unlock(1); BEGIN")
        with pytest.raises(oracle.Broken, match=r"\(5\) sessions idle in a transaction"):
            oracle.ask(synced)
        cursor.execute("ROLLBACK")
    other.close()
    synced.broker.client.set("forgotten", "1")
    with pytest.raises(oracle.Broken, match=r"\(5\) stuck in Redis: \['forgotten'\]"):
        oracle.ask(synced)
    synced.broker.client.delete("forgotten")
    oracle.ask(synced)
