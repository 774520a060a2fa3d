"""The pages of the photos over HTTP, for every contender that fetches and brings no client of its own."""

import json
from collections.abc import Iterator
from typing import Any

import httpx

from tests.bench.loads import Job
from tests.bench.shapes import PAGE_RECORDS


def bodies(job: Job) -> Iterator[bytes]:
    """Yield the body of each page, one after the other over one connection."""
    with httpx.Client(trust_env=False) as client:
        for page in range(1, -(-job.rows // PAGE_RECORDS) + 1):
            response = client.get(job.url, params={"_page": page, "_limit": PAGE_RECORDS})
            response.raise_for_status()
            yield response.content


def records(job: Job) -> Iterator[dict[str, Any]]:
    for body in bodies(job):
        yield from json.loads(body)
