"""System checks: wrong feeds are found by `manage.py check`, each with an id, a message and a hint.

| id | what it found |
|---|---|
| ingestion.E001 | two feeds with one name |
| ingestion.E002 | a name that cannot be used |
| ingestion.E003 | a column that the model does not have |
| ingestion.E004 | a key that no unique constraint covers |
| ingestion.E005 | a key that the feed does not fill |
| ingestion.E006 | a required column that neither the feed nor the database fills |
| ingestion.E007 | a column type the engine does not know |
| ingestion.E008 | a model outside the database that holds the runs |
| ingestion.E009 | a name PostgreSQL would cut |
| ingestion.E010 | a rule that does not fit the column's type |
| ingestion.E011 | a default that the column cannot hold |
| ingestion.E012 | a rule with an option that cannot be used |
| ingestion.E013 | a target whose own fields or limits do not fit |
| ingestion.E014 | a policy for drift that there is not |
| ingestion.E015 | parts that the source cannot be cut into |
| ingestion.E016 | a related row that cannot be found as the feed says |
| ingestion.E017 | a missing related row that cannot become what the feed says |
| ingestion.E018 | a source that leaves records out which its target takes for gone |
| ingestion.E019 | unchanged pages that cannot be skipped with this target or source |
| ingestion.E020 | a group's name that cannot be used |
| ingestion.E021 | an incremental feed whose source, target or values do not fit |
| ingestion.W001 | unchanged pages that will not be skipped, because the feed's definition cannot be compared |
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004 - Django's name
from django.db import models, router
from django.db.models import Q

from ingestion import cleaning, feeds
from ingestion.cleaning import Rule
from ingestion.errors import ConfigurationError
from ingestion.feeds import (
    Append,
    Feed,
    History,
    Incomparable,
    Mirror,
    ModelField,
    Plan,
    Replace,
    SoftDelete,
    Target,
    Upsert,
)
from ingestion.models import Run
from ingestion.parts import Windows
from ingestion.sources import Files, SkippingSource

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
# PostgreSQL cuts identifiers at NAMEDATALEN - 1 bytes without an error.
_IDENTIFIER_BYTES = 63


def register_checks() -> None:
    """Register the checks with Django; called once when the app is ready."""
    register(check_feeds, "ingestion")


def check_feeds(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Check every declared feed."""
    return [*problems(feeds.declared())]


def problems(declared: Sequence[Feed]) -> Iterator[CheckMessage]:
    """Check feeds against each other and against their models, without touching the database."""
    yield from _check_names(declared)
    for feed in declared:
        if feed.drift not in feeds.DRIFT_POLICIES:
            known = ", ".join(map(repr, feeds.DRIFT_POLICIES))
            yield _error(feed, "E014", f"drift is {feed.drift!r}.", f"It is one of {known}.")
        found = [*_check_columns(feed), *_check_key(feed), *_check_target(feed), *_check_table(feed)]
        found += [*_check_parts(feed), *_check_source(feed), *_check_skipping(feed), *_check_incremental(feed)]
        yield from found or _check_resolved(feed)


def _check_names(declared: Sequence[Feed]) -> Iterator[Error]:
    for name, count in Counter(feed.name for feed in declared).items():
        if count > 1:
            yield Error(
                f"{count} feeds are named {name!r}.",
                hint="Give each feed a name of its own: runs, cursors and schedules are kept by name.",
                obj=name,
                id="ingestion.E001",
            )
        if not _NAME.fullmatch(name):
            yield Error(
                f"The feed name {name!r} cannot be used.",
                hint="Use 1 to 100 letters, digits, '-' and '_', beginning with a letter or digit.",
                obj=name,
                id="ingestion.E002",
            )
    for feed in declared:
        if feed.group and not _NAME.fullmatch(feed.group):
            hint = "Use 1 to 100 letters, digits, '-' and '_', beginning with a letter or digit."
            yield _error(feed, "E020", f"The group {feed.group!r} cannot be used.", hint)


