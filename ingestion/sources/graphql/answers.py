"""A GraphQL response to its nodes' own bytes, what is beside them, and what went wrong. Pure, no I/O."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec

from ingestion.errors import RunFailed
from ingestion.http import Response
from ingestion.sources.splitting import (
    LENIENT_BYTES,
    LENIENT_VALUES,
    MOST_RECORDS,
    cut_member,
    refuse_crowd,
    shown,
    split_records,
    utf8,
)
from ingestion.types import Record, Records

_NONE: Final = Record(b"null")
# Smaller ones cannot have more members than a page may have: see `refuse_crowd`.
_CROWD_BYTES: Final = 2 * MOST_RECORDS
_SHOWN_PROBLEMS: Final = 3


class _Edge(msgspec.Struct):
    node: Record = _NONE


class _Connection(msgspec.Struct):
    nodes: Record = _NONE
    edges: list[_Edge | None] | None = None
    page_info: dict[str, Any] | None = msgspec.field(default=None, name="pageInfo")


_decode_connection: Final = msgspec.json.Decoder(_Connection).decode
_decode_object: Final = msgspec.json.Decoder(dict[str, Record]).decode
# What a parser stumbles over that is no JSON, or not of the shape that is usual.
_UNUSUAL: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One member of `errors`. `message` names its code and path, and shows no secret."""

    message: str
    codes: frozenset[str]
    path: tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Nodes:
    """The records of a page. `inside` is where they are below the path: nothing, `nodes` or `edges`."""

    records: Sequence[Record]
    inside: tuple[str, ...] = ()
    page_info: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Envelope:
    """A response: the value at the records' path, undecoded, and what is beside `data`."""

    response: Response
    found: Record
    problems: tuple[Problem, ...]
    extensions: Mapping[str, Any]

    @property
    def size_bytes(self) -> int:
        """Return what the response takes in memory, of which the records are a part."""
        return self.response.size_bytes


class Reader:
    """Take responses apart; compiled once for the path of the records below `data`."""

    def __init__(self, path: tuple[str, ...]) -> None:
        self._path = path
        self._decode = _decoder(path)

    def open(self, response: Response, hide: Callable[[str], str]) -> Envelope:
        """Read what is beside the records; `hide` leaves out of a message what the server was sent.

        Raises:
            RunFailed: `not_json`, `encoding`, `shape` as of `split_records`.
        """
        try:
            found, errors, extensions = self._decode(utf8(response))
        except _UNUSUAL:
            whole = _whole(response, self._path)
            # The records are looked for once more, closely.
            found, errors, extensions = _NONE, whole.get("errors"), whole.get("extensions")
        problems = errors if isinstance(errors, list) else [errors] if errors else []
        return Envelope(
            response=response,
            found=found,
            problems=tuple(_problem(each, hide) for each in problems),
            extensions=extensions if isinstance(extensions, dict) else {},
        )

    def nodes(self, envelope: Envelope) -> Nodes:
        """Cut the nodes out of a list or a connection, without decoding them.

        Raises:
            RunFailed: `shape` when there is neither, `too_many_records`, and as `open`.
        """
        text = bytes(envelope.found)
        try:
            if text.startswith(b"["):
                refuse_crowd(text)
                return Nodes(records=Records(text))
            if text.startswith(b"{"):
                return _of_connection(text) or _leniently(envelope.response, self._path)
        except _UNUSUAL:
            pass
        return _leniently(envelope.response, self._path)

    def look(self, response: Response, path: tuple[str, ...]) -> Any:
        """Return the decoded value at a path below `data`, None where there is none."""
        try:
            return msgspec.json.decode(_decoder(path)(utf8(response))[0])
        except _UNUSUAL:
            return at_path(_whole(response, path), ("data", *path))


def summary(problems: Sequence[Problem]) -> str:
    """Return what a response's errors say, the first few of them."""
    more = len(problems) - _SHOWN_PROBLEMS
    said = "; ".join(problem.message for problem in problems[:_SHOWN_PROBLEMS])
    return f"{said}; and {more} more" if more > 0 else said


