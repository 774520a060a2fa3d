"""All cases: importing this module registers them."""

from tests.faults import (
    beats,
    databases,
    files,
    killing,
    logins,
    messages,
    outages,
    phases,
    refusals,
    remotes,
    resources,
    shifting,
)
from tests.faults.catalogue import CASES, Case

MODULES = (killing, messages, outages, beats, databases, refusals, remotes, phases, logins, shifting, files, resources)

__all__ = ["CASES", "MODULES", "Case"]
