"""All cases: importing this module registers them."""

from tests.faults import beats, databases, killing, messages, outages, refusals
from tests.faults.catalogue import CASES, Case

MODULES = (killing, messages, outages, beats, databases, refusals)

__all__ = ["CASES", "MODULES", "Case"]
