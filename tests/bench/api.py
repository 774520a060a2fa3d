"""Serve the benchmark's own collections; the photos come from the sample API itself."""

import argparse
import asyncio
import json

from photos.sample_api import SampleApi
from photos.sample_http import serve
from photos.sample_records import Collection
from tests.bench import shapes


class BenchApi(SampleApi):
    """The sample API with other collections."""

    def __init__(self, *, totals: dict[str, int], cache_bytes: int) -> None:
        super().__init__(photos=0, cache_bytes=cache_bytes)
        self._collections = {shape.path: _collection(shape, totals[shape.path]) for shape in shapes.OWN}


def _collection(shape: shapes.Shape, total: int) -> Collection:
    return Collection(total=total, record=shape.record, text=lambda number: json.dumps(shape.record(number), indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.api")
    parser.add_argument("--totals", type=json.loads, required=True, help="records of each collection, as JSON by path")
    parser.add_argument("--cache-mb", type=int, required=True)
    options = parser.parse_args()
    api = BenchApi(totals=options.totals, cache_bytes=options.cache_mb << 20)
    asyncio.run(serve(api.answer, host="127.0.0.1", port=0))


if __name__ == "__main__":
    main()
