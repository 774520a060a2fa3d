"""What is remembered: feeds' state, runs, parts, rejects, files. Rules live in the database; nothing orchestrates."""

from ingestion.models.feeds import FeedState, WatermarkMove
from ingestion.models.memory import Memory, RememberedPages, SourceFile
from ingestion.models.parts import Attempt, Part
from ingestion.models.rejects import Reject
from ingestion.models.remotes import Credential, Host
from ingestion.models.runs import Run, RunTraces, Slot
from ingestion.models.states import ACTIVE, ENDED, TURN, Outcome, Resolution, State, Trigger

__all__ = [
    "ACTIVE",
    "ENDED",
    "TURN",
    "Attempt",
    "Credential",
    "FeedState",
    "Host",
    "Memory",
    "Outcome",
    "Part",
    "Reject",
    "RememberedPages",
    "Resolution",
    "Run",
    "RunTraces",
    "Slot",
    "SourceFile",
    "State",
    "Trigger",
    "WatermarkMove",
]
