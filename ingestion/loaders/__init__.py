"""Lines of COPY text into tables: the SQL of staging, merging and deleting. The caller owns the transaction."""

from ingestion.loaders.copying import append, check_constraints, copy, move_sequence, prepare_transaction
from ingestion.loaders.history import Versions
from ingestion.loaders.merging import upsert
from ingestion.loaders.modes import Appending, FinishingMode, Mirroring, Mode, Replacing, Upserting, Versioning
from ingestion.loaders.tables import (
    Cursor,
    Difference,
    Lines,
    Loaded,
    Missing,
    RunTables,
    Stream,
    Table,
    Wanted,
)
from ingestion.loaders.vanishing import Mark, Scope, drop_tables, left_behind

__all__ = [
    "Appending",
    "Cursor",
    "Difference",
    "FinishingMode",
    "Lines",
    "Loaded",
    "Mark",
    "Mirroring",
    "Missing",
    "Mode",
    "Replacing",
    "RunTables",
    "Scope",
    "Stream",
    "Table",
    "Upserting",
    "Versioning",
    "Versions",
    "Wanted",
    "append",
    "check_constraints",
    "copy",
    "drop_tables",
    "left_behind",
    "move_sequence",
    "prepare_transaction",
    "upsert",
]
