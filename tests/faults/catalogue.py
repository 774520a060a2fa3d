"""The faults of FAULTS.md and their cases: a case does one thing to running processes and asks the oracle."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from tests.faults.surroundings import Surroundings

FAULTS: Final[dict[int, str]] = {
    1: "kill -9 of a pool child",
    2: "kill -9 of a whole worker group, OOM kill",
    3: "message lost, FLUSHALL, Redis killed without persistence",
    4: "the same message delivered twice at once, visibility timeout shorter than the task",
    5: "a worker stopped, its part taken over, then continued",
    6: "SIGTERM while running and queued, SIGKILL 10 s later",
    7: "a part that always kills its worker",
    8: "Redis frozen 30 s, resets every 2 s, full, restarted",
    9: "the broker is down at the trigger or at the slot",
    10: "garbage, a pickle, an unknown task in the queue",
    11: "beat killed after a send, two beats, beat down over three slots, Postgres restarted under beat",
    12: "DST both ways in three zones, clock jumps",
    13: "Postgres stopped at once, reply to COMMIT lost, session terminated",
    14: "lock timeout, deadlock, 40001, connection limit, read-only failover, disk full",
    15: "schema drift under a run",
    16: "connection reset, body cut, wrong Content-Length, trickle, hang",
    17: "429 and Retry-After, a storm of 5xx, a page that always fails, 401 in mid-run",
    18: "cursor loops, endless source",
    19: "records inserted and deleted while offset paging, late rows at the watermark",
    20: "the source answers with nothing, or a tenth of the usual, in mirror and replace",
    21: "a file replaced, growing or deleted while it is read, an FTP connection cut",
    22: "memory over 10,000 pages, file descriptors, temp disk full, slow commits",
    23: "old and new code at once during a deploy",
}


class NotHere(Exception):
    """This machine lacks what a case needs; the message says what. Neither passed nor failed: the case did not run."""


@dataclass
class Trial:
    """One go of a case: its randomness, how often a random one strikes, and what it measures."""

    around: Surroundings
    seed: int
    strikes: int
    chance: random.Random = field(init=False)
    runs: int = 0
    recovered: list[float] = field(default_factory=list)
    fetched_again: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def trigger(self, feed: str = "alpha") -> int:
        """Start a run that counts as one of the trial's, and return it."""
        self.runs += 1
        return self.around.trigger(feed)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A way to bring about a fault.

    Args:
        is_random: strikes at random instants, as often as the trial says; the others strike where they say.
        quick_strikes: how often it strikes among the quick tests; 0 leaves it out there.
    """

    fault: int
    name: str
    act: Callable[[Trial], None]
    is_random: bool
    quick_strikes: int


CASES: list[Case] = []
Act = TypeVar("Act", bound=Callable[[Trial], None])


def case(fault: int, *, is_random: bool = False, quick: int = 0) -> Callable[[Act], Act]:
    """Register a function as a case; its docstring is its name."""

    def register(act: Act) -> Act:
        assert act.__doc__
        name = act.__doc__.strip().rstrip(".")
        CASES.append(Case(fault=fault, name=name, act=act, is_random=is_random, quick_strikes=quick))
        return act

    return register
