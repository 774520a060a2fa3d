"""All cases: importing this module registers them."""

from tests.faults import beats, databases, killing, messages, outages, refusals, remotes, resources
from tests.faults.catalogue import CASES, Case

MODULES = (killing, messages, outages, beats, databases, refusals, remotes, resources)

__all__ = ["CASES", "MODULES", "Case"]
