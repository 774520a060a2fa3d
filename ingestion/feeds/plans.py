"""Feeds resolved against their Django models: columns with everything the model knows, and the table."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final, TypeAlias

from django.core import validators
from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS, connections, models, router

from ingestion import cleaning
from ingestion.cleaning import Column, Rule
from ingestion.errors import ConfigurationError, RecordRejected
from ingestion.feeds.declarations import Feed
from ingestion.feeds.targets import mode_of, table_of
from ingestion.loaders import Mode, Table

# Django's Field takes type arguments only in its stubs.
ModelField: TypeAlias = "models.Field[Any, Any]"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A feed, resolved: columns with everything the model knows, the table, and the mode it is written in.

    `using` is the database's alias.
    """

    feed: Feed
    columns: tuple[Column, ...]
    table: Table
    mode: Mode
    using: str

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
    return Plan(
        feed=feed,
        columns=tuple(_column(field, rule, is_key=field.name in key) for field, rule in fields),
        table=table,
        mode=mode_of(feed.target, table, using),
        using=using,
    )


def as_rule(rule: str | Rule) -> Rule:
    """Return the rule that a path alone stands for."""
    return cleaning.field(rule) if isinstance(rule, str) else rule


# Django's internal types and the kind of cleaning each gets. A relation gets that of the key it refers to.
KINDS: Final[dict[str, str]] = {
    "CharField": "text",
    "TextField": "text",
    "SlugField": "text",
    "BooleanField": "boolean",
    "JSONField": "json",
    "SmallIntegerField": "integer",
    "IntegerField": "integer",
    "BigIntegerField": "integer",
    "PositiveSmallIntegerField": "integer",
    "PositiveIntegerField": "integer",
    "PositiveBigIntegerField": "integer",
    "SmallAutoField": "integer",
    "AutoField": "integer",
    "BigAutoField": "integer",
    "DecimalField": "decimal",
    "FloatField": "float",
    "DateField": "date",
    "TimeField": "time",
    "DateTimeField": "timestamp",
    "DurationField": "duration",
    "UUIDField": "uuid",
    "GenericIPAddressField": "address",
    "BinaryField": "binary",
    "FileField": "text",
    "FilePathField": "text",
    "ArrayField": "array",
    "IntegerRangeField": "range",
    "BigIntegerRangeField": "range",
    "DecimalRangeField": "range",
    "DateRangeField": "range",
    "DateTimeRangeField": "range",
}
# Validators of Django's own that say what the column's type says already, or what cleaning has looked at.
_REDUNDANT: Final = (
    validators.MaxLengthValidator,
    validators.DecimalValidator,
    validators.ProhibitNullCharactersValidator,
)


def kind_of(field: ModelField) -> str | None:
    """Return the kind of cleaning a model field gets, or None for a type the engine does not know."""
    return KINDS.get(_typed(field).get_internal_type())


def rule_fits(field: ModelField, rule: Rule) -> bool:
    """Whether a rule can fill a field: one for its own kind can, the whole record fills JSON or text, a path anything.

    Bytes are never a path alone: how they are written as text has to be declared.
    """
    kind = kind_of(field)
    if kind == "binary":
        return rule.kind == kind or bool(rule.compute) or rule.constant is not cleaning.UNSET
    return (
        rule.kind in (None, kind) or (rule.kind, kind) == ("decimal", "float") or (rule.path is None and kind == "text")
    )


def _typed(field: ModelField) -> ModelField:
    """Return the field that has the type: of a relation, the key it refers to."""
    while isinstance(field, models.ForeignKey) and not isinstance(field.remote_field.model, str):
        field = field.target_field
    return field


def columns_of(model: type[models.Model]) -> dict[str, ModelField]:
    """Return the fields that are columns of the model's own table, by name and by attribute name."""
    # A proxy has none of its own; a child of another table's model has some in that other table.
    own = model._meta.concrete_model._meta.local_concrete_fields if model._meta.concrete_model else ()
    return {name: field for field in own for name in dict.fromkeys((field.name, field.attname))}


def _field(model: type[models.Model], name: str) -> ModelField:
    try:
        return columns_of(model)[name]
    except KeyError:
        raise ConfigurationError(f"{model._meta.label} has no column {name!r}") from None


