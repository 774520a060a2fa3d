"""Each kill point is where a run comes by: one that no longer is would strike nobody, and prove nothing."""

import pytest

from tests.faults.app.points import PLACES
from tests.faults.surroundings import until_gone

pytestmark = pytest.mark.xdist_group("faults")


def test_a_run_comes_by_every_point(around):
    """All but beat's and the one of OAuth, which cases of their own wait for."""
    around.fresh(bulky=5_000)
    with around.workers():
        armed = [around.arm(point, "hang 0") for point in PLACES if point not in ("slot-started", "refreshed")]
        around.verdict(around.trigger("bulky"))
        for point in armed:
            until_gone(point, seconds=1)
