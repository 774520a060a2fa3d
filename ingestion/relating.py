"""Lines with natural values of related rows to lines that refer to these rows, a whole chunk at a time.

Note [Relations]: the natural values take the place of a relation in the lines, because cleaning knows no database.
Here, in the chunk's transaction, the distinct ones of all its lines are looked up with one statement, and what refers
to the rows found is put in their place. So no write mode knows of it, and chunks of feeds without such relations come
by here not at all.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, TypeAlias

from django.db import DatabaseError, transaction

from ingestion import loaders, sqlstates
from ingestion.cleaning import key_text
from ingestion.encoding import ENCODERS, NULL, escape, unescape
from ingestion.errors import RecordRejected
from ingestion.feeds import Plan, Relation
from ingestion.loaders import Natural
from ingestion.preparation import Prepared, reject
from ingestion.types import Rejection


class _Missing(Enum):
    """What else a natural value may lead to than a row or a rejection."""

    NULL = "the line is loaded without it"
    WAIT = "another line of the chunk may be the row"


# A row's reference as text of a line; or what becomes of the line instead.
_Answer: TypeAlias = "str | RecordRejected | _Missing"


@dataclass(kw_only=True)
class Settled:
    """Pages whose lines refer to rows, those that wait for rows among them, and what became of the others."""

    pages: list[Prepared] = field(default_factory=list)
    waiting: list[Prepared] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    coercions: Counter[str] = field(default_factory=Counter)


@dataclass(kw_only=True)
class _Sheet:
    """A page, and the natural values of its lines: for each relation a list, and of what others may find them by."""

    page: Prepared
    naturals: list[list[Natural]]
    offered: list[list[Natural]]


def settle(cursor: Any, plan: Plan, pages: Sequence[Prepared], *, may_wait: bool) -> Settled:
    """Look the related rows up, or do with missing ones what the feed says.

    Holds the lines once more, and their natural values.

    Args:
        may_wait: leave lines aside whose related row may be another line of these pages.

    Raises:
        django.db.DatabaseError: the database refused, and not because of a record.
    """
    settled = Settled()
    sheets = [_sheet(page, plan) for page in pages]
    answers: list[dict[Natural, _Answer]] = []
    for number, relation in enumerate(plan.relations):
        offered = {natural for sheet in sheets for natural in sheet.offered[number]} if may_wait else set()
        found = _Answers(cursor=cursor, plan=plan, relation=relation)
        answers.append(found.to({natural for sheet in sheets for natural in sheet.naturals[number]}, offered))
        settled.coercions[f"{relation.name}:created"] += found.created
    for sheet in sheets:
        _settle_page(sheet, plan, answers, settled)
    settled.coercions += Counter()  # drops those that are zero
    return settled


def texts(page: Prepared) -> list[str]:
    """Return the lines of a page, each without its end."""
    # Not splitlines: values may hold characters that it takes for line ends, but COPY does not.
    return "".join(page.give_lines()).split("\n")[:-1]


def latest(pages: Sequence[Prepared]) -> list[Prepared]:
    """Return the pages with the last line of each key alone."""
    seen: set[Any] = set()
    kept: list[Prepared] = []
    for page in reversed(pages):
        places = [place for place in reversed(range(len(page.keys))) if _is_first(page.keys[place], seen)][::-1]
        kept.append(page if len(places) == len(page.keys) else _some(page, places))
    return kept[::-1]


def known_keys(cursor: Any, plan: Plan, keys: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return keys as the table has them; those with a related row that is not there are left out.

    Args:
        keys: the values of all key columns of the lines.
    """
    relations = [relation for relation in plan.relations if relation.key_first is not None]
    if not relations:
        return [_key([*key], (), ()) for key in keys]
    kinds = [column.kind for column in plan.columns if column.is_key]
    rows = [[ENCODERS[kind](value) for kind, value in zip(kinds, key, strict=True)] for key in keys]
    naturals = [_columns(rows, _range(relation.key_first or 0, relation)) for relation in relations]
    answers = [_find(cursor, relation, set(wanted)) for relation, wanted in zip(relations, naturals, strict=True)]
    known: list[Any] = []
    for number, key in enumerate(keys):
        found = [answer.get(wanted[number]) for answer, wanted in zip(answers, naturals, strict=True)]
        if None not in found:
            known.append(_key([*key], relations, [text for text in found if text is not None]))
    return known