def _column(field: ModelField, rule: Rule, *, is_key: bool) -> Column:
    kind = kind_of(field)
    label = f"{field.model._meta.label}.{field.name}"
    if kind is None:
        raise ConfigurationError(f"{label}: {field.get_internal_type()} is not supported")
    if not rule_fits(field, rule):
        raise ConfigurationError(
            f"{label} is of type {field.get_internal_type()}, which a rule for {rule.kind} cannot fill"
        )
    if is_key and kind == "array":
        raise ConfigurationError(f"{label} is an array, which cannot be a key")
    problem = cleaning.problem_of(rule)
    if problem:
        raise ConfigurationError(f"{label}: {problem}")
    column = replace(
        _typed_column(field, kind),
        path=rule.path,
        null=field.null and not is_key,
        truncate=rule.truncate,
        is_key=is_key,
        others=rule.others,
        compute=rule.compute,
        mapping=rule.mapping,
        form=rule.form,
    )
    if rule.constant is not cleaning.UNSET:
        return replace(column, constant=cleaning.clean_default(column, rule.constant))
    default = _default(field, rule)
    if is_key or default is cleaning.UNSET:
        return column
    return replace(column, default=cleaning.clean_default(column, default))


def _typed_column(field: ModelField, kind: str) -> Column:
    """Return what the model alone knows of a column, or of the members of one."""
    typed = _typed(field)
    lengths = {"text": typed.max_length, "binary": typed.max_length, "array": getattr(typed, "size", None)}
    return Column(
        name=field.name,
        kind=kind,
        path=(),
        null=field.null,
        max_length=lengths.get(kind),
        limits=_limits(typed) if kind == "integer" else None,
        choices=_choices(typed) if kind != "array" else None,
        max_digits=getattr(typed, "max_digits", None),
        decimal_places=getattr(typed, "decimal_places", None),
        item=_item(field, typed) if kind in ("array", "range") else None,
        check=_check(typed, kind),
    )


def _item(field: ModelField, typed: ModelField) -> Column:
    base: ModelField = typed.base_field  # type: ignore[attr-defined]  # arrays and ranges have it
    kind = kind_of(base)
    if kind is None or kind in ("binary", "json"):
        label = f"{field.model._meta.label}.{field.name}"
        raise ConfigurationError(f"{label}: members of type {base.get_internal_type()} are not supported")
    return replace(_typed_column(base, kind), name=field.name)


def _check(field: ModelField, kind: str) -> Callable[[Any], None] | None:
    """Return what runs the validators of a field that say more than its type does; None where there are none."""
    known = [*field.validators] if kind not in ("array", "range") else []
    limits = set(_limits(field)) if kind == "integer" else set()
    chosen = [
        validate
        for validate in known
        if not isinstance(validate, _REDUNDANT) and getattr(validate, "limit_value", None) not in limits
    ]
    if kind == "address":  # Django's own look at text, and cleaning has made an address of it
        chosen = [validate for validate in chosen if validate is not validators.validate_ipv46_address]

    def check(value: Any) -> None:
        for validate in chosen:
            try:
                validate(value)
            except ValidationError as error:
                detail = "; ".join(error.messages)
                raise RecordRejected("invalid_value", field=field.name, detail=detail) from error

    return check if chosen else None


def _choices(field: ModelField) -> frozenset[Any] | None:
    if not field.flatchoices:
        return None
    choices = frozenset(value.value if isinstance(value, Enum) else value for value, _ in field.flatchoices)
    return choices | {""} if field.blank else choices


def _default(field: ModelField, rule: Rule) -> Any:
    """Return the feed's own default, else the model's when it is the same for every row."""
    if rule.default is not cleaning.UNSET:
        return rule.default
    # Other callables are clocks and random numbers: they would change the row with every run.
    if field.has_default() and (not callable(field.default) or field.default in (dict, list)):
        return field.get_default()
    return cleaning.UNSET


def _limits(field: ModelField) -> tuple[int, int]:
    # A range's bounds know no model.
    connection = connections[router.db_for_write(field.model) if hasattr(field, "model") else DEFAULT_DB_ALIAS]
    return connection.ops.integer_field_range(field.get_internal_type())
