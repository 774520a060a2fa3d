"""All cases: importing this module registers them."""

from tests.faults import databases, killing, messages, outages, refusals
from tests.faults.catalogue import CASES, Case

MODULES = (killing, messages, outages, databases, refusals)

__all__ = ["CASES", "MODULES", "Case"]