def _check_columns(feed: Feed) -> Iterator[Error]:
    model = feed.target.model
    known = feeds.columns_of(model)
    for name, rule in feed.columns.items():
        if name not in known:
            yield _error(
                feed, "E003", f"{model._meta.label} has no column {name!r}.", f"Its columns: {', '.join(known)}."
            )
        else:
            yield from _check_type(feed, known[name], feeds.as_rule(rule))
    filled = {known[name].name for name in [*feed.columns, *feeds.own_fields(feed.target)] if name in known}
    for field in dict.fromkeys(known.values()):
        if field.name not in filled and not feeds.database_fills(field):
            yield _error(
                feed,
                "E006",
                f"{model._meta.label}.{field.name} is required, and nothing fills it.",
                "Map it in the feed's columns, allow null, or give it a db_default: COPY runs no Django code.",
            )


def _check_type(feed: Feed, field: ModelField, rule: Rule) -> Iterator[Error]:
    what = f"{field.model._meta.label}.{field.name} is of type {field.get_internal_type()}"
    if isinstance(field, models.GeneratedField):
        yield _error(feed, "E007", f"{what}, and the database makes its values.", "Leave it out of the feed.")
    elif feeds.kind_of(field) is None:
        yield _error(feed, "E007", f"{what}, which is not supported.", "Leave it out of the feed.")
    elif rule.relation is not None:
        yield from _check_relation(feed, field, rule)
    elif not feeds.rule_fits(field, rule):
        yield _misfit(feed, what, rule)
    elif problem := cleaning.problem_of(rule):
        yield _error(feed, "E012", f"The rule for {field.name} cannot be used: {problem}.", "Correct the option.")


def _check_relation(feed: Feed, field: ModelField, rule: Rule) -> Iterator[Error]:
    """Check a relation whose rows are found by other fields than the one it refers to."""
    assert rule.relation is not None
    if problem := cleaning.problem_of(rule):
        yield _error(feed, "E012", f"The rule for {field.name} cannot be used: {problem}.", "Correct the option.")
        return
    problems = [*feeds.problems_by(field, rule)]
    for problem, hint in problems:
        yield _error(feed, "E016", problem, hint)
    if problems:
        return
    missing = rule.relation.missing
    for problem in feeds.problems_of_missing(feed.target, field, rule.relation, is_key=_is_key(feed, field)):
        hint = "Give the field a default in defaults=…, or choose another one of missing=…."
        yield _error(feed, "E017", f"{field.name} with missing={missing!r}: {problem}", hint)


def _is_key(feed: Feed, field: ModelField) -> bool:
    return bool({field.name, field.attname} & set(feed.target.key_fields))


def _misfit(feed: Feed, what: str, rule: Rule) -> Error:
    given = "whole_record" if rule.path is None else f"{rule.kind}({'.'.join(rule.path)!r})"
    hint = "Give the path alone, or use another kind of column."
    if rule.kind is None:
        given, hint = "a path alone", "Say how the bytes are written: binary(path, encoding=…)."
    return _error(feed, "E010", f"{what}, which {given} cannot fill.", hint)


def _check_key(feed: Feed) -> Iterator[Error]:
    model = feed.target.model
    known = feeds.columns_of(model)
    key = feed.target.key_fields
    for name in key:
        if name not in feed.columns:
            yield _error(
                feed, "E005", f"The key {name!r} is not among the feed's columns.", "Map it to where the record has it."
            )
    if not key and isinstance(feed.target, Append | Replace):
        return  # these two compare nothing, or whole rows
    if not all(name in known for name in key):
        return
    fields = {known[name].name for name in key}
    if isinstance(feed.target, History):
        if not _is_unique_among_current(feed.target, fields):
            yield _error(
                feed,
                "E004",
                f"No unique constraint of {model._meta.label} covers the key ({', '.join(key)}) of current rows.",
                f"Add UniqueConstraint(fields=…, condition=Q({feed.target.valid_to}=None), name=…), and migrate.",
            )
    elif not feeds.is_unique(model, fields):
        yield _error(
            feed,
            "E004",
            f"No unique constraint of {model._meta.label} covers exactly the key ({', '.join(key)}).",
            "Add unique=True or a UniqueConstraint without a condition on these fields, and migrate.",
        )


