"""What can go wrong, grouped by what the caller does next.

IngestionError
├── ConfigurationError      needs a person: a feed or a setting is wrong
├── RetryLater              transient: the same request may succeed later
│   └── NotReady            nothing to do yet: what was asked for is still being made
├── RunFailed               needs a person: the remote or its data are not what the feed expects
├── RecordRejected          this record only: goes to the quarantine, the run goes on
├── RecordSkipped           nothing to do: a rule of the feed leaves this record out
├── AlreadyRunning          nothing to do: another run of the feed is active
├── WrongState              nothing to do: the run is not in a state for what was asked of it
└── PartTaken               nothing to do: somebody else advances the part
    └── GroupBusy           nothing to do: another run of the feed's group has its turn
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Literal, Self

# What of a remote a failure is laid to: the host, which cannot be reached or says that it is out of service, or one
# request, at which it fails; empty where it is neither, such as a limit of its rate.
Blame = Literal["", "request", "host"]


class IngestionError(Exception):
    """Root of the engine's own errors."""

    def rewrite(self, function: Callable[[str], str]) -> None:
        """Replace the texts of the message."""
        self.args = tuple([function(text) if isinstance(text, str) else text for text in self.args])


class ConfigurationError(IngestionError):
    """A feed or a setting is wrong; the message names it and says what to change."""


class RetryLater(IngestionError):
    """A transient failure that outlasted its quick retries.

    `wait` is the shortest time to wait before the next try, as the remote asked for, or None. `blames` says what of
    the remote has failed: its feeds wait when a host does so again and again.
    """

    def __init__(self, message: str, *, wait: timedelta | None = None, blames: Blame = "") -> None:
        super().__init__(message)
        self.wait = wait
        self.blames = blames


class NotReady(RetryLater):
    """Nothing is wrong: the remote is still making what it was asked for. The part waits, and no worker with it."""


class RunFailed(IngestionError):
    """The run cannot go on and a retry would not help. `code` is a stable, searchable reason.

    `drift` is what had changed in the source by then, of type `ingestion.drift.Change`.
    """

    drift: Sequence[Any] = ()

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message

    def rewrite(self, function: Callable[[str], str]) -> None:
        self.message = function(self.message)
        self.args = (f"{self.code}: {self.message}",)

    def within(self, what: str) -> Self:
        """Return the same failure, with what it happened in named in front of its message."""
        return type(self)(self.code, f"{what}: {self.message}")

    def proven_by(self, proof: str) -> Self:
        """Return the same failure, with what proves it after its message."""
        return type(self)(self.code, f"{self.message} ({proof})")


class RecordRejected(IngestionError):
    """One record cannot become a row.

    `reason` is a stable code (BAD_INPUT's words), `field` the column or None for the record as a whole.
    """

    def __init__(self, reason: str, *, field: str | None = None, detail: str = "") -> None:
        super().__init__(reason, field, detail)
        self.reason = reason
        self.field = field
        self.detail = detail

    def __str__(self) -> str:
        where = f" in {self.field}" if self.field else ""
        return f"{self.reason}{where}: {self.detail}" if self.detail else f"{self.reason}{where}"


class RecordSkipped(IngestionError):
    """A rule of the feed leaves the record out: it is counted, and neither loaded nor quarantined."""


class AlreadyRunning(IngestionError):
    """The feed has an active run that somebody else advances."""


class WrongState(IngestionError):
    """The run is not in a state for what was asked of it; the message says why, and what to do instead."""


class PartTaken(IngestionError):
    """The part is owned by somebody else, or was taken over: whoever sees this leaves without effect."""


class GroupBusy(PartTaken):
    """It is the turn of another run of the feed's group; the message says whose."""
