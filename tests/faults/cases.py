"""All cases: importing this module registers them."""

from tests.faults import (
    beats,
    breakers,
    clocks,
    databases,
    deploys,
    files,
    killing,
    late,
    logins,
    messages,
    outages,
    phases,
    refusals,
    remotes,
    resources,
    shifting,
    shortages,
)
from tests.faults.catalogue import CASES, Case

REMOTES = (remotes, breakers, phases, logins, shifting, late, files)
MODULES = (killing, messages, outages, beats, clocks, databases, refusals, *REMOTES, resources, shortages, deploys)

__all__ = ["CASES", "MODULES", "Case"]
