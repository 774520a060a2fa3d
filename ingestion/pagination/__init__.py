"""How a remote cuts its collection into pages: pure values that map one response to the next request."""

from ingestion.pagination.counting import OffsetLimit, OffsetRange, PageNumber, PageRange, SinglePage
from ingestion.pagination.link_header import Link, parse_links
from ingestion.pagination.links import LinkHeader, NextUrl
from ingestion.pagination.marks import Keyset, NextCursor
from ingestion.pagination.protocols import (
    DivisiblePaginator,
    ForeseeingPaginator,
    LinkedPaginator,
    Paginator,
    Path,
    Place,
    PlacedPaginator,
    Received,
)

__all__ = [
    "DivisiblePaginator",
    "ForeseeingPaginator",
    "Keyset",
    "Link",
    "LinkHeader",
    "LinkedPaginator",
    "NextCursor",
    "NextUrl",
    "OffsetLimit",
    "OffsetRange",
    "PageNumber",
    "PageRange",
    "Paginator",
    "Path",
    "Place",
    "PlacedPaginator",
    "Received",
    "SinglePage",
    "parse_links",
]
