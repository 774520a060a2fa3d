"""All cases: importing this module registers them."""

from tests.faults import (
    beats,
    databases,
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
)
from tests.faults.catalogue import CASES, Case

REMOTES = (remotes, phases, logins, shifting, late, files)
MODULES = (killing, messages, outages, beats, databases, refusals, *REMOTES, resources)

__all__ = ["CASES", "MODULES", "Case"]
