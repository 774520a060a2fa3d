"""A quick selection of the faults; `make faults` runs all of them, and the random ones with more strikes."""

import pytest

from tests.faults.cases import CASES
from tests.faults.catalogue import NotHere, Trial

pytestmark = pytest.mark.xdist_group("faults")

QUICK = [case for case in CASES if case.quick_strikes]


@pytest.mark.parametrize("case", QUICK, ids=lambda case: f"{case.fault}-{case.act.__name__.strip('_')}")
def test_nothing_is_lost_doubled_or_left(around, case):
    try:
        case.act(Trial(around, seed=1, strikes=case.quick_strikes))
    except NotHere as lack:
        pytest.skip(str(lack))
