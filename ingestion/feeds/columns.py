"""A feed's rules, joined with what the models know, to columns."""

from dataclasses import replace
from typing import Any

from ingestion import cleaning
from ingestion.cleaning import Column, Rule
from ingestion.errors import ConfigurationError
from ingestion.feeds.fields import ModelField, kind_of, typed_column


def as_rule(rule: str | Rule) -> Rule:
    """Return the rule that a path alone stands for."""
    return cleaning.field(rule) if isinstance(rule, str) else rule


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


def column_of(field: ModelField, rule: Rule, *, is_key: bool, source: "ModelField | None" = None) -> Column:
    """Return the column of a field that a rule fills.

    Args:
        source: the field of another model that the rule finds the row by; it then says the type.

    Raises:
        ConfigurationError: the rule does not fit the field, or one of its options or defaults does not.
    """
    source = source or field
    kind = kind_of(source)
    label = f"{field.model._meta.label}.{field.name}"
    if kind is None:
        raise ConfigurationError(f"{label}: {source.get_internal_type()} is not supported")
    if not rule_fits(source, rule):
        raise ConfigurationError(
            f"{label} is of type {source.get_internal_type()}, which a rule for {rule.kind} cannot fill"
        )
    if is_key and kind == "array":
        raise ConfigurationError(f"{label} is an array, which cannot be a key")
    problem = cleaning.problem_of(rule)
    if problem:
        raise ConfigurationError(f"{label}: {problem}")
    column = replace(
        typed_column(source, kind, field.name),
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
    # A default of the relation is a key of the other table, not what its rows are found by.
    default = _default(field, rule) if source is field else rule.default
    if is_key or default is cleaning.UNSET:
        return column
    return replace(column, default=cleaning.clean_default(column, default))


def _default(field: ModelField, rule: Rule) -> Any:
    """Return the feed's own default, else the model's when it is the same for every row."""
    if rule.default is not cleaning.UNSET:
        return rule.default
    # Other callables are clocks and random numbers: they would change the row with every run.
    if field.has_default() and (not callable(field.default) or field.default in (dict, list)):
        return field.get_default()
    return cleaning.UNSET
