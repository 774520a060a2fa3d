"""A database that says "not now" or "no", or that changes under a run: faults 14 and 15."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2

from config.servers.accounts import database_account
from tests.faults.catalogue import Trial, case
from tests.faults.databases import WORKERS
from tests.faults.surroundings import Surroundings, last
from tests.processes import wait_until

END_SESSIONS = f"SELECT pg_terminate_backend(pid) FROM ({WORKERS}) AS found"


@contextlib.contextmanager
def changed(around: Surroundings, sql: str, *, undo: str) -> Iterator[None]:
    """Change the database, and change it back."""
    around.query(sql)
    try:
        yield
    finally:
        around.query(undo)


# More tries than one attempt makes.
FAILING = (
    "CREATE SEQUENCE faults_tries; CREATE FUNCTION faults_fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " IF nextval('faults_tries') <= 6 THEN RAISE EXCEPTION 'not now' USING ERRCODE = '{code}'; END IF;"
    " RETURN NULL; END $$;"
    "CREATE TRIGGER faults_fail AFTER INSERT ON faults_record FOR EACH STATEMENT EXECUTE FUNCTION faults_fail()"
)
NO_LONGER_FAILING = "DROP FUNCTION faults_fail() CASCADE; DROP SEQUENCE faults_tries"


@case(14)
def _not_now(trial: Trial) -> None:
    """40001, 40P01, 55P03 and 53300 six times in a row."""
    around = trial.around
    with around.workers():
        for code in ("40001", "40P01", "55P03", "53300"):
            around.fresh(alpha=2_000)
            with changed(around, FAILING.format(code=code), undo=NO_LONGER_FAILING):
                run = trial.trigger()
                trial.recovered.append(around.recovery_seconds(run))
                around.verdict(run)


@case(14)
def _locked(trial: Trial) -> None:
    """The target table locked by somebody else for 15 s, longer than a chunk waits."""
    around = trial.around
    with around.workers():
        run = started(trial)
        other = around.connect()
        with contextlib.closing(other), other.cursor() as cursor:
            cursor.execute("BEGIN; LOCK TABLE faults_record IN ACCESS EXCLUSIVE MODE")
            last(15)
            cursor.execute("ROLLBACK")
        trial.recovered.append(around.recovery_seconds(run))
        around.verdict(run)


@case(14)
def _deadlock(trial: Trial) -> None:
    """Somebody else updates rows of a chunk in another order, until PostgreSQL has ended a chunk with a deadlock."""
    around = trial.around
    with around.workers() as [worker]:
        around.fresh()
        around.verdict(trial.trigger())
        # Every row differs, so that each is written.
        around.query("UPDATE faults_record SET payload = 'another'")
        run = trial.trigger()
        other = around.connect()
        with contextlib.closing(other), other.cursor() as cursor:
            # Whose check comes first is refused: not this one's.
            cursor.execute("SET deadlock_timeout = '30s'; SET lock_timeout = '20s'")
            ends = [1, 100]
            while "deadlock detected" not in worker.log and not around.has_ended(run):
                ends.reverse()
                cross(around, cursor, around.read(run) // 100 * 100 + 600, *ends)
        assert "deadlock detected" in worker.log, "there was no deadlock"
        trial.recovered.append(around.recovery_seconds(run))
        around.verdict(run)


def cross(around: Surroundings, cursor: Any, before: int, first: int, second: int) -> None:
    """Write one row of a page to come, wait for a chunk that wants it, and then write another row of that page."""
    write = "UPDATE faults_record SET size = size WHERE source = 'alpha' AND number = %s"
    blocked = "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
    cursor.execute("BEGIN")
    cursor.execute(write, [before + first])
    with contextlib.suppress(AssertionError):  # the run has come to its end
        wait_until(lambda: around.query(blocked), seconds=5, what="a chunk that wants the row")
    cursor.execute(write, [before + second])
    cursor.execute("COMMIT")


@case(14)
def _read_only(trial: Trial) -> None:
    """As in a failover: all sessions end, and for 8 s the database takes no writes."""
    around = trial.around
    with around.workers():
        run = started(trial)
        read_only = "ALTER DATABASE ingestion SET default_transaction_read_only = on"
        writable = (
            "SET default_transaction_read_only = off; ALTER DATABASE ingestion RESET default_transaction_read_only"
        )
        with changed(around, read_only, undo=writable):
            around.query(END_SESSIONS)
            last(8)
        around.query(END_SESSIONS)
        trial.recovered.append(around.recovery_seconds(run))
        around.verdict(run)


@case(14)
def _no_connection_left(trial: Trial) -> None:
    """All sessions end, and for 8 s others hold every connection that the server allows."""
    around = trial.around
    with around.workers() as [worker]:
        run = started(trial)
        others: list[Any] = []
        try:
            hold_all(around, others)
            around.query(f"{END_SESSIONS} WHERE pid <> ALL (%s)", [other.info.backend_pid for other in others])
            deadline = time.monotonic() + 8
            while time.monotonic() < deadline:
                hold_all(around, others)
                time.sleep(0.01)
        finally:
            for other in others:
                other.close()
        assert "too many clients" in worker.log, "the worker met no limit"
        trial.notes.append(f"{len(others)} connections")
        trial.recovered.append(around.recovery_seconds(run))
        around.verdict(run)


def hold_all(around: Surroundings, held: list[Any]) -> None:
    """Connect until the server refuses."""
    with contextlib.suppress(psycopg2.OperationalError):
        while len(held) < 200:
            held.append(around.connect_once())


@case(14)
def _disk_full(trial: Trial) -> None:
    """The disk of the table is full in mid-run; the run fails clearly, and resumed on a bigger one it succeeds."""
    around = trial.around
    disk = around.folder / "disk"
    with around.workers(), mounted(disk, "1m"):
        around.fresh()
        around.query(f"CREATE TABLESPACE faults_disk LOCATION '{disk}'")
        try:
            around.query("ALTER TABLE faults_record SET TABLESPACE faults_disk")
            run = trial.trigger()
            error = failed(around, run, "53100")
            trial.notes.append(error)
            subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
            around.stack.manage("resume", str(run))
            around.verdict(run)
        finally:
            around.query("ALTER TABLE faults_record SET TABLESPACE pg_default")
            around.query("DROP TABLESPACE faults_disk")


@contextlib.contextmanager
def mounted(path: Path, size: str) -> Iterator[None]:
    """Mount a small disk in memory that the database's user may write; takes root."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True)
    try:
        if (account := database_account()).is_other:
            os.chown(path, account.uid, account.gid)
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
        path.rmdir()