def _check_target(feed: Feed) -> Iterator[Error]:
    """Check what the write mode itself needs of the model."""
    target = feed.target
    known = feeds.columns_of(target.model)
    label = target.model._meta.label
    for name in feeds.own_fields(target):
        if name in feed.columns:
            yield _error(feed, "E013", f"The target fills {label}.{name} itself.", "Take it out of the feed's columns.")
    for name, types, null in _needed(target):
        field = known.get(name)
        if field is None or not isinstance(field, types) or (null and not field.null):
            wanted = " or ".join(type_.__name__ for type_ in types) + (" with null=True" if null else "")
            yield _error(
                feed, "E013", f"{label}.{name} has to be a {wanted}.", "Change the field, or name another one."
            )
    if isinstance(target, Mirror) and isinstance(target.delete, SoftDelete):
        yield from _check_mark(feed, target.delete, known.get(target.delete.field))
    if isinstance(target, Upsert | Mirror):
        for name in target.insert_only:
            if name not in feed.columns or name in target.key_fields:
                yield _error(
                    feed,
                    "E013",
                    f"insert_only names {name!r}, which the feed does not fill, or which is its key.",
                    f"Name others of its columns: {', '.join(feed.columns)}.",
                )
    if isinstance(target, Mirror | Replace) and not 0 <= target.allow_delete_share <= 1:
        yield _error(feed, "E013", "allow_delete_share is not from 0 to 1.", "0.2 allows a fifth of the rows.")


def _needed(target: Target) -> Iterator[tuple[str, tuple[type, ...], bool]]:
    """Yield the fields that a target names: what they have to be, and whether they have to allow null."""
    if isinstance(target, History):
        yield target.valid_from, (models.DateTimeField,), False
        yield target.valid_to, (models.DateTimeField,), True
        if target.is_current is not None:
            yield target.is_current, (models.BooleanField,), False
    if isinstance(target, Mirror) and isinstance(target.delete, SoftDelete):
        yield target.delete.field, (models.DateTimeField, models.BooleanField), False


def _check_mark(feed: Feed, delete: SoftDelete, field: "ModelField | None") -> Iterator[Error]:
    """Check that the database leaves the mark of new rows empty: they are copied without it."""
    if isinstance(field, models.DateTimeField) and (not field.null or field.has_db_default()):
        yield _error(
            feed, "E013", f"{delete.field} would mark new rows.", "Give it null=True and no db_default: null is there."
        )
    if isinstance(field, models.BooleanField) and _default_of(field) is not False:
        yield _error(feed, "E013", f"{delete.field} may mark new rows.", "Give it db_default=False.")


def _default_of(field: ModelField) -> Any:
    default = field.db_default if field.has_db_default() else None
    return getattr(default, "value", default)


def _check_source(feed: Feed) -> Iterator[Error]:
    if not isinstance(feed.source, Files) or not isinstance(feed.target, Replace | Mirror):
        return
    takes = f"and a {type(feed.target).__name__} takes their rows for gone."
    if feed.source.reload != "always":
        hint = 'Give the source reload="always", or use another target.'
        yield _error(feed, "E018", f"its source leaves out files that were loaded before, {takes}", hint)
    if feed.source.settled_for:
        hint = "Give the source no settled_for, or use another target."
        yield _error(feed, "E018", f"its source leaves out files that were changed just now, {takes}", hint)


def _check_table(feed: Feed) -> Iterator[Error]:
    model = feed.target.model
    if router.db_for_write(model) != router.db_for_write(Run):
        yield _error(
            feed,
            "E008",
            f"{model._meta.label} is in the database {router.db_for_write(model)!r}, "
            f"the runs are in {router.db_for_write(Run)!r}.",
            "Rows and cursor are committed together, so both must be in one database.",
        )
    names = [model._meta.db_table, *(str(field.column) for field in feeds.columns_of(model).values())]
    for name in dict.fromkeys(names):
        if "\x00" in name or len(name.encode()) > _IDENTIFIER_BYTES:
            yield _error(
                feed, "E009", f"PostgreSQL would cut the name {name[:80]!r}.", f"Use at most {_IDENTIFIER_BYTES} bytes."
            )


