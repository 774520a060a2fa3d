"""All cases: importing this module registers them."""

from tests.faults import databases, killing, messages
from tests.faults.catalogue import CASES, Case

MODULES = (killing, messages, databases)

__all__ = ["CASES", "MODULES", "Case"]
