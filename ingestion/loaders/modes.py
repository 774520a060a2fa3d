"""The write modes: what each does with the lines of a chunk, and what is left to do when the run has read everything.

A mode that finishes keeps tables of the run: they are committed with its chunks, survive whatever the run survives,
and are dropped when it succeeds. Nothing is deleted but in `finish`, which the caller calls once, after `missing` told
what would be. The caller owns the transaction.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from psycopg2 import sql

from ingestion.loaders import vanishing
from ingestion.loaders.copying import append, copy, move_sequence
from ingestion.loaders.history import Versions, add_versions
from ingestion.loaders.replacing import count_loss, exchange, lock, make_stage, merge_stage
from ingestion.loaders.tables import Cursor, Lines, Loaded, Missing, RunTables, Table, Wanted
from ingestion.loaders.upserting import Habit, upsert
from ingestion.loaders.vanishing import Scope


class Mode(Protocol):
    """What a chunk's lines become."""

    def load(self, cursor: Cursor, lines: Lines, tables: RunTables, wanted: Wanted) -> Loaded:
        """Load the lines of a chunk.

        Raises:
            django.db.Error: the database refused a line; its transaction is over.
            Exception: whatever fed the stream raised.
        """
        ...


class FinishingMode(Mode, Protocol):
    """A mode that has to do something when the run has read everything."""

    def is_open(self, cursor: Cursor, tables: RunTables) -> bool:
        """Whether the run's tables are there."""
        ...

    def open(self, cursor: Cursor, tables: RunTables) -> None:
        """Make the run's tables."""
        ...

    def note_rejected(self, cursor: Cursor, tables: RunTables, keys: list[object], *, unreadable: int) -> None:
        """Remember records that the source has and that were not loaded: by their keys, or by their number."""
        ...

    def missing(self, cursor: Cursor, tables: RunTables, *, inserted: int) -> Missing:
        """Count what `finish` would delete."""
        ...

    def finish(self, cursor: Cursor, tables: RunTables, wanted: Wanted) -> Loaded:
        """Bring the table in step with everything the run has read, and drop the run's tables.

        Raises:
            django.db.IntegrityError: rows of other tables refer to what would be deleted, or a constraint is violated.
        """
        ...

    def discard(self, cursor: Cursor, tables: RunTables) -> None:
        """Drop the run's tables."""
        ...


@dataclass(frozen=True, kw_only=True)
class Appending:
    """Every line becomes a row."""

    table: Table

    def load(self, cursor: Cursor, lines: Lines, tables: RunTables, wanted: Wanted) -> Loaded:
        """COPY the lines into the table."""
        loaded = append(cursor, self.table, lines.growing())
        move_sequence(cursor, self.table)
        return loaded


@dataclass(frozen=True, kw_only=True)
class Upserting:
    """New keys are inserted, rows that differ are updated."""

    table: Table

    @cached_property  # and no field: those are part of the feed's definition, which decides what may be skipped
    def _habit(self) -> Habit:
        return Habit()

    def load(self, cursor: Cursor, lines: Lines, tables: RunTables, wanted: Wanted) -> Loaded:
        """Merge the lines into the table."""
        loaded = upsert(cursor, self.table, lines, wanted, self._habit)
        move_sequence(cursor, self.table)
        return loaded


@dataclass(frozen=True, kw_only=True)
class Versioning:
    """Each change of a key becomes a row of its own."""

    table: Table
    versions: Versions

    def load(self, cursor: Cursor, lines: Lines, tables: RunTables, wanted: Wanted) -> Loaded:
        """Add versions of the keys whose lines differ from the current one."""
        return add_versions(cursor, self.table, self.versions, lines, wanted)


