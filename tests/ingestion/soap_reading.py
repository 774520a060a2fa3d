"""A SOAP source for the tests of it, and what reading from it ends with."""

import json
from datetime import timedelta

import pytest

from ingestion.errors import RunFailed
from ingestion.http import Retry
from ingestion.pagination import PageNumber, SinglePage
from ingestion.sources import Soap
from tests.ingestion.soap_server import Stock, item, serve
from tests.remote import Raw, Reply

QUICK = Retry(attempts=2, wait_initial=timedelta(milliseconds=1))
PAGES = PageNumber(param="request.page", size=2, size_param="request.size", total=("total",))
ONE = {"request": {"page": 1, "size": 9}}


def source(remote, **options):
    defaults = {"operation": "GetItems", "records": ("items", "item"), "pagination": PAGES, "retry": QUICK}
    return Soap(**{"wsdl": f"{remote.url}/service?wsdl", **defaults, "max_pages": 100, **options})


def items(count):
    return [item(f"A{number}", f"Item {number}", f"{number}.50") for number in range(count)]


def read(source, cursor=None):
    return [[json.loads(bytes(record)) for record in page.records] for page in source.pages(cursor)]


def one(*texts, **options):
    """Read one page of these items."""
    with serve(Stock(items=list(texts))) as remote:
        (page,) = read(source(remote, pagination=SinglePage(), arguments=ONE, **options))
    return page


def answered(reply, **options):
    """Read what answers the first call."""
    reply = reply if isinstance(reply, Reply | Raw) else Reply(body=reply)
    with serve(Stock(items=[], special=lambda page, namespace: reply)) as remote:
        return read(source(remote, pagination=SinglePage(), arguments=ONE, **options))


def why_not(reply, **options):
    with pytest.raises(RunFailed) as raised:
        answered(reply, **options)
    return raised.value
