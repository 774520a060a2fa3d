"""Sources that do not fit their targets are found before they run."""

from datetime import timedelta

import pytest
from django.db import models

from ingestion import checks
from ingestion.feeds import Feed, Mirror, Replace
from ingestion.sources import Csv, Disk, Files
from tests.ingestion.orders import order


@pytest.mark.parametrize("target", [Mirror, Replace])
@pytest.mark.parametrize(("reload", "expected"), [("changed", ["ingestion.E018"]), ("always", [])])
def test_e018_a_target_that_takes_files_that_are_left_out_for_gone(target, reload, expected):
    model = order(code=models.BigIntegerField(unique=True))
    source = Files(place=Disk(folder="."), pattern="*.csv", format=Csv(), reload=reload)
    feed = Feed(name="orders", source=source, columns={"code": "code"}, target=target(model, key="code"))
    assert [error.id for error in checks.problems([feed])] == expected


@pytest.mark.parametrize("target", [Mirror, Replace])
def test_e018_a_target_that_takes_files_that_wait_for_gone(target):
    model = order(code=models.BigIntegerField(unique=True))
    source = Files(place=Disk(folder="."), format=Csv(), reload="always", settled_for=timedelta(minutes=1))
    feed = Feed(name="orders", source=source, columns={"code": "code"}, target=target(model, key="code"))
    assert [error.id for error in checks.problems([feed])] == ["ingestion.E018"]
