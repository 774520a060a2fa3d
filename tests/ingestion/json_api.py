"""A JsonApi for the tests of it, and what reading from it ends with."""

import json

import pytest

from ingestion.errors import RunFailed
from ingestion.http import Retry
from ingestion.pagination import PageNumber
from ingestion.sources import JsonApi

NO_RETRY = Retry(attempts=1)
PAGES = PageNumber(param="_page", size_param="_limit", size=10)


def api(remote, **options):
    return JsonApi(
        **{"url": f"{remote.url}/photos", "pagination": PAGES, "retry": NO_RETRY, "max_pages": 100, **options}
    )


def read(source, cursor=None):
    return [[json.loads(bytes(record)) for record in page.records] for page in source.pages(cursor)]


def failure(source):
    with pytest.raises(RunFailed) as raised:
        read(source)
    return raised.value
