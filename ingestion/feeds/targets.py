"""Targets: which table a feed keeps in step, and in which write mode."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeAlias

from django.db import models
from django.db.models import Q, QuerySet

from ingestion import loaders
from ingestion.errors import ConfigurationError
from ingestion.loaders import Mark, Mode, Scope, Table, Versions

# A run may delete at most this share of the rows there are, unless somebody confirmed it.
ALLOW_DELETE_SHARE: Final = 0.2

Key: TypeAlias = "str | tuple[str, ...]"


@dataclass(frozen=True)
class Append:
    """Insert every record; nothing is compared. A second run of the same records inserts them again."""

    model: type[models.Model]

    key_fields: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True)
class Upsert:
    """Insert new keys, update rows that differ, leave equal rows alone. `key` names one field or several.

    Args:
        insert_only: fields that are written with a new row and left alone from then on.
    """

    model: type[models.Model]
    key: Key
    insert_only: tuple[str, ...] = ()

    @property
    def key_fields(self) -> tuple[str, ...]:
        return _fields(self.key)


@dataclass(frozen=True)
class Replace:
    """Make the table hold what one run has read and nothing else; readers see the old rows or the new ones.

    Args:
        key: one field or several; rows are then compared by it, updated where they differ, and the last record of a key
            wins. Without a key rows are compared as a whole.
        allow_delete_share: from 0 to 1, of the rows there are; a run that would delete more fails.
    """

    model: type[models.Model]
    key: Key = ()
    allow_delete_share: float = ALLOW_DELETE_SHARE

    @property
    def key_fields(self) -> tuple[str, ...]:
        return _fields(self.key)


@dataclass(frozen=True)
class SoftDelete:
    """Mark rows instead of deleting them. `field` is a DateTimeField that allows null, or a BooleanField."""

    field: str


@dataclass(frozen=True)
class Mirror:
    """Upsert, and delete or mark the rows that the source no longer has.

    Args:
        delete: "hard" deletes them; a SoftDelete marks them, and takes the mark away when the source has them again.
        scope: the rows that the feed answers for; others are never deleted. None means all.
        allow_delete_share: from 0 to 1, of the rows in scope; a run that would delete more fails.
    """

    model: type[models.Model]
    key: Key
    delete: "str | SoftDelete" = "hard"
    scope: Q | None = None
    insert_only: tuple[str, ...] = ()
    allow_delete_share: float = ALLOW_DELETE_SHARE

    @property
    def key_fields(self) -> tuple[str, ...]:
        return _fields(self.key)


@dataclass(frozen=True)
class History:
    """Keep every version of a record: a change ends the current row and adds another one.

    Args:
        valid_from, valid_to: DateTimeFields; a row is valid from the one to just before the other, which is null in the
            current row.
        is_current: a BooleanField that is true in the current row alone; None where there is none.
    """

    model: type[models.Model]
    key: Key
    valid_from: str
    valid_to: str
    is_current: str | None = None

    @property
    def key_fields(self) -> tuple[str, ...]:
        return _fields(self.key)


Target: TypeAlias = "Append | Upsert | Replace | Mirror | History"


def own_fields(target: Target) -> tuple[str, ...]:
    """Return the fields that the write mode itself fills; a feed may not map them."""
    if isinstance(target, History):
        return tuple(name for name in (target.valid_from, target.valid_to, target.is_current) if name)
    if isinstance(target, Mirror) and isinstance(target.delete, SoftDelete):
        return (target.delete.field,)
    return ()


def table_of(target: Target, db_columns: dict[str, str], key: Collection[str]) -> Table:
    """Return the table as the loaders see it.

    Args:
        db_columns: the feed's fields, by name, in the order of its lines.
        key: the names of the key's fields. The table has its key in the order of the lines, as each line's key has it.
    """
    model = target.model
    insert_only = target.insert_only if isinstance(target, Upsert | Mirror) else ()
    mark = _mark(target)
    return Table(
        name=model._meta.db_table,
        columns=tuple(db_columns.values()),
        key=tuple(column for name, column in db_columns.items() if name in key),
        insert_only=tuple(_column(model, name) for name in insert_only),
        fixed=((mark.column, None if mark.deleted == "now()" else False),) if mark else (),
        documents=tuple(db_columns[name] for name in db_columns if _is_document(model, name)),
        serial=next((db_columns[name] for name in db_columns if _is_serial(model, name)), None),
    )


def mode_of(target: Target, table: Table, using: str) -> Mode:
    """Return what the loaders do with the target's lines."""
    if isinstance(target, Append):
        return loaders.Appending(table=table)
    if isinstance(target, Upsert):
        return loaders.Upserting(table=table)
    if isinstance(target, Replace):
        return loaders.Replacing(table=table)
    if isinstance(target, Mirror):
        return loaders.Mirroring(table=table, scope=Scope(rows=_scope_rows(target, using), mark=_mark(target)))
    model = target.model
    is_current = _column(model, target.is_current) if target.is_current else None
    versions = Versions(
        valid_from=_column(model, target.valid_from), valid_to=_column(model, target.valid_to), is_current=is_current
    )
    return loaders.Versioning(table=table, versions=versions)


def _fields(key: Key) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else tuple(key)


def _column(model: type[models.Model], name: str) -> str:
    try:
        return str(model._meta.get_field(name).column)  # type: ignore[union-attr]  # one without a column is no field
    except (LookupError, AttributeError):
        raise ConfigurationError(f"{model._meta.label} has no column {name!r}") from None


def _is_document(model: type[models.Model], name: str) -> bool:
    return isinstance(model._meta.get_field(name), models.JSONField)


def _is_serial(model: type[models.Model], name: str) -> bool:
    return isinstance(model._meta.get_field(name), models.AutoField)


def _mark(target: Target) -> Mark | None:
    if not isinstance(target, Mirror) or not isinstance(target.delete, SoftDelete):
        return None
    column = _column(target.model, target.delete.field)
    if isinstance(target.model._meta.get_field(target.delete.field), models.DateTimeField):
        return Mark(column=column, present="IS NULL", deleted="now()")
    return Mark(column=column, present="IS NOT TRUE", deleted="TRUE")


def _scope_rows(target: Mirror, using: str) -> tuple[str, tuple[object, ...]] | None:
    """Compile the scope into a query of its keys; the database is not asked."""
    if target.scope is None:
        return None
    rows: QuerySet[models.Model, Any] = (
        QuerySet(target.model, using=using).filter(target.scope).values_list(*target.key_fields)
    )
    query, parameters = rows.query.get_compiler(using=using).as_sql()
    return query, tuple(parameters)
