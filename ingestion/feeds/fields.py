"""What Django models know of columns: their names, types, limits and validators; whether a key is unique."""

from collections.abc import Callable
from enum import Enum
from typing import Any, Final, TypeAlias

from django.core import validators
from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS, connections, models, router

from ingestion.cleaning import Column
from ingestion.errors import ConfigurationError, RecordRejected

# Django's Field takes type arguments only in its stubs.
ModelField: TypeAlias = "models.Field[Any, Any]"

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
    return KINDS.get(typed_field(field).get_internal_type())


def typed_field(field: ModelField) -> ModelField:
    """Return the field that has the type: of a relation, the key it refers to."""
    while isinstance(field, models.ForeignKey) and not isinstance(field.remote_field.model, str):
        field = field.target_field
    return field


def columns_of(model: type[models.Model]) -> dict[str, ModelField]:
    """Return the fields that are columns of the model's own table, by name and by attribute name."""
    # A proxy has none of its own; a child of another table's model has some in that other table.
    own = model._meta.concrete_model._meta.local_concrete_fields if model._meta.concrete_model else ()
    return {name: field for field in own for name in dict.fromkeys((field.name, field.attname))}


def typed_column(field: ModelField, kind: str, name: str | None = None) -> Column:
    """Return what the model alone knows of a column, or of the members of one.

    Args:
        name: that of the column, where it is not the field's own.
    """
    name = name or field.name
    typed = typed_field(field)
    lengths = {"text": typed.max_length, "binary": typed.max_length, "array": getattr(typed, "size", None)}
    return Column(
        name=name,
        kind=kind,
        path=(),
        null=field.null,
        max_length=lengths.get(kind),
        limits=_limits(typed) if kind == "integer" else None,
        choices=_choices(typed) if kind != "array" else None,
        max_digits=getattr(typed, "max_digits", None),
        decimal_places=getattr(typed, "decimal_places", None),
        item=_item(field, typed) if kind in ("array", "range") else None,
        check=_check(typed, kind, name),
    )


def _item(field: ModelField, typed: ModelField) -> Column:
    base: ModelField = typed.base_field  # type: ignore[attr-defined]  # arrays and ranges have it
    kind = kind_of(base)
    if kind is None or kind in ("binary", "json"):
        label = f"{field.model._meta.label}.{field.name}"
        raise ConfigurationError(f"{label}: members of type {base.get_internal_type()} are not supported")
    return typed_column(base, kind, field.name)


def _check(field: ModelField, kind: str, name: str) -> Callable[[Any], None] | None:
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
                raise RecordRejected("invalid_value", field=name, detail=detail) from error

    return check if chosen else None


def _choices(field: ModelField) -> frozenset[Any] | None:
    if not field.flatchoices:
        return None
    choices = frozenset(value.value if isinstance(value, Enum) else value for value, _ in field.flatchoices)
    return choices | {""} if field.blank else choices


def _limits(field: ModelField) -> tuple[int, int]:
    # A range's bounds know no model.
    connection = connections[router.db_for_write(field.model) if hasattr(field, "model") else DEFAULT_DB_ALIAS]
    return connection.ops.integer_field_range(field.get_internal_type())


def database_fills(field: ModelField) -> bool:
    """Whether a row without this column can be inserted by SQL alone."""
    return field.null or field.has_db_default() or isinstance(field, models.AutoField | models.GeneratedField)


def is_unique(model: type[models.Model], key: set[str]) -> bool:
    """Whether ON CONFLICT on exactly these fields finds an index to use."""
    options = model._meta
    if not key:
        return False
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