@dataclass(frozen=True, kw_only=True)
class Mirroring(Upserting):
    """As Upserting; in the end, what the run has not seen is deleted or marked."""

    scope: Scope

    def load(self, cursor: Cursor, lines: Lines, tables: RunTables, wanted: Wanted) -> Loaded:
        """Merge the lines into the table and note their keys."""
        loaded = super().load(cursor, lines, tables, wanted)
        vanishing.add_keys(cursor, self.table, tables, lines.keys, loaded=True)
        return loaded

    def is_open(self, cursor: Cursor, tables: RunTables) -> bool:
        """Whether the run's keys are there."""
        return vanishing.exists(cursor, tables.keys)

    def open(self, cursor: Cursor, tables: RunTables) -> None:
        """Make the table of the run's keys."""
        vanishing.make_keys(cursor, self.table, tables)

    def note_rejected(self, cursor: Cursor, tables: RunTables, keys: list[object], *, unreadable: int) -> None:
        """Note the keys of rejected records: the source has them."""
        vanishing.add_keys(cursor, self.table, tables, keys, loaded=False)
        vanishing.add_unreadable(cursor, self.table, tables, unreadable)

    def missing(self, cursor: Cursor, tables: RunTables, *, inserted: int) -> Missing:
        """Count what the run has not seen."""
        missing = vanishing.count_missing(cursor, self.table, [tables.keys], self.scope, inserted=inserted)
        return replace(missing, vanished=vanishing.count_vanished(cursor, self.table, tables) if missing.rows else 0)

    def finish(self, cursor: Cursor, tables: RunTables, wanted: Wanted) -> Loaded:
        """Delete or mark what the run has not seen."""
        finished = vanishing.delete_missing(cursor, self.table, [tables.keys], self.scope, wanted)
        self.discard(cursor, tables)
        return finished

    def discard(self, cursor: Cursor, tables: RunTables) -> None:
        """Drop the run's keys."""
        vanishing.drop_tables(cursor, tables)


@dataclass(frozen=True, kw_only=True)
class Replacing:
    """Lines are staged; in the end the table is made to hold them and nothing else."""

    table: Table

    def load(self, cursor: Cursor, lines: Lines, tables: RunTables, wanted: Wanted) -> Loaded:
        """COPY the lines into the run's stage; they are counted when the run finishes."""
        return Loaded(stored=copy(cursor, tables.stage, self.table.columns, lines.growing()))

    def is_open(self, cursor: Cursor, tables: RunTables) -> bool:
        """Whether the run's stage is there."""
        return vanishing.exists(cursor, tables.stage)

    def open(self, cursor: Cursor, tables: RunTables) -> None:
        """Make the run's stage, and the table of rejected keys."""
        if self.table.key:
            vanishing.make_keys(cursor, self.table, tables)
        make_stage(cursor, self.table, tables)

    def note_rejected(self, cursor: Cursor, tables: RunTables, keys: list[object], *, unreadable: int) -> None:
        """Note the keys of rejected records: their rows stay as they are."""
        if self.table.key:
            vanishing.add_keys(cursor, self.table, tables, keys, loaded=False)
            vanishing.add_unreadable(cursor, self.table, tables, unreadable)

    def missing(self, cursor: Cursor, tables: RunTables, *, inserted: int) -> Missing:
        """Count what was not staged. From here on nobody else writes to the table."""
        lock(cursor, self.table)
        if not self.table.key:
            return count_loss(cursor, self.table, tables)
        return vanishing.count_missing(cursor, self.table, self._seen(tables), Scope(), inserted=0)

    def finish(self, cursor: Cursor, tables: RunTables, wanted: Wanted) -> Loaded:
        """Make the table hold what was staged."""
        if self.table.key:
            finished = vanishing.delete_missing(cursor, self.table, self._seen(tables), Scope(), wanted)
            finished += merge_stage(cursor, self.table, tables, wanted)
        else:
            finished = exchange(cursor, self.table, tables)
        self.discard(cursor, tables)
        move_sequence(cursor, self.table)
        return finished

    def discard(self, cursor: Cursor, tables: RunTables) -> None:
        """Drop the run's stage and keys."""
        vanishing.drop_tables(cursor, tables)

    def _seen(self, tables: RunTables) -> list[sql.Identifier]:
        return [tables.stage, tables.keys]
