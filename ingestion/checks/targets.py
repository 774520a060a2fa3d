"""Checks of a feed's target: its key, what its write mode needs of the model, and the table."""

from collections.abc import Iterator
from typing import Any

from django.core.checks import Error
from django.db import models, router
from django.db.models import Q

from ingestion import feeds
from ingestion.checks.findings import error
from ingestion.feeds import Append, Feed, History, Mirror, ModelField, Replace, SoftDelete, Target, Upsert
from ingestion.models import Run

# PostgreSQL cuts identifiers at NAMEDATALEN - 1 bytes without an error.
_IDENTIFIER_BYTES = 63


def check_key(feed: Feed) -> Iterator[Error]:
    """Check that the feed fills the key, and that the database keeps it unique."""
    model = feed.target.model
    known = feeds.columns_of(model)
    key = feed.target.key_fields
    for name in key:
        if name not in feed.columns:
            yield error(
                feed, "E005", f"The key {name!r} is not among the feed's columns.", "Map it to where the record has it."
            )
    if not key and isinstance(feed.target, Append | Replace):
        return  # these two compare nothing, or whole rows
    if not all(name in known for name in key):
        return
    fields = {known[name].name for name in key}
    if isinstance(feed.target, History):
        if not _is_unique_among_current(feed.target, fields):
            yield error(
                feed,
                "E004",
                f"No unique constraint of {model._meta.label} covers the key ({', '.join(key)}) of current rows.",
                f"Add UniqueConstraint(fields=…, condition=Q({feed.target.valid_to}=None), name=…), and migrate.",
            )
    elif not feeds.is_unique(model, fields):
        yield error(
            feed,
            "E004",
            f"No unique constraint of {model._meta.label} covers exactly the key ({', '.join(key)}).",
            "Add unique=True or a UniqueConstraint without a condition on these fields, and migrate.",
        )


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


def check_target(feed: Feed) -> Iterator[Error]:
    """Check what the write mode itself needs of the model."""
    target = feed.target
    known = feeds.columns_of(target.model)
    label = target.model._meta.label
    for name in feeds.own_fields(target):
        if name in feed.columns:
            yield error(feed, "E013", f"The target fills {label}.{name} itself.", "Take it out of the feed's columns.")
    for name, types, null in _needed(target):
        field = known.get(name)
        if field is None or not isinstance(field, types) or (null and not field.null):
            wanted = " or ".join(type_.__name__ for type_ in types) + (" with null=True" if null else "")
            yield error(feed, "E013", f"{label}.{name} has to be a {wanted}.", "Change the field, or name another one.")
    if isinstance(target, Mirror) and isinstance(target.delete, SoftDelete):
        yield from _check_mark(feed, target.delete, known.get(target.delete.field))
    if isinstance(target, Upsert | Mirror):
        for name in target.insert_only:
            if name not in feed.columns or name in target.key_fields:
                yield error(
                    feed,
                    "E013",
                    f"insert_only names {name!r}, which the feed does not fill, or which is its key.",
                    f"Name others of its columns: {', '.join(feed.columns)}.",
                )
    if isinstance(target, Mirror | Replace) and not 0 <= target.allow_delete_share <= 1:
        yield error(feed, "E013", "allow_delete_share is not from 0 to 1.", "0.2 allows a fifth of the rows.")


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
        yield error(
            feed, "E013", f"{delete.field} would mark new rows.", "Give it null=True and no db_default: null is there."
        )
    if isinstance(field, models.BooleanField) and _default_of(field) is not False:
        yield error(feed, "E013", f"{delete.field} may mark new rows.", "Give it db_default=False.")


def _default_of(field: ModelField) -> Any:
    default = field.db_default if field.has_db_default() else None
    return getattr(default, "value", default)


def check_table(feed: Feed) -> Iterator[Error]:
    """Check where the table is, and that its names are whole in PostgreSQL."""
    model = feed.target.model
    if router.db_for_write(model) != router.db_for_write(Run):
        yield error(
            feed,
            "E008",
            f"{model._meta.label} is in the database {router.db_for_write(model)!r}, "
            f"the runs are in {router.db_for_write(Run)!r}.",
            "Rows and cursor are committed together, so both must be in one database.",
        )
    names = [model._meta.db_table, *(str(field.column) for field in feeds.columns_of(model).values())]
    for name in dict.fromkeys(names):
        if "\x00" in name or len(name.encode()) > _IDENTIFIER_BYTES:
            yield error(
                feed, "E009", f"PostgreSQL would cut the name {name[:80]!r}.", f"Use at most {_IDENTIFIER_BYTES} bytes."
            )