def _is_first(key: Any, seen: set[Any]) -> bool:
    if key in seen:
        return False
    seen.add(key)
    return True


def _some(page: Prepared, places: Sequence[int]) -> Prepared:
    lines = texts(page)
    return replace(
        page,
        lines=[f"{lines[place]}\n" for place in places],
        keys=[page.keys[place] for place in places],
        positions=[page.positions[place] for place in places],
        remake=None,
    )


def _sheet(page: Prepared, plan: Plan) -> _Sheet:
    rows = _rows(page, plan)
    return _Sheet(
        page=page,
        naturals=[_columns(rows, _range(one.first, one)) for one in plan.relations],
        offered=[_columns(rows, one.offers) for one in plan.relations],
    )


def _rows(page: Prepared, plan: Plan) -> list[list[str]]:
    """Return the columns of each line up to the last that is looked at, and what is left of the line as one more."""
    last = max(place for one in plan.relations for place in (*_range(one.first, one), *one.offers))
    return [line.split("\t", last + 1) for line in texts(page)]


def _range(first: int, relation: Relation) -> range:
    return range(first, first + relation.width)


def _columns(rows: Sequence[list[str]], places: Sequence[int]) -> list[Natural]:
    """Return some columns of each row."""
    return list(zip(*([row[place] for row in rows] for place in places), strict=True))


@dataclass(kw_only=True)
class _Answers:
    """What takes the places of the natural values of one relation. `created` counts the rows that were made."""

    cursor: Any
    plan: Plan
    relation: Relation
    created: int = 0

    def to(self, wanted: set[Natural], offered: set[Natural]) -> dict[Natural, _Answer]:
        """Answer to each of the values wanted; those `offered` may wait."""
        answers: dict[Natural, _Answer] = {natural: NULL for natural in wanted if NULL in natural}
        wanted = wanted - answers.keys()
        answers |= _find(self.cursor, self.relation, wanted)
        missing = wanted - answers.keys()
        answers |= dict.fromkeys(missing & offered, _Missing.WAIT)
        missing -= offered
        if missing and self.relation.missing == "create":
            answers |= self._create(missing)
            missing -= answers.keys()
        for natural in missing:
            is_null = self.relation.missing == "null"
            answers[natural] = _Missing.NULL if is_null else _rejected(self.relation, natural)
        return answers

    def _create(self, missing: set[Natural]) -> dict[Natural, _Answer]:
        """Make the missing rows, all at once, or one by one where the database refuses any of them."""
        refused: dict[Natural, _Answer] = {}
        try:
            self._insert(missing)
        except DatabaseError as error:
            if not sqlstates.is_about_a_record(error):
                raise
            for natural in missing:
                if rejected := self._refusal(natural):
                    refused[natural] = rejected
        return refused | _find(self.cursor, self.relation, missing - refused.keys())

    def _refusal(self, natural: Natural) -> RecordRejected | None:
        try:
            self._insert({natural})
        except DatabaseError as error:
            if not sqlstates.is_about_a_record(error):
                raise
            detail = f"{self.relation.label} was not made: {sqlstates.message(error)}"
            return RecordRejected(sqlstates.reason(error), field=self.relation.name, detail=detail)
        return None

    def _insert(self, naturals: set[Natural]) -> None:
        with transaction.atomic(using=self.plan.using):
            plain = [tuple(map(unescape, natural)) for natural in naturals]
            created = loaders.create(self.cursor, self.relation.lookup, plain)
            loaders.check_constraints(self.cursor)
        self.created += created