def _check_parts(feed: Feed) -> Iterator[Error]:
    if feed.parts is None:
        return
    if problem := feed.parts.problem(feed.source):
        yield _error(feed, "E015", f"It cannot be cut into parts: {problem}.", "Change the parts or the source.")
    is_whole = isinstance(feed.target, Replace) or (isinstance(feed.target, Mirror) and feed.target.scope is None)
    if isinstance(feed.parts, Windows) and is_whole:
        yield _error(
            feed,
            "E015",
            "It reads windows of time, and its target would delete the rows from before them.",
            "Give the Mirror a scope that covers the windows alone, or take an Upsert.",
        )
    if feed.parts_at_once < 1:
        yield _error(feed, "E015", "parts_at_once is less than 1.", "Allow one part at once, or more.")


def _check_skipping(feed: Feed) -> Iterator[Error]:
    if not feed.skip_unchanged_pages:
        return
    mode = type(feed.target).__name__
    if not isinstance(feed.target, Upsert):
        hint = "Take skip_unchanged_pages away, or use Upsert: the others need the records of every page."
        yield _error(feed, "E019", f"{mode} cannot skip unchanged pages.", hint)
    if not isinstance(feed.source, SkippingSource):
        hint = "Take skip_unchanged_pages away, or give the source the methods of ingestion.sources.SkippingSource."
        yield _error(feed, "E019", f"{type(feed.source).__name__} cannot skip unchanged pages.", hint)


def _check_incremental(feed: Feed) -> Iterator[Error]:
    if feed.incremental is None:
        return
    if problem := feed.incremental.problem(feed.source, feed.parts):
        hint = "Correct incremental=…, or take another source."
        if isinstance(feed.source, Files):
            hint = "Take incremental away: files are remembered with their versions, and read when they have changed."
        yield _error(feed, "E021", f"It cannot be incremental: {problem}.", hint)
    mode = type(feed.target).__name__
    if isinstance(feed.target, Replace | Mirror):
        hint = "Use Upsert or History, or read everything each time."
        yield _error(feed, "E021", f"A {mode} takes what an incremental feed did not ask for as gone.", hint)
    if isinstance(feed.target, Append):
        hint = "Use Upsert or History: they leave rows alone that are equal."
        yield _error(feed, "E021", f"{mode} would insert again what an incremental feed reads again.", hint)
    if feed.skip_unchanged_pages:
        hint = "Take skip_unchanged_pages away: what an incremental feed asks for has changed."
        yield _error(feed, "E021", "An incremental feed has other pages in each run.", hint)


def _check_resolved(feed: Feed) -> Iterator[CheckMessage]:
    """Try what every run begins with, once nothing else is wrong."""
    try:
        plan = feeds.resolve(feed)
    except ConfigurationError as error:
        yield _error(feed, "E011", f"{error}.", "Change the default of the rule or of the model's field.")
        return
    if feed.skip_unchanged_pages:
        yield from _check_definition(plan)


def _check_definition(plan: Plan) -> Iterator[CheckMessage]:
    try:
        feeds.definition_of(plan)
    except Incomparable as error:
        yield Warning(
            f"Feed {plan.feed.name!r}: no page will be skipped: {error}.",
            hint="Make what the feed's functions use plain values, or take skip_unchanged_pages away.",
            obj=plan.feed.target.model,
            id="ingestion.W001",
        )
    except ConfigurationError:
        pass  # a URL that the environment does not have yet is nothing that a run would not say


def _is_unique_among_current(target: History, key: set[str]) -> bool:
    """Whether the database allows one current row of a key at most."""
    current: list[Q] = [Q((target.valid_to, None)), Q((f"{target.valid_to}__isnull", True))]
    if target.is_current is not None:
        current += [Q((target.is_current, True))]
    return any(
        isinstance(constraint, models.UniqueConstraint)
        and set(constraint.fields) == key
        and constraint.condition in current
        for constraint in target.model._meta.constraints
    )


def _error(feed: Feed, number: str, message: str, hint: str) -> Error:
    return Error(f"Feed {feed.name!r}: {message}", hint=hint, obj=feed.target.model, id=f"ingestion.{number}")
