"""A database that ends under a run, or whose answers are lost: fault 13."""

from tests.faults.catalogue import Trial, case
from tests.faults.killing import RECOVERY_SECONDS, resets, strike_until_done
from tests.faults.surroundings import until_gone
from tests.processes import wait_until

WORKERS = (
    "SELECT pid FROM pg_stat_activity WHERE datname = 'ingestion' AND pid <> pg_backend_pid()"
    " AND backend_type = 'client backend'"
)


@case(13, is_random=True)
def _stopped_at_random(trial: Trial) -> None:
    """`pg_ctl stop -m immediate` at random instants; the database is back as soon as it has recovered."""
    around = trial.around
    with around.workers():

        def strike() -> bool:
            around.stop_database_at_once()
            return True

        strike_until_done(trial, strike)


@case(13, quick=1)
def _stopped_in_the_copy(trial: Trial) -> None:
    """`pg_ctl stop -m immediate` in the middle of a COPY, and between COPY and COMMIT."""
    around = trial.around
    with around.workers():
        for point in ("copying", "copied", "committing"):
            around.fresh(alpha=2_000)
            run = trial.trigger()
            around.wait_for(run)
            until_gone(around.arm(point, "hang 1"))
            around.stop_database_at_once()
            trial.recovered.append(around.recovery_seconds(run))
            around.verdict(run)
    assert max(trial.recovered) < RECOVERY_SECONDS


@case(13, is_random=True)
def _sessions_terminated(trial: Trial) -> None:
    """`pg_terminate_backend` of all sessions of the worker at random instants."""
    around = trial.around
    with around.workers():

        def strike() -> bool:
            return bool(around.query(f"SELECT pg_terminate_backend(pid) FROM ({WORKERS}) AS found"))

        strike_until_done(trial, strike)


@case(13, is_random=True, quick=3)
def _reply_to_commit_lost(trial: Trial) -> None:
    """The reply to a COMMIT lost, of any transaction, at random instants."""
    around = trial.around
    with around.workers():

        def strike() -> bool:
            around.to_database.lose_reply_to(lambda block: b"COMMIT" in block)
            wait_until(lambda: around.to_database.has_lost, what="a COMMIT")
            return True

        strike_until_done(trial, strike)


@case(13, is_random=True)
def _connections_reset(trial: Trial) -> None:
    """All connections to the database reset at random instants, every other time while new ones are refused for 2 s."""
    around = trial.around
    with around.workers():
        strike_until_done(trial, resets(trial, around.to_database, refused_seconds=2))
