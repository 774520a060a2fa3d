"""What runs, parts, attempts and rejects may be in."""

from django.db import models


class State(models.TextChoices):
    """Where a run or a part is. The first three are active, the others are ends."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE = (State.QUEUED, State.RUNNING, State.WAITING)
ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELLED)

# What a part waits for that waits without a time: another part of its run has to end first.
TURN = "its turn"


class Trigger(models.TextChoices):
    """Who asked for a run."""

    SCHEDULE = "schedule"
    ADMIN = "admin"
    COMMAND = "command"
    REPLAY = "replay"
    # A period of a feed's past, beside its other runs.
    BACKFILL = "backfill"


class Outcome(models.TextChoices):
    """How an attempt at a part ended: where it left the part, or that its process was given up."""

    RELEASED = "released", "slice over, given back"
    WAITING = "waiting", "failed, to be tried again"
    SUCCEEDED = "succeeded", "succeeded"
    FAILED = "failed", "failed"
    CANCELLED = "cancelled", "cancelled"
    LOST = "lost", "its process is gone or did not renew its lease"


class Resolution(models.TextChoices):
    """How a reject was settled."""

    SUPERSEDED = "superseded", "a newer version of the record was loaded"
    REPLAYED = "replayed", "the record was replayed; a reject of that run tells if it was refused again"
