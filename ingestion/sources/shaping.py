"""A response to the records of a page, with what is around them and what is inside them. Pure, no I/O."""

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

import msgspec

from ingestion.errors import RecordRejected, RetryLater, RunFailed
from ingestion.http import Response
from ingestion.sources.files.csv_files import Csv
from ingestion.sources.files.formats import Facts
from ingestion.sources.files.limits import FileLimits
from ingestion.sources.files.ndjson import Ndjson
from ingestion.sources.splitting import (
    MOST_RECORDS,
    NoList,
    refuse_crowd,
    single_record,
    split_records,
    value_at,
)
from ingestion.types import Record, Records

_decode_object = msgspec.json.Decoder(dict[str, Record]).decode
_decode_list = msgspec.json.Decoder(list[Record]).decode
_encode = msgspec.json.Encoder().encode

# Of a page, from either end.
DIGESTED: Final = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """The records of a response. `received` is how many there were before any were taken apart."""

    records: Sequence[Record]
    received: int
    digest: str
    refused: Mapping[int, RecordRejected] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Where the records of a response are, and what becomes of them.

    Args:
        single: the response is one record, or has one at `records`, and no list.
        envelope: name to the path of a value around the records, which every record gets.
        expand: name of a list in each record, whose members are the records.
        parent_as: what a member calls the record that it comes from.
        added: values that every record gets.
    """

    records: tuple[str, ...] = ()
    single: bool = False
    format: Csv | Ndjson | None = None
    envelope: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    expand: str | None = None
    parent_as: str = "parent"
    added: Mapping[str, Any] = field(default_factory=dict)

    def cut(self, response: Response) -> Cut:
        """Return the records of a response.

        Raises:
            RetryLater: the response may have been cut.
            RunFailed: it is not in the shape or the format that was declared.
        """
        if self.format is not None:
            found = _of_lines(response, self.format)
        else:
            records = _of_json(response, self.records, is_single=self.single)
            found = Cut(records=records, received=len(records), digest=digest_of(records))
        members = {**{name: value_at(response, path) for name, path in self.envelope.items()}, **self.added}
        if self.expand is None and not members:
            return found
        shaped: Iterator[Record] = iter(found.records)
        if self.expand is not None:
            shaped = (member for record in shaped for member in expanded(record, self.expand, self.parent_as))
        if members:
            shaped = (with_members(record, members) for record in shaped)
        # A list, because the page is kept whole.
        taken = list(islice(shaped, MOST_RECORDS + 1))
        if len(taken) > MOST_RECORDS:
            raise RunFailed(
                "too_many_records", f"more than {MOST_RECORDS:,} records in one page; ask for smaller pages"
            )
        return replace(found, records=taken, refused=found.refused if self.expand is None else {})


def digest_of(records: Sequence[Record]) -> str:
    """Digest the records alone: what is around them often holds a time or a request's number."""
    if not records:
        return ""
    text = records.text if isinstance(records, Records) else b",".join(records)
    # Pages of one length that begin and end alike and differ all the same have one checksum once in four billion times.
    # SHA-256 of all of a page takes three times as long.
    ends = hashlib.sha256(text[:DIGESTED] + text[-DIGESTED:]).hexdigest()[:16]
    return f"{ends}{len(text):x}-{zlib.crc32(text):08x}"


def last_of(records: Sequence[Record]) -> Any:
    """Return the last record, decoded; None where there is none, or where it is no JSON."""
    try:
        return msgspec.json.decode(bytes(records[-1])) if records else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def with_members(record: Record, members: Mapping[str, Any]) -> Record:
    """Return the record with more members before its own; what is no object stays as it is."""
    text = bytes(record)
    if not text.startswith(b"{") or not members:
        return record
    rest = text[1:].lstrip(b" \t\r\n")
    return Record(_encode(members)[:-1] + (b"" if rest.startswith(b"}") else b",") + rest)


def expanded(record: Record, name: str, parent_as: str) -> Iterator[Record]:
    """Yield the members of the list of that name, each with the rest of the record.

    One object in place of a list counts as a list of one, null and nothing as an empty one. What cannot be taken apart
    is yielded as it is, to be rejected by whoever cleans it.

    Raises:
        RunFailed: `too_many_records`, the record or the list has more members than a page may have records.
    """
    refuse_crowd(record)
    try:
        parent = _decode_object(record)
        found = bytes(parent.pop(name, b"null"))
        refuse_crowd(found)
        members = [] if found == b"null" else [Record(found)] if found.startswith(b"{") else _decode_list(found)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        yield record
        return
    for member in members:
        yield with_members(member, {parent_as: parent})


def _of_json(response: Response, path: tuple[str, ...], *, is_single: bool) -> Sequence[Record]:
    try:
        return [single_record(response, path)] if is_single else split_records(response, path)
    except NoList as error:
        raise error.proven_by("a response that is one record is declared with single=True") from error
    except RunFailed as error:
        if response.is_delimited or error.code != "not_json":
            raise
        raise RetryLater(f"the connection ended within the response: {error}", blames="request") from error


def _of_lines(response: Response, form: Csv | Ndjson) -> Cut:
    body = response.body
    if "html" in (kind := response.headers.get("content-type", "").lower()):
        raise RunFailed("shape", f"expected {type(form).__name__}, the remote answered {kind[:60]}")
    if not response.is_delimited and not body.endswith(b"\n"):
        raise RetryLater("the connection ended within the response, in the middle of a line", blames="request")
    if body.count(b"\n") > MOST_RECORDS:
        raise RunFailed("too_many_records", f"more than {MOST_RECORDS:,} lines in one page; ask for smaller pages")
    whole = replace(form, page_bytes=len(body) + 1)
    block = next(iter(whole.blocks(_Body(body), None, Facts(), FileLimits())))
    digest = hashlib.sha256(body).hexdigest()[:32] if block.records else ""
    return Cut(records=block.records, received=len(block.records), digest=digest, refused=block.refused)


class _Body:
    """A body as the formats of files read it."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.position = 0

    def read(self, size: int = -1, /) -> bytes:
        end = len(self._body) if size < 0 else self.position + size
        taken = self._body[self.position : end]
        self.position += len(taken)
        return taken

    def skip(self, offset: int) -> None:
        self.position = offset