@lru_cache(maxsize=256)
def _decoder(path: tuple[str, ...]) -> Callable[[bytes], tuple[Record, Any, Any]]:
    """Return a function from a body to the value at a path, the errors and the extensions, in one go over the body."""
    inner: Any = Record
    default: Any = _NONE
    for name in reversed(path):
        inner, default = msgspec.defstruct("Level", [("inner", inner, default)], rename={"inner": name}) | None, None
    fields = [("data", inner, default), ("errors", Any, None), ("extensions", Any, None)]
    decode = msgspec.json.Decoder(msgspec.defstruct("Envelope", fields)).decode

    def read(body: bytes) -> tuple[Record, Any, Any]:
        envelope: Any = decode(body)
        value = envelope.data
        for _ in path:
            value = _NONE if value is None else value.inner
            if value is _NONE:
                break
        return _NONE if value is None else value, envelope.errors, envelope.extensions

    return read


def _of_connection(text: bytes) -> Nodes | None:
    for member in _decode_object(text).values() if len(text) > _CROWD_BYTES else ():
        refuse_crowd(member)
    connection = _decode_connection(text)
    nodes = bytes(connection.nodes)
    if nodes != b"null":
        return Nodes(records=Records(nodes), inside=("nodes",), page_info=connection.page_info)
    if connection.edges is None:
        return None
    # One text, so that the page is cleaned in one go and held without an object for each record.
    cut = b",".join([_NONE if edge is None else edge.node for edge in connection.edges])
    records = Records(b"[%b]" % cut)
    return Nodes(records=records, inside=("edges",), page_info=connection.page_info)


def _leniently(response: Response, path: tuple[str, ...]) -> Nodes:
    """Cut nodes out of what has bad ones among them, or say what is there instead."""
    try:
        return Nodes(records=split_records(response, ("data", *path)))
    except RunFailed as error:
        if error.code != "shape" or len(response.body) > LENIENT_BYTES:
            raise
        connection = at_path(_whole(response, path), ("data", *path))
        lists = [name for name in ("nodes", "edges") if isinstance(at_path(connection, (name,)), list)]
        if not lists:
            raise
    records = split_records(response, ("data", *path, lists[0]))
    if lists[0] == "edges":
        records = [cut_member(edge, "node") for edge in records]
    info = connection.get("pageInfo")
    return Nodes(records=records, inside=(lists[0],), page_info=info if isinstance(info, dict) else None)


def _whole(response: Response, path: tuple[str, ...]) -> dict[str, Any]:
    """Decode a body of which a part is not JSON, or whose shape is another one."""
    body = utf8(response)
    if len(body) > LENIENT_BYTES or body.count(b",") > LENIENT_VALUES:
        split_records(response, ("data", *path))  # says what is wrong with it
        raise RunFailed("not_json", f"the body is not as expected, and too large to look closer: {shown(body)}")
    try:
        whole = json.loads(body.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError) as error:
        split_records(response, ("data", *path))
        raise RunFailed("not_json", f"{error}; the body starts with {shown(body)}") from error
    if not isinstance(whole, dict):
        raise RunFailed("shape", f"expected an object with data or errors, found {shown(body)}")
    return whole


def at_path(value: Any, path: tuple[str, ...]) -> Any:
    """Return the value at a path of names, None where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _problem(error: Any, hide: Callable[[str], str]) -> Problem:
    if not isinstance(error, dict):
        return Problem(message=shown(hide(str(error)).encode()), codes=frozenset(), path=())
    extensions = error.get("extensions")
    code = extensions.get("code") if isinstance(extensions, dict) else None
    # Where it should be, and where older servers and GitHub's have it.
    codes = [hide(str(each))[:40] for each in (code, error.get("code"), error.get("type")) if each]
    path = tuple(error["path"]) if isinstance(error.get("path"), list) else ()
    beside = [*codes[:1], *([f"at {hide('.'.join(map(str, path)))[:80]}"] if path else [])]
    said = shown(hide(str(error.get("message", ""))).encode())
    return Problem(message=f"{said} ({', '.join(beside)})" if beside else said, codes=frozenset(codes), path=path)
