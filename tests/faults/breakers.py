"""A host that is out of service for all its feeds: fault 17."""

import time

from tests.faults.catalogue import Trial, case
from tests.processes import wait_until

OPEN = "SELECT probes FROM ingestion_host WHERE opened_at IS NOT NULL"
# Attempts at any parts that were under way at the same time, both begun after the breaker was opened.
AT_ONCE = """
SELECT count(*) FROM ingestion_attempt one JOIN ingestion_attempt other ON one.id < other.id
 AND tstzrange(one.taken_at, one.ended_at) && tstzrange(other.taken_at, other.ended_at)
 JOIN ingestion_host host ON one.taken_at > host.opened_at AND other.taken_at > host.opened_at
"""


@case(17)
def _out_of_service(trial: Trial) -> None:
    """503 to two feeds of a host until a probe has failed, Redis emptied meanwhile: they wait, both go on."""
    around = trial.around
    with around.workers(2):
        around.fresh(alpha=2_000, beta=2_000)
        around.serve(refusals=[(503, {})] * 10_000)
        runs = [trial.trigger("alpha"), trial.trigger("beta")]
        wait_until(lambda: around.query(OPEN), seconds=90, what="the breaker's opening")
        wait_until(lambda: {around.state(run) for run in runs} == {"waiting"}, what="the waits of both feeds")
        around.broker.client.flushall()
        wait_until(lambda: around.query(OPEN)[0][0], seconds=60, what="a probe that fails")
        assert around.query(AT_ONCE) == [(0,)], "two parts asked a host whose breaker was open"
        burnt = around.query("SELECT max(attempts) FROM ingestion_part")
        assert burnt[0][0] <= 2, "a wait for the host has used up attempts"
        around.serve()
        began = time.monotonic()
        for run in runs:
            around.wait_for(run)
            trial.recovered.append(time.monotonic() - began)
        around.verdict(*runs)
        assert around.query(OPEN) == []
