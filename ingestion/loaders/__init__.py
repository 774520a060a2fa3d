"""Lines of COPY text into tables: the SQL of staging, merging and deleting. The caller owns the transaction."""

from ingestion.loaders.copying import (
    IDLE_TIMEOUT,
    LOCK_TIMEOUT,
    append,
    check_constraints,
    copy,
    make_durable,
    move_sequence,
    prepare_transaction,
    set_local,
)
from ingestion.loaders.history import Versions
from ingestion.loaders.imprints import Imprint, report_writes, take_imprint
from ingestion.loaders.lookups import Filler, Lookup, Natural, create, find
from ingestion.loaders.modes import Appending, FinishingMode, Mirroring, Mode, Replacing, Upserting, Versioning
from ingestion.loaders.sessions import end_sessions
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
from ingestion.loaders.upserting import upsert
from ingestion.loaders.vanishing import Mark, Scope, drop_tables, left_behind

__all__ = [
    "IDLE_TIMEOUT",
    "LOCK_TIMEOUT",
    "Appending",
    "Cursor",
    "Difference",
    "Filler",
    "FinishingMode",
    "Imprint",
    "Lines",
    "Loaded",
    "Lookup",
    "Mark",
    "Mirroring",
    "Missing",
    "Mode",
    "Natural",
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
    "create",
    "drop_tables",
    "end_sessions",
    "find",
    "left_behind",
    "make_durable",
    "move_sequence",
    "prepare_transaction",
    "report_writes",
    "set_local",
    "take_imprint",
    "upsert",
]
