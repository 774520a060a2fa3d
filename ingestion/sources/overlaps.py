"""Records that come on two pages in a row: the collection was changed while it was read. Pure, no I/O."""

from collections.abc import Sequence
from typing import Final

from ingestion.types import Record, Records

# What somebody inserts before a page moves its last records to the next one: these are looked through.
_TAIL_BYTES: Final = 64 * 1024
_TAIL_RECORDS: Final = 100


def tail_of(records: Sequence[Record]) -> bytes:
    """Return the end of a page's text."""
    if isinstance(records, Records):
        return records.text[-_TAIL_BYTES:]
    return b"[" + b",".join(map(bytes, records[-_TAIL_RECORDS:])) + b"]"


def begins_within(records: Sequence[Record], tail: bytes) -> bool:
    """Tell whether the first record is, byte for byte, one of those at the end of the page before."""
    if not tail or not records:
        return False
    first = bytes(records[0])
    at = tail.find(first)
    # Not where it is a member of a record, or the end of a longer number.
    return at > 0 and tail[at - 1 : at] in b"[, \n\r\t" and tail[at + len(first) :].lstrip()[:1] in (b",", b"]")
