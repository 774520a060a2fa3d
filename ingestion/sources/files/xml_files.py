"""XML files: one element for each record, without entities, DTDs or the network."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ingestion.errors import ConfigurationError, RunFailed
from ingestion.sources.files.extras import needed
from ingestion.sources.files.formats import Block, Bytes, Facts
from ingestion.sources.files.limits import FileLimits
from ingestion.types import Cursor, Record

_BLOCK: Final = 128 * 1024
# Where xsi:nil is defined (XML Schema part 1, 2.6.2).
_NIL: Final = "{http://www.w3.org/2001/XMLSchema-instance}nil"
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, kw_only=True)
class Xml:
    """XML files, of which each element named `record` is a record.

    A record's members are its children by their local names, its attributes with `@` in front, and its own text as
    `#text` where it has both. An element that comes more than once is a list, and so is one of `lists` always; an empty
    one is empty text, one with xsi:nil is null.

    Args:
        record: local name of the elements, wherever they are.
        lists: local names of elements that may come more than once.
        page_records: records of one page.
    """

    record: str
    lists: tuple[str, ...] = ()
    page_records: int = 1_000

    def __post_init__(self) -> None:
        given: object = self.lists  # one text alone is text, whatever the annotation says
        if isinstance(given, str) or not self.record:
            raise ConfigurationError("Xml needs the name of its records, and a tuple of names of lists")

    @property
    def ends_with_line(self) -> bool:
        return False

    def offset(self, at: Cursor | None) -> int:
        return 0

    def blocks(self, stream: Bytes, at: Cursor | None, facts: Facts, limits: FileLimits) -> Iterator[Block]:
        number, start, size_bytes = at["record"] if at else 0, 0, 0
        ready: list[Record] = []
        for place, record in enumerate(self._records(stream, limits)):
            if place < number:
                continue
            if len(ready) == self.page_records:
                start = number + len(ready)
                yield Block(records=ready, size_bytes=size_bytes, following={"record": start})
                number, ready, size_bytes = start, [], 0
            ready.append(record)
            size_bytes += len(record)
        yield Block(records=ready, size_bytes=size_bytes, following=None)

    def _records(self, stream: Bytes, limits: FileLimits) -> Iterator[Record]:
        etree = needed("lxml.etree", "xml")
        parser = etree.XMLPullParser(
            events=("end",), tag=f"{{*}}{self.record}", resolve_entities=False, no_network=True, load_dtd=False,
            huge_tree=False, remove_comments=True, remove_pis=True,
        )  # fmt: skip
        head: Any = etree.XMLPullParser(events=("start",), resolve_entities=False, no_network=True, load_dtd=False)
        since = 0
        try:
            while received := stream.read(_BLOCK):
                head = head and _still_head(head, received)
                parser.feed(received)
                since += len(received)
                for _, element in parser.read_events():
                    since = 0
                    yield Record(_encode(self._value(element)))
                    _forget(element)
                if since > limits.record_bytes:
                    raise RunFailed("record_too_large", f"more than {limits.record_bytes} bytes without a record's end")
            parser.close()
        except etree.XMLSyntaxError as error:
            raise RunFailed("not_xml", f"line {error.lineno}: {error.msg}") from error

    def _value(self, element: Any) -> Any:
        if element.get(_NIL) in ("true", "1"):
            return None
        members: dict[str, Any] = {f"@{_local(name)}": value for name, value in element.attrib.items() if name != _NIL}
        for child in element:
            name, value = _local(child.tag), self._value(child)
            if name in members and not isinstance(members[name], list):
                members[name] = [members[name]]
            if name in members:
                members[name].append(value)
            else:
                members[name] = [value] if name in self.lists else value
        text = (element.text or "").strip() if members else element.text or ""
        if not members:
            return text
        return members | {"#text": text} if text else members


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _still_head(head: Any, received: bytes) -> Any:
    """Refuse a document type, which is known when the first element begins; return None from then on."""
    head.feed(received)
    for _, element in head.read_events():
        if element.getroottree().docinfo.internalDTD is not None:
            raise RunFailed("xml_dtd", "it has a document type, which may define entities; such files are not read")
        return None
    return head


def _forget(element: Any) -> None:
    """Free a record and all that is before it, so that memory does not grow with the file."""
    element.clear()
    for each in (element, *element.iterancestors()):
        while each.getprevious() is not None:
            del each.getparent()[0]
