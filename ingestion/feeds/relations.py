"""Relations that are found by natural keys: what the related model says about them, and what may be wrong."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import connections, models, router

from ingestion import cleaning
from ingestion.cleaning import Column, RelationForm, Rule
from ingestion.encoding import LITERALS
from ingestion.errors import ConfigurationError
from ingestion.feeds.columns import column_of, rule_fits
from ingestion.feeds.fields import ModelField, columns_of, database_fills, is_unique, kind_of, typed_column, typed_field
from ingestion.feeds.targets import Replace, Target, Upsert
from ingestion.loaders import Filler, Lookup


@dataclass(frozen=True, kw_only=True)
class Relation:
    """A column of the table that stands as several natural values in the lines, until its row is looked up.

    Args:
        first, width: which of the lines' columns the natural values are.
        key_first: which of the key's they are; None outside the key.
        offers: of a relation to the feed's own table, the columns of the lines that others find their row by.
    """

    name: str
    label: str
    by: tuple[str, ...]
    missing: str
    lookup: Lookup
    is_integer: bool
    first: int
    key_first: int | None = None
    offers: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        return len(self.by)


def columns_by(field: ModelField, form: RelationForm, *, is_key: bool) -> list[Column]:
    """Return the columns of the natural values; they are cleaned as what they are in the related model.

    Raises:
        ConfigurationError: a field that is not there, or a rule that does not fit.
    """
    return [
        column_of(field, part, is_key=is_key, source=source)
        for source, part in zip(_fields_by(field, form), form.parts, strict=True)
    ]


def relation_of(
    field: ModelField, form: RelationForm, before: Sequence[Column], filled: dict[str, int], *, is_key: bool
) -> Relation:
    """Return the relation whose natural values come after the columns `before`.

    Args:
        filled: the fields that come to the lines as they are stored, and where; for those of the feed's own model.
    """
    target: ModelField = field.target_field  # type: ignore[attr-defined]  # a foreign key has it
    by = _fields_by(field, form)
    offers = [filled[one.name] for one in by if one.name in filled] if _is_own(field) else []
    using = router.db_for_write(field.model)
    return Relation(
        name=field.name,
        label=_related(field)._meta.label,
        by=tuple(one.name for one in by),
        missing=form.missing,
        lookup=Lookup(
            table=_related(field)._meta.db_table,
            natural=tuple(str(one.column) for one in by),
            types=tuple(_type_of(one, using) for one in by),
            target=str(target.column),
            fillers=_fillers(field, form, using) if form.missing == "create" else (),
        ),
        is_integer=kind_of(target) == "integer",
        first=len(before),
        key_first=sum(column.is_key for column in before) if is_key else None,
        offers=tuple(offers) if len(offers) == len(by) else (),
    )


def problems_by(field: ModelField, rule: Rule) -> Iterator[tuple[str, str]]:
    """Yield why a related row cannot be found so, and what to do."""
    form = rule.relation
    assert form is not None
    if not isinstance(field, models.ForeignKey):
        yield f"{field.name} is no relation.", "related(…) is for foreign keys; give the path alone."
        return
    model = _related(field)
    label, known = model._meta.label, columns_of(model)
    absent = [name for name in form.by if name not in known]
    if absent or field.target_field.name not in known:
        names = ", ".join(absent or [field.target_field.name])
        yield f"{label} has no column {names!r} of its own.", f"Its columns: {', '.join(known)}."
        return
    if not is_unique(model, {known[name].name for name in form.by}):
        yield (
            f"No unique constraint of {label} covers exactly ({', '.join(form.by)}).",
            "Add unique=True or a UniqueConstraint without a condition on these fields, and migrate.",
        )
    for name, part in zip(form.by, form.parts, strict=True):
        if kind_of(known[name]) in (None, "array", "json") or not rule_fits(known[name], part):
            yield (
                f"{label}.{name} is of type {known[name].get_internal_type()}, which this rule cannot look up.",
                "Give the path alone, or look up another field.",
            )
    if router.db_for_write(model) != router.db_for_write(field.model):
        yield f"{label} is in another database.", "Rows are looked up in the transaction that loads them."


def problems_of_missing(target: Target, field: ModelField, form: RelationForm, *, is_key: bool) -> Iterator[str]:
    """Yield why what should become of a missing row cannot."""
    if form.missing == "null" and (is_key or not field.null):
        yield f"{field.name} may not be null."
    if _is_own(field) and isinstance(target, Replace):
        yield "a Replace adds its rows in the end, and none of them can be found before."
    if form.missing != "create":
        return
    if _is_own(field) and not isinstance(target, Upsert):
        yield "only an Upsert can fill rows of its own table that it has made."
    known = columns_of(_related(field))
    given = {known[name].name for name in (*form.by, *form.defaults) if name in known}
    for name in form.defaults:
        if name not in known or name in form.by or kind_of(known[name]) is None:
            yield f"{name!r} of its defaults is no other column of {_related(field)._meta.label}."
    for one in dict.fromkeys(known.values()):
        if one.name not in given and not one.has_default() and not database_fills(one):
            yield f"{_related(field)._meta.label}.{one.name} is required, and nothing fills it."


def _related(field: ModelField) -> type[models.Model]:
    model: type[models.Model] = field.related_model  # type: ignore[assignment]  # a foreign key has one
    return model


def _is_own(field: ModelField) -> bool:
    """Whether the relation is to the feed's own table."""
    return _related(field)._meta.concrete_model is field.model._meta.concrete_model


def _fields_by(field: ModelField, form: RelationForm) -> list[ModelField]:
    if not isinstance(field, models.ForeignKey):
        raise ConfigurationError(f"{field.model._meta.label}.{field.name} is no relation")
    known = columns_of(_related(field))
    for name in form.by:
        if name not in known:
            raise ConfigurationError(f"{_related(field)._meta.label} has no column {name!r}")
    return [known[name] for name in form.by]


def _type_of(field: ModelField, using: str) -> str:
    """Return the type that a column's text is read as; a relation has that of the key it refers to."""
    # Not db_type: for an integer that counts by itself it says more than the type.
    type_ = typed_field(field).rel_db_type(connections[using])
    return str(type_)


def _fillers(field: ModelField, form: RelationForm, using: str) -> tuple[Filler, ...]:
    """Return what fills new rows besides their natural key: the feed's defaults, and the model's."""
    by = _fields_by(field, form)
    given = {columns_of(_related(field))[name]: value for name, value in form.defaults.items()}
    own = {one: one.get_default for one in columns_of(_related(field)).values() if one.has_default()}
    return tuple(
        Filler(column=str(one.column), type_=_type_of(one, using), make=_maker(one, value))
        for one, value in (own | given).items()
        if one not in by
    )


def _maker(field: ModelField, default: Any) -> Callable[[], str | None]:
    kind = kind_of(field)
    if kind is None:
        raise ConfigurationError(f"{field.model._meta.label}.{field.name}: its default cannot be written")
    column = typed_column(field, kind)
    make: Callable[[], Any] = default if callable(default) else partial(_same, default)

    def text() -> str | None:
        value = cleaning.clean_default(column, make())
        return None if value is None else LITERALS[kind](value)

    text()  # one that the column cannot hold is found now
    return text


def _same(value: Any) -> Any:
    return value
