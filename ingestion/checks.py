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
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, register
from django.db import models, router

from ingestion import feeds
from ingestion.feeds import Feed, ModelField
from ingestion.models import Run

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
# PostgreSQL cuts identifiers at NAMEDATALEN - 1 bytes without an error.
_IDENTIFIER_BYTES = 63


def register_checks() -> None:
    """Register the checks with Django; called once when the app is ready."""
    register(check_feeds, "ingestion")


def check_feeds(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Check every declared feed against its model, without touching the database."""
    declared = feeds.declared()
    messages: list[CheckMessage] = [*_check_names(declared)]
    for feed in declared:
        messages += _check_columns(feed)
        messages += _check_key(feed)
        messages += _check_table(feed)
    return messages


def _check_names(declared: list[Feed]) -> Iterator[Error]:
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


def _check_columns(feed: Feed) -> Iterator[Error]:
    model = feed.target.model
    known = _fields(model)
    for name in feed.columns:
        if name not in known:
            yield _error(
                feed, "E003", f"{model._meta.label} has no column {name!r}.", f"Its columns: {', '.join(known)}."
            )
        elif feeds.kind_of(known[name]) is None:
            kind = known[name].get_internal_type()
            yield _error(
                feed,
                "E007",
                f"{model._meta.label}.{name} is a {kind}, which is not supported.",
                "Leave it out of the feed.",
            )
    filled = {known[name].name for name in feed.columns if name in known}
    for field in model._meta.concrete_fields:
        if field.name not in filled and not _database_fills(field):
            yield _error(
                feed,
                "E006",
                f"{model._meta.label}.{field.name} is required, and nothing fills it.",
                "Map it in the feed's columns, allow null, or give it a db_default: COPY runs no Django code.",
            )


def _check_key(feed: Feed) -> Iterator[Error]:
    model = feed.target.model
    known = _fields(model)
    key = feed.target.key_fields
    for name in key:
        if name not in feed.columns:
            yield _error(
                feed, "E005", f"The key {name!r} is not among the feed's columns.", "Map it to where the record has it."
            )
    if all(name in known for name in key) and not _is_unique(model, {known[name].name for name in key}):
        yield _error(
            feed,
            "E004",
            f"No unique constraint of {model._meta.label} covers exactly the key ({', '.join(key)}).",
            "Add unique=True or a UniqueConstraint without a condition on these fields, and migrate.",
        )


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
    names = [model._meta.db_table, *(str(field.column) for field in model._meta.concrete_fields)]
    for name in names:
        if "\x00" in name or len(name.encode()) > _IDENTIFIER_BYTES:
            yield _error(
                feed, "E009", f"PostgreSQL would cut the name {name[:80]!r}.", f"Use at most {_IDENTIFIER_BYTES} bytes."
            )


def _fields(model: type[models.Model]) -> dict[str, ModelField]:
    return {name: field for field in model._meta.concrete_fields for name in dict.fromkeys((field.name, field.attname))}


def _database_fills(field: ModelField) -> bool:
    """Whether a row without this column can be inserted by SQL alone."""
    return field.null or field.has_db_default() or isinstance(field, models.AutoField | models.GeneratedField)


def _is_unique(model: type[models.Model], key: set[str]) -> bool:
    """Whether ON CONFLICT on exactly these fields finds an index to use."""
    options = model._meta
    if len(key) == 1 and options.get_field(next(iter(key))).unique:  # type: ignore[union-attr]  # concrete fields have it
        return True
    if any(set(fields) == key for fields in options.unique_together):
        return True
    return any(
        isinstance(constraint, models.UniqueConstraint)
        and set(constraint.fields) == key
        and constraint.condition is None
        and constraint.deferrable is None
        for constraint in options.constraints
    )


def _error(feed: Feed, number: str, message: str, hint: str) -> Error:
    return Error(f"Feed {feed.name!r}: {message}", hint=hint, obj=feed.target.model, id=f"ingestion.{number}")
