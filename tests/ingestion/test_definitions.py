"""A feed's definition as a digest: the same in every process, another one when anything changes what pages become."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from django.core.validators import RegexValidator
from django.db import models

from ingestion.cleaning import boolean, computed, constant, first_of, mapped, text, timestamp
from ingestion.errors import ConfigurationError
from ingestion.feeds import Feed, Upsert, definition_of, env_url, resolve
from ingestion.pagination import PageNumber, SinglePage
from ingestion.sources import JsonApi
from photos.feeds import PHOTOS
from tests.ingestion.orders import order

SOURCE = JsonApi(url="http://127.0.0.1:9/orders", pagination=SinglePage())
FIELDS = {"code": models.IntegerField(unique=True), "name": models.CharField(max_length=20)}
LIMIT = 3


def definition(*, fields=FIELDS, source=SOURCE, rules=(), **columns):
    model = order(**fields)
    columns = {"code": "code", "name": "name"} | columns
    feed = Feed(name="orders", source=source, columns=columns, target=Upsert(model, key="code"), rules=rules)
    return definition_of(resolve(feed))


def rule(record):
    return helper(record) if record["code"] > LIMIT else None


def helper(record):
    return record | {"name": "n"}


def test_equal_definitions_have_one_digest():
    assert definition() == definition()
    assert definition(rules=(rule,)) == definition(rules=(rule,))
    assert re.fullmatch("[0-9a-f]{64}", definition())


def test_names_schedules_and_limits_do_not_matter(settings):
    settings.PHOTOS_API_URL = "http://127.0.0.1:9"
    assert definition_of(resolve(PHOTOS)) == definition_of(
        resolve(replace(PHOTOS, name="other", every=timedelta(days=2), chunk_rows=1, attempts=9))
    )


def test_secrets_of_the_request_do_not_matter_and_are_not_needed():
    known = definition()
    for secret in (
        replace(SOURCE, headers={"Authorization": "Bearer x"}),
        replace(SOURCE, params={"key": "x"}),
        replace(SOURCE, url="http://user:password@127.0.0.1:9/orders?key=x"),
    ):
        assert definition(source=secret) == known


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "title"},
        {"name": text("name", strip=True)},
        {"name": text("name", default="")},
        {"name": text("name", default="-")},
        {"name": constant("a")},
        {"name": constant("b")},
        {"name": first_of("name", "title")},
        {"name": mapped("name", {"a": "b"})},
        {"name": mapped("name", {"a": "c"})},
        {"fields": FIELDS | {"name": models.CharField(max_length=21)}},
        {"fields": FIELDS | {"name": models.CharField(max_length=20, null=True)}},
        {"fields": FIELDS | {"name": models.CharField(max_length=20, choices=[("a", "A")])}},
        {"fields": FIELDS | {"name": models.CharField(max_length=20, db_column="title")}},
        {"fields": FIELDS | {"name": models.CharField(max_length=20, validators=[RegexValidator("^a")])}},
        {"fields": FIELDS | {"name": models.CharField(max_length=20, validators=[RegexValidator("^b")])}},
        {"source": replace(SOURCE, url="http://127.0.0.1:9/others")},
        {"source": replace(SOURCE, records=("data",))},
        {"source": replace(SOURCE, pagination=PageNumber(param="p", size=1))},
        {"source": replace(SOURCE, pagination=PageNumber(param="p", size=2))},
        {"rules": (rule,)},
        {"rules": (helper,)},
        {"rules": (rule, helper)},
        {"rules": (partial(rule),)},
        {"name": computed(lambda record: record["a"])},
        {"name": computed(lambda record: record["b"])},
        {"name": computed(lambda record: "1")},
        {"name": computed(lambda record: "2")},
        {"name": computed(lambda record, more=1: more)},
        {"name": computed(lambda record, more=2: more)},
    ],
)
def test_each_change_has_a_digest_of_its_own(changed):
    found = definition(**changed)
    assert found not in _SEEN
    _SEEN.add(found)


_SEEN = {definition()}


def test_options_of_rules_matter():
    fields = FIELDS | {"name": models.BooleanField(), "at": models.DateTimeField(null=True)}
    rules = [
        {"name": boolean("name", true=("ja",))},
        {"name": boolean("name", true=("oui",))},
        {"at": timestamp("at", unit="s")},
        {"at": timestamp("at", unit="ms")},
        {"at": timestamp("at", zone="UTC")},
        {"at": timestamp("at", formats=("%Y",))},
    ]
    assert len({definition(fields=fields, **columns) for columns in rules}) == 6


def closing_over(value):
    def inner(record):
        return value

    return inner


def test_functions_are_known_by_what_they_close_over_and_name(monkeypatch):
    digests = [definition(rules=(closing_over(value),)) for value in (1, 2, "1", (1,), helper, rule)]
    digests.append(definition(rules=(rule,)))
    monkeypatch.setitem(globals(), "LIMIT", 4)
    digests.append(definition(rules=(rule,)))
    monkeypatch.setitem(globals(), "helper", closing_over(None))
    digests.append(definition(rules=(rule,)))
    assert len(set(digests)) == 9


def test_what_nobody_can_compare_is_said():
    with pytest.raises(ConfigurationError, match=r"inner: nobody can tell whether a object has changed"):
        definition(rules=(closing_over(object()),))
    with pytest.raises(ConfigurationError, match=r"Pages cannot skip pages"):
        definition(source=Pages())
    with pytest.raises(ConfigurationError, match=r"UNSET_BY_ANYBODY is not set"):
        definition(source=replace(SOURCE, url=env_url("UNSET_BY_ANYBODY")))


class Pages:
    def pages(self, cursor):
        yield from ()


def test_code_that_is_newer_than_the_process_is_not_its_code(tmp_path, monkeypatch):
    path = tmp_path / "newer_rules.py"
    path.write_text("def rule(record):\n    return record\n")
    monkeypatch.syspath_prepend(tmp_path)
    import newer_rules

    with pytest.raises(ConfigurationError, match="the sources of newer_rules are newer than this process"):
        definition(rules=(newer_rules.rule,))
    os.utime(path, (0, 0))
    known = definition(rules=(newer_rules.rule,))
    assert known == definition(rules=(newer_rules.rule,))


def test_every_process_has_the_same_digest():
    code = (
        "from tests.ingestion.test_definitions import *; print(definition(rules=(rule,), name=mapped('n', {'a': 'b'})))"
    )
    setup = "import django; django.setup();"
    printed = {
        subprocess.run(
            [sys.executable, "-c", setup + code],
            env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONHASHSEED": seed},
            cwd=Path(__file__).resolve().parent.parent.parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
