"""A GraphQL source for the tests of it, and what reading from it ends with."""

import json
from datetime import timedelta

import pytest

from ingestion.errors import RunFailed
from ingestion.http import Retry
from ingestion.pagination import SinglePage
from ingestion.sources import Connection, GraphQL
from tests.ingestion.graphql_server import Item
from tests.remote import Remote, Reply

QUICK = Retry(attempts=2, wait_initial=timedelta(milliseconds=1))
FIELDS = "__typename ... on Item { code name price } ... on Service { code name hours }"
EDGES = f"""query Products($first: Int!, $after: String) {{
  catalogue {{ products(first: $first, after: $after) {{
    edges {{ node {{ {FIELDS} }} }} pageInfo {{ endCursor hasNextPage }} total
  }} }}
}}"""
NODES = EDGES.replace(f"edges {{ node {{ {FIELDS} }} }}", f"nodes {{ {FIELDS} }}")


def source(url, **options):
    defaults = {"query": EDGES, "records": ("catalogue", "products"), "pagination": Connection(size=2), "retry": QUICK}
    return GraphQL(url=url, **{**defaults, "max_pages": 100, **options})


def items(count):
    return [Item(code=f"A{number}", name=f"Item {number}", amount=f"{number}.50") for number in range(count)]


def read(source, cursor=None):
    return [[json.loads(bytes(record)) for record in page.records] for page in source.pages(cursor)]


def failure(source):
    with pytest.raises(RunFailed) as raised:
        list(source.pages(None))
    return raised.value


def answered(document, **options):
    """Read one answer, which is a document, or bytes that are none."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    with Remote(Reply(body=body)) as remote:
        return list(source(remote.url, pagination=SinglePage(), records=("items",), **options).pages(None))
