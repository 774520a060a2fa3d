"""Feeds resolved against their Django models: columns with everything the model knows, and the table."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import models, router

from ingestion.cleaning import Column, Rule
from ingestion.errors import ConfigurationError
from ingestion.feeds.columns import as_rule, column_of
from ingestion.feeds.declarations import Feed
from ingestion.feeds.fields import ModelField, columns_of
from ingestion.feeds.relations import Relation, columns_by, relation_of
from ingestion.feeds.targets import mode_of, table_of
from ingestion.loaders import Mode, Table


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A feed, resolved: columns with everything the model knows, the table, and the mode it is written in.

    Args:
        columns: what the lines are made of. A relation that is found by natural values has one for each of these.
        relations: those, in the order of the lines; the table has one column for each.
        own_references: the table's columns that refer to others of the table, by their places in its columns.
        using: the database's alias.
    """

    feed: Feed
    columns: tuple[Column, ...]
    table: Table
    mode: Mode
    using: str
    relations: tuple[Relation, ...] = ()
    own_references: tuple[tuple[int, int], ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(column.kind for column in self.columns)


def resolve(feed: Feed) -> Plan:
    """Resolve a feed against its model. `manage.py check` has found what could go wrong here.

    Raises:
        ConfigurationError: a column or a type that the model does not have or the engine does not know.
    """
    model = feed.target.model
    key = {_field(model, name).name for name in feed.target.key_fields}
    fields = [(_field(model, name), as_rule(rule)) for name, rule in feed.columns.items()]
    # Columns that take the whole record come last, where groups of records can be encoded at once.
    fields.sort(key=lambda pair: pair[1].path is None)
    db_columns = {field.name: str(field.column) for field, _ in fields}
    table, using = table_of(feed.target, db_columns, key), router.db_for_write(model)
    columns, relations = _columns(fields, key)
    return Plan(
        feed=feed,
        columns=tuple(columns),
        relations=tuple(relations),
        own_references=_own_references([field for field, _ in fields]),
        table=table,
        mode=mode_of(feed.target, table, using),
        using=using,
    )


def _field(model: type[models.Model], name: str) -> ModelField:
    try:
        return columns_of(model)[name]
    except KeyError:
        raise ConfigurationError(f"{model._meta.label} has no column {name!r}") from None


def _columns(fields: Sequence[tuple[ModelField, Rule]], key: set[str]) -> tuple[list[Column], list[Relation]]:
    """Return the columns of the lines, and the relations that are looked up before they become those of the table."""
    columns: list[Column] = []
    filled: dict[str, int] = {}
    found: list[tuple[ModelField, Rule, list[Column]]] = []
    for field, rule in fields:
        if rule.relation is None:
            filled[field.name] = len(columns)
            columns.append(column_of(field, rule, is_key=field.name in key))
        else:
            found.append((field, rule, columns.copy()))
            columns += columns_by(field, rule.relation, is_key=field.name in key)
    return columns, [
        relation_of(field, rule.relation, before, filled, is_key=field.name in key)
        for field, rule, before in found
        if rule.relation is not None
    ]


def _own_references(fields: Sequence[ModelField]) -> tuple[tuple[int, int], ...]:
    places = {field: place for place, field in enumerate(fields)}
    return tuple(
        (place, places[field.target_field])
        for field, place in places.items()
        if isinstance(field, models.ForeignKey) and field.target_field in places
    )
