"""Lines into the table in the feed's write mode; records that the database refuses are found, the others loaded."""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from django.db import DatabaseError, transaction

from ingestion import loaders, relating, sqlstates
from ingestion.cleaning import compile_key, key_text
from ingestion.collecting import Chunk
from ingestion.errors import RecordRejected, RunFailed
from ingestion.feeds import Plan, RejectLimit
from ingestion.loaders import Lines, Loaded, RunTables, Wanted
from ingestion.models import Run
from ingestion.preparation import Prepared, reject
from ingestion.streams import StringIteratorIO
from ingestion.types import Rejection

# Rows of one chunk that find each other in it are loaded in turns, parents first; deeper ones count as missing, because
# each level takes statements of its own.
LEVELS: Final = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line of a chunk and where it came from."""

    text: str
    key: Any
    page: Prepared
    position: int


@dataclass(frozen=True, kw_only=True)
class Writer:
    """What it takes to write lines: an open cursor in a transaction, the plan, the run's tables, what to return.

    `coercions` counts what was done about missing related rows.
    """

    cursor: Any
    plan: Plan
    tables: RunTables
    wanted: Wanted
    coercions: Counter[str] = field(default_factory=Counter)

    def write(self, chunk: Chunk) -> tuple[Loaded, list[Rejection]]:
        """Load the lines of the chunk, which may grow; return also the records that the database refused.

        Records without a related row are among those refused.

        Raises:
            RunFailed: COPY did not store what it was given, or the database refused too many records.
            django.db.DatabaseError: the database refused, and not because of a record.
        """
        if self.plan.relations:
            return self._write_related(chunk.loading)
        return self._write(chunk, self.wanted)

    def _write_related(self, pages: Sequence[Prepared]) -> tuple[Loaded, list[Rejection]]:
        """Look the related rows up, then load; lines whose related row is another line are loaded after that."""
        loaded, rejections = Loaded(), []
        if self.plan.table.key and any(relation.offers for relation in self.plan.relations):
            # The last line of a key wins; in turns it might come before the first.
            unique = relating.latest(pages)
            loaded, pages = Loaded(duplicates=_lines(pages) - _lines(unique)), unique
        turns, may_wait = 0, True
        while pages:
            settled = relating.settle(self.cursor, self.plan, pages, may_wait=may_wait)
            self.coercions.update(settled.coercions)
            wanted = replace(self.wanted, sample_size=max(0, self.wanted.sample_size - len(loaded.sample)))
            written, refused = self._write(Chunk(pages=list(settled.pages)), wanted)
            loaded += written
            rejections += settled.rejections + refused
            turns += 1
            pages, may_wait = settled.waiting, turns + 1 < LEVELS and _lines(settled.pages) > 0
        return loaded, rejections

    def _write(self, chunk: Chunk, wanted: Wanted) -> tuple[Loaded, list[Rejection]]:
        lines = Lines(
            open=lambda: StringIteratorIO(chunk.lines()),
            grow=lambda accept: StringIteratorIO(chunk.growing_lines(accept)),
            keys=chunk.keys,
        )
        try:
            return self._load(lines, wanted), []
        except DatabaseError as error:
            if not sqlstates.is_about_a_record(error):
                raise
        latest = latest_lines(chunk.loading, by_key=bool(self.plan.table.key))
        if self.plan.own_references:
            latest = parents_first(latest, self.plan.own_references)
        refused: list[Rejection] = []
        loaded = self._halve(latest, refused)
        return replace(loaded, duplicates=loaded.duplicates + len(chunk.keys) - len(latest)), refused

    def _load(self, lines: Lines, wanted: Wanted) -> Loaded:
        with transaction.atomic(using=self.plan.using):
            loaded = self.plan.mode.load(self.cursor, lines, self.tables, wanted)
            check_stored(loaded, len(lines.keys))
            # A chunk of unchanged rows has nothing to check, and is spared the statement.
            if loaded.inserted or loaded.updated or loaded.deleted:
                loaders.check_constraints(self.cursor)
        return loaded

    def _halve(self, lines: list[Line], refused: list[Rejection]) -> Loaded:
        """Load the lines; where the database refuses, leave the line out that COPY names, else try halves."""
        if not lines:
            return Loaded()
        texts, keys = [line.text for line in lines], [line.key for line in lines]
        # The differences of a chunk that is taken apart would come in pieces; a dry run shows those of the others.
        wanted = replace(self.wanted, sample_size=0)
        try:
            return self._load(Lines(open=lambda: StringIteratorIO(iter(texts)), keys=keys), wanted)
        except DatabaseError as error:
            if not sqlstates.is_about_a_record(error):
                raise
            number = 1 if len(lines) == 1 else sqlstates.copy_line(error)
            if number is None:
                half = len(lines) // 2
                return self._halve(lines[:half], refused) + self._halve(lines[half:], refused)
            refused.append(_refusal(lines[number - 1], error, self.plan))
            if len(refused) > self.plan.feed.reject_limit.records:
                many = f"the database refused more than {len(refused) - 1} records of one chunk"
                raise RunFailed("reject_limit", f"{many}: {reasons(refused)}") from error
        return self._halve(lines[: number - 1] + lines[number:], refused)


def check_stored(loaded: Loaded, lines: int | None = None) -> None:
    """Refuse a load that is not what was sent.

    Raises:
        RunFailed: `copy_mismatch`.
    """
    if lines is not None and loaded.stored != lines:
        raise RunFailed("copy_mismatch", f"COPY stored {loaded.stored} rows of {lines}; nothing was committed")
    if loaded.lost:
        raise RunFailed(
            "copy_mismatch",
            f"{loaded.lost} rows were written and are not in the table, a trigger or rule drops them; "
            "nothing was committed",
        )


def latest_lines(pages: Sequence[Prepared], *, by_key: bool) -> list[Line]:
    """Return the pages line by line; of each key the last one, where there are keys."""
    latest: dict[Hashable, Line] = {}
    for page in pages:
        for text, key, position in zip(relating.texts(page), page.keys, page.positions, strict=True):
            name = key if by_key else len(latest)
            latest.pop(name, None)
            latest[name] = Line(text=f"{text}\n", key=key, page=page, position=position)
    return list(latest.values())


def parents_first(lines: list[Line], references: Sequence[tuple[int, int]]) -> list[Line]:
    """Return the lines with those that others refer to before them, so that a half holds no child without its parent.

    Args:
        references: places in a line of a value that refers to another line, and of what it refers to there.
    """
    rows = [line.text[:-1].split("\t") for line in lines]
    parents: dict[int, list[int]] = {number: [] for number in range(len(rows))}
    for place, target in references:
        offered = {row[target]: number for number, row in enumerate(rows)}
        for number, row in enumerate(rows):
            if row[place] in offered:
                parents[number].append(offered[row[place]])
    return [lines[number] for number in _after_parents(parents)]


def _after_parents(parents: dict[int, list[int]]) -> Iterator[int]:
    """Yield every number once, its parents before it but where they go round in a circle."""
    visited: set[int] = set()
    for start in parents:
        stack = [(start, False)]
        while stack:
            number, are_parents_done = stack.pop()
            if are_parents_done:
                yield number
            elif number not in visited:
                visited.add(number)
                stack += [(number, True), *((parent, False) for parent in parents[number])]


def _refusal(line: Line, error: DatabaseError, plan: Plan) -> Rejection:
    rejected = RecordRejected(sqlstates.reason(error), field=sqlstates.field(error), detail=sqlstates.message(error))
    raw = line.page.records[line.position]
    key = key_text(line.key) if plan.table.key else None
    if any(relation.key_first is not None for relation in plan.relations):
        # The line's key refers to a row by now; rejects have what the record has.
        key = compile_key(plan.columns, plan.feed.rules)(raw)
    return reject(rejected, page=line.page.number, position=line.position, raw=raw, key=key)


def check_reject_limit(run: Run, limit: RejectLimit, rejections: list[Rejection]) -> None:
    """Refuse a run with more rejects than the feed allows.

    Raises:
        RunFailed: `reject_limit`, with the commonest reasons.
    """
    if run.rejected > limit.records and run.rejected > limit.share * run.read:
        raise RunFailed(
            "reject_limit",
            f"{run.rejected} of {run.read} records were rejected; in the last chunk: {reasons(rejections)}",
        )


def _lines(pages: Sequence[Prepared]) -> int:
    return sum(len(page.keys) for page in pages)


def reasons(rejections: list[Rejection]) -> str:
    """Summarise rejects for a message: the commonest reasons, and where the first one is."""
    common = Counter(f"{r.reason} in {r.field}" if r.field else r.reason for r in rejections).most_common(3)
    first = rejections[0]
    counted = ", ".join(f"{count} × {reason}" for reason, count in common)
    return f"{counted}; the first is record {first.position} of page {first.page}: {first.detail}"
