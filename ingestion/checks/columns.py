"""Checks of a feed's columns: whether the model has them, and whether the rules can fill them."""

from collections.abc import Iterator

from django.core.checks import Error
from django.db import models

from ingestion import cleaning, feeds
from ingestion.checks.findings import error
from ingestion.cleaning import Rule
from ingestion.feeds import Feed, ModelField


def check_columns(feed: Feed) -> Iterator[Error]:
    """Check that the model has each column, that its rule fits, and that something fills every required one."""
    model = feed.target.model
    known = feeds.columns_of(model)
    for name, rule in feed.columns.items():
        if name not in known:
            yield error(
                feed, "E003", f"{model._meta.label} has no column {name!r}.", f"Its columns: {', '.join(known)}."
            )
        else:
            yield from _check_type(feed, known[name], feeds.as_rule(rule))
    filled = {known[name].name for name in [*feed.columns, *feeds.own_fields(feed.target)] if name in known}
    for field in dict.fromkeys(known.values()):
        if field.name not in filled and not feeds.database_fills(field):
            yield error(
                feed,
                "E006",
                f"{model._meta.label}.{field.name} is required, and nothing fills it.",
                "Map it in the feed's columns, allow null, or give it a db_default: COPY runs no Django code.",
            )


def _check_type(feed: Feed, field: ModelField, rule: Rule) -> Iterator[Error]:
    what = f"{field.model._meta.label}.{field.name} is of type {field.get_internal_type()}"
    if isinstance(field, models.GeneratedField):
        yield error(feed, "E007", f"{what}, and the database makes its values.", "Leave it out of the feed.")
    elif feeds.kind_of(field) is None:
        yield error(feed, "E007", f"{what}, which is not supported.", "Leave it out of the feed.")
    elif rule.relation is not None:
        yield from _check_relation(feed, field, rule)
    elif not feeds.rule_fits(field, rule):
        yield _misfit(feed, what, rule)
    elif problem := cleaning.problem_of(rule):
        yield error(feed, "E012", f"The rule for {field.name} cannot be used: {problem}.", "Correct the option.")


def _check_relation(feed: Feed, field: ModelField, rule: Rule) -> Iterator[Error]:
    """Check a relation whose rows are found by other fields than the one it refers to."""
    assert rule.relation is not None
    if problem := cleaning.problem_of(rule):
        yield error(feed, "E012", f"The rule for {field.name} cannot be used: {problem}.", "Correct the option.")
        return
    problems = [*feeds.problems_by(field, rule)]
    for problem, hint in problems:
        yield error(feed, "E016", problem, hint)
    if problems:
        return
    missing = rule.relation.missing
    for problem in feeds.problems_of_missing(feed.target, field, rule.relation, is_key=_is_key(feed, field)):
        hint = "Give the field a default in defaults=…, or choose another one of missing=…."
        yield error(feed, "E017", f"{field.name} with missing={missing!r}: {problem}", hint)


def _is_key(feed: Feed, field: ModelField) -> bool:
    return bool({field.name, field.attname} & set(feed.target.key_fields))


def _misfit(feed: Feed, what: str, rule: Rule) -> Error:
    given = "whole_record" if rule.path is None else f"{rule.kind}({'.'.join(rule.path)!r})"
    hint = "Give the path alone, or use another kind of column."
    if rule.kind is None:
        given, hint = "a path alone", "Say how the bytes are written: binary(path, encoding=…)."
    return error(feed, "E010", f"{what}, which {given} cannot fill.", hint)