def _find(cursor: Any, relation: Relation, wanted: set[Natural]) -> dict[Natural, str]:
    naturals = list(wanted)
    plain = [tuple(map(unescape, natural)) for natural in naturals]
    found = loaders.find(cursor, relation.lookup, plain)
    return {natural: escape(found[text]) for natural, text in zip(naturals, plain, strict=True) if text in found}


def _rejected(relation: Relation, natural: Natural) -> RecordRejected:
    values = ", ".join(f"{name} {unescape(value)[:40]!r}" for name, value in zip(relation.by, natural, strict=True))
    return RecordRejected("missing_relation", field=relation.name, detail=f"no {relation.label} has {values}")


def _settle_page(sheet: _Sheet, plan: Plan, answers: Sequence[dict[Natural, _Answer]], settled: Settled) -> None:
    """Add the lines of one page to what is settled: ready, waiting, or rejected."""
    # Taken apart once more: the lists of a whole chunk would take many times the memory of its text.
    page, rows = sheet.page, _rows(sheet.page, plan)
    # What each relation has for each line.
    found: list[list[Any]] = [
        list(map(answer.__getitem__, naturals)) for answer, naturals in zip(answers, sheet.naturals, strict=True)
    ]
    keys, positions = page.keys, page.positions
    if any(set(map(type, column)) != {str} for column in found):
        ready = _ready(sheet, found, plan, settled)
        found = [[NULL if column[place] is _Missing.NULL else column[place] for place in ready] for column in found]
        rows = [rows[place] for place in ready]
        keys, positions = [keys[place] for place in ready], [positions[place] for place in ready]
    if any(relation.key_first is not None for relation in plan.relations):
        is_single = sum(column.is_key for column in plan.columns) == 1
        given = ([key] if is_single else [*key] for key in keys)
        keys = [_key(key, plan.relations, texts) for key, texts in zip(given, zip(*found, strict=True), strict=True)]
    # From the last one to the first: each may become fewer columns than it was.
    for relation, column in zip(plan.relations[::-1], found[::-1], strict=True):
        place, end = relation.first, relation.first + relation.width
        for row, text in zip(rows, column, strict=True):
            row[place:end] = (text,)
    lines = ["\n".join(["\t".join(row) for row in rows]) + "\n"] if rows else []
    settled.pages.append(replace(page, lines=lines, keys=keys, positions=positions, remake=None))


def _ready(sheet: _Sheet, found: Sequence[list[_Answer]], plan: Plan, settled: Settled) -> list[int]:
    """Return the places of the lines that are ready; the others are set aside, or rejected."""
    page = sheet.page
    ready: list[int] = []
    waiting: list[int] = []
    for place, answers in enumerate(zip(*found, strict=True)):
        rejected = next((answer for answer in answers if isinstance(answer, RecordRejected)), None)
        if rejected is not None:
            position = page.positions[place]
            key = key_text(page.keys[place]) if plan.table.key else None
            raw = page.records[position]
            settled.rejections.append(reject(rejected, page=page.number, position=position, raw=raw, key=key))
        elif _Missing.WAIT in answers:
            waiting.append(place)
        else:
            ready.append(place)
            if _Missing.NULL in answers:
                pairs = zip(plan.relations, answers, strict=True)
                settled.coercions.update(f"{one.name}:null" for one, answer in pairs if answer is _Missing.NULL)
    if waiting:
        settled.waiting.append(_some(page, waiting))
    return ready


def _key(parts: list[Any], relations: Sequence[Relation], found: Sequence[str]) -> Any:
    """Return a line's key with what refers to the related rows in place of their natural values."""
    for relation, text in zip(relations[::-1], found[::-1], strict=True):
        if relation.key_first is not None:
            value = unescape(text)
            parts[relation.key_first : relation.key_first + relation.width] = [
                int(value) if relation.is_integer else value
            ]
    return parts[0] if len(parts) == 1 else tuple(parts)