def started(trial: Trial) -> int:
    """Return a run that has committed a chunk and goes on."""
    trial.around.fresh()
    run = trial.trigger()
    trial.around.wait_for(run)
    assert not trial.around.has_ended(run)
    return run


def failed(around: Surroundings, run: int, why: str) -> str:
    """Wait for the run to fail with this in its error and with its cursor kept; return the error."""
    wait_until(lambda: around.has_ended(run), seconds=120, what=f"the failure with {why}")
    [(state, error, cursor)] = around.query(
        "SELECT r.state, r.error, p.cursor FROM ingestion_run r JOIN ingestion_part p ON p.run_id = r.id"
        " WHERE r.id = %s", run,
    )  # fmt: skip
    assert state == "failed", state
    assert why in error, error
    assert cursor is not None
    return str(error)


# In one transaction with the change, so that nothing is committed in between.
KEEP = "LOCK TABLE faults_record; CREATE TABLE faults_kept AS TABLE faults_record; "
RESTORE = (
    "UPDATE faults_record r SET payload = k.payload FROM faults_kept k WHERE k.id = r.id;"
    " ALTER TABLE faults_record ALTER COLUMN payload SET NOT NULL"
)
NOVEL = (
    "ALTER TABLE faults_record ADD COLUMN novel text NOT NULL DEFAULT '';"
    " ALTER TABLE faults_record ALTER COLUMN novel DROP DEFAULT"
)
DRIFTS = {
    "payload": (
        f"{KEEP} ALTER TABLE faults_record DROP COLUMN payload",
        f"ALTER TABLE faults_record ADD COLUMN payload text; {RESTORE}",
    ),
    "novel": (
        f"{KEEP} {NOVEL}",
        "ALTER TABLE faults_record DROP COLUMN novel",
    ),
    "payload: ": (
        f"{KEEP} ALTER TABLE faults_record ALTER COLUMN payload TYPE integer USING 1",
        f"ALTER TABLE faults_record ALTER COLUMN payload TYPE text; {RESTORE}",
    ),
}


@case(15)
def _drift(trial: Trial) -> None:
    """A column dropped, a NOT NULL column added, a type changed; put right, the run is resumed."""
    around = trial.around
    with around.workers():
        for column, (change, undo) in DRIFTS.items():
            run = started(trial)
            with changed(around, change, undo=f"{undo}; DROP TABLE faults_kept"):
                trial.notes.append(failed(around, run, column.rstrip(": ")))
            around.stack.manage("resume", str(run))
            around.verdict(run)
