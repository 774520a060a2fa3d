"""Drift: what the records of a source have and had, and what changed. Pure, no I/O."""

from ingestion.drift.shapes import (
    Change,
    Shape,
    change_from_json,
    changes,
    describe,
    drop_vanished,
    from_json,
    merge,
    outline,
    to_json,
)
from ingestion.drift.watching import Watch

__all__ = [
    "Change",
    "Shape",
    "Watch",
    "change_from_json",
    "changes",
    "describe",
    "drop_vanished",
    "from_json",
    "merge",
    "outline",
    "to_json",
]
