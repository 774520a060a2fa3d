"""A response's body to its records' own bytes: what a page is, and what is no page. Pure, no I/O."""

import codecs
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from ingestion.errors import RunFailed
from ingestion.http import Response
from ingestion.types import Record, Records

# Enough to recognise an error page; a whole payload does not belong in a message.
SHOWN_CHARACTERS: Final = 120
# Looking for the good records of a page with a bad one costs memory of many times its size: 240 bytes for a value.
LENIENT_BYTES: Final = 32 * 1024 * 1024
LENIENT_VALUES: Final = 1_000_000
# A record takes two bytes to send, and 70 of memory before anybody looks at it:
# a body at its limit would fill gigabytes.
MOST_RECORDS: Final = 1_000_000

_CHARSET: Final = re.compile(r"""charset\s*=\s*["']?([^\s"';,]+)""", re.IGNORECASE)
# Encodings of host names, which take a time that grows with the square of the text's length.
_OF_HOST_NAMES: Final = frozenset({"idna", "punycode"})
_BOM: Final = "\ufeff".encode()
# User info and queries of URLs, values named like secrets, and long runs that look like tokens.
_SECRETS: Final = re.compile(
    r"""
    (?P<keep>
        //(?=[^/\s"'<>]*@)
        | \?
        | (?:value|token|secret|password|passwd|api_?key|authorization|session|signature)\w*["']?\s*[:=]\s*["']?
    )
    [^\s"'<>,}]+
    | [\w+/=-]{32,}
    """,
    re.IGNORECASE | re.VERBOSE,
)

_NULL: Final = Record(b"null")
_decode_object = msgspec.json.Decoder(dict[str, Record]).decode
# The standard library's parser takes NaN, Infinity, lone surrogates and control characters; numbers stay text.
_scan = json.JSONDecoder(strict=False, parse_int=str, parse_float=str).raw_decode
# What tells where a member ends; objects without others inside are skipped whole.
_TOKENS: Final = re.compile(
    rb"""\{[^{}\[\]"]*+(?:"(?:[^"\\]|\\.)*+"[^{}\[\]"]*+)*+\}|"(?:[^"\\]|\\.)*+"|[\[\]{},]""", re.DOTALL
)
_LEVELS: Final = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
_skip_space = re.compile(r"[ \t\n\r]*").match


class NoList(RunFailed):
    """What should be a list of records is something else, such as one record."""


def split_records(response: Response, path: tuple[str, ...]) -> Sequence[Record]:
    """Cut a JSON body into its records' own bytes, without decoding them.

    Where single records hold what JSON does not allow but the page can be parsed nevertheless, their bytes are cut out
    as well, to be rejected one by one.

    Raises:
        RunFailed: `not_json` when the body is no JSON document, `encoding` when its text cannot be read, `shape` when
            there is no list at `path`, `too_many_records` when there are more than MOST_RECORDS.
    """
    body = utf8(response)
    try:
        return _split(body, path)
    except RunFailed:
        raise
    except UnicodeDecodeError as error:
        raise RunFailed("encoding", f"a name around the records is not UTF-8: {error.reason}") from error
    except RecursionError as error:
        raise _not_json(response, body, error) from error
    except msgspec.DecodeError as error:
        if len(body) > LENIENT_BYTES or body.count(b",") > LENIENT_VALUES:
            raise _not_json(response, body, error) from error
        try:
            return _split_leniently(body, path)
        except (ValueError, RecursionError) as reason:
            raise _stray_byte(reason) or _not_json(response, body, error) from error


def single_record(response: Response, path: tuple[str, ...]) -> Record:
    """Return the one record that a JSON body is, or has at `path`: an object as its own bytes.

    Raises:
        RunFailed: `not_json` when the body is no JSON document, `encoding` when its text cannot be read, `shape` when
            there is no object at `path`.
    """
    body = utf8(response)
    try:
        _parse(body)
        record = Record(body.strip())
        for name in path:
            record = cut_member(record, name)
    except (ValueError, RecursionError) as error:
        raise _stray_byte(error) or _not_json(response, body, error) from error
    if not bytes(record).startswith(b"{"):
        where = ".".join(path) or "the top"
        raise RunFailed("shape", f"expected a single record at {where}, an object, found {shown(bytes(record))}")
    return record


def cut_member(record: Record, name: str) -> Record:
    """Cut one member out of an object, as its own bytes; what is no object stays as it is, what is not there is null.

    Raises:
        ValueError, RecursionError: the text cannot be parsed.
    """
    with suppress(msgspec.DecodeError, UnicodeDecodeError):
        return _decode_object(record).get(name, _NULL)
    text = bytes(record).decode("utf-8", "surrogateescape")
    start = _after_space(text, 0)
    if text[start : start + 1] != "{":
        return record
    found = {member: (begin, end) for member, begin, end in _members(text, start)}
    if name not in found:
        return _NULL
    begin, end = found[name]
    return Record(text[begin:end].encode("utf-8", "surrogateescape"))


def value_at(response: Response, path: tuple[str, ...]) -> Any:
    """Return the value at a path of a JSON body from which records were cut; None where there is none."""
    body = utf8(response)
    try:
        level: bytes | Record = body
        for key in path:
            found = _decode_object(level).get(key)
            if found is None:
                return None
            level = found
        return msgspec.json.decode(level)
    except msgspec.ValidationError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _leniently_at(body, path)


def _leniently_at(body: bytes, path: tuple[str, ...]) -> Any:
    try:
        level = json.loads(body.decode("utf-8", "surrogateescape"), strict=False)
    except (ValueError, RecursionError):
        return None
    for key in path:
        level = level.get(key) if isinstance(level, dict) else None
    return level


def utf8(response: Response) -> bytes:
    """Return the body as UTF-8 without a byte order mark; another encoding counts only when it is declared.

    Raises:
        RunFailed: `encoding`.
    """
    body = response.body
    declared = _CHARSET.search(response.headers.get("content-type", ""))
    if declared and declared[1].lower() not in ("utf-8", "utf8", "us-ascii", "ascii"):
        try:
            body = _text_of(body, declared[1]).encode()
        except (LookupError, UnicodeError) as error:
            raise RunFailed("encoding", f"the body cannot be read as the declared {declared[1][:40]!r}") from error
    elif body.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in body[:2]:
        raise RunFailed(
            "encoding", "the body looks like UTF-16 or UTF-32 but declares no charset; JSON is sent as UTF-8"
        )
    return body.removeprefix(_BOM)


def _text_of(body: bytes, charset: str) -> str:
    if codecs.lookup(charset).name in _OF_HOST_NAMES:
        raise LookupError(charset)
    return body.decode(charset)


def _split(body: bytes, path: tuple[str, ...]) -> Records:
    level: bytes | Record = body
    try:
        for key in path:
            refuse_crowd(level)
            level = _decode_object(level)[key]
        refuse_crowd(level)
        return Records(bytes(level))
    except KeyError as error:
        raise RunFailed("shape", f"there is no {error} on the way to the records at {'.'.join(path)}") from error
    except msgspec.ValidationError as error:
        raise _no_list(path, bytes(level)) from error


def refuse_crowd(level: bytes | Record) -> None:
    """Refuse a list or an object of too many members before there is an object for each of them.

    Raises:
        RunFailed: `too_many_records`.
    """
    # Their two bytes each, and then the commas, tell of nearly all pages that they have fewer.
    if len(level) <= 2 * MOST_RECORDS or bytes(level).count(b",") < MOST_RECORDS:
        return
    text, depth, members = bytes(level), 0, 1
    for found in _TOKENS.finditer(text, len(text) - len(text.lstrip()) + 1):
        token = found[0]
        if token == b"," and not depth:
            members += 1
        depth += _LEVELS.get(token, 0)
        if members > MOST_RECORDS or depth < 0:
            break
    if members > MOST_RECORDS:
        raise RunFailed("too_many_records", f"more than {MOST_RECORDS:,} records in one page; ask for smaller pages")


def _parse(body: bytes) -> None:
    """Look whether the body is one document; values that JSON does not allow may be in it.

    Raises:
        ValueError, RecursionError: it is none.
    """
    try:
        msgspec.json.decode(body, type=Record)
    except msgspec.DecodeError:
        if len(body) > LENIENT_BYTES or body.count(b",") > LENIENT_VALUES:
            raise
        _start_of_document(body.decode("utf-8", "surrogateescape"))


def _start_of_document(text: str) -> int:
    start = _after_space(text, 0)
    if _after_space(text, _scan(text, start)[1]) != len(text):
        raise ValueError("more than one document")
    return start


def _split_leniently(body: bytes, path: tuple[str, ...]) -> list[Record]:
    text = body.decode("utf-8", "surrogateescape")
    start = _start_of_document(text)
    for key in path:
        if text[start] != "{":
            raise _no_list(path, body)
        bounds = {name: begin for name, begin, _ in _members(text, start)}
        if key not in bounds:
            raise RunFailed("shape", f"there is no {key!r} on the way to the records at {'.'.join(path)}")
        start = bounds[key]
    if text[start] != "[":
        raise _no_list(path, body)
    return [Record(text[begin:end].encode("utf-8", "surrogateescape")) for _, begin, end in _members(text, start)]


def _members(text: str, at: int) -> list[tuple[str, int, int]]:
    """Return the name (empty in lists), the start and the end of each member of the object or list that begins at `at`.

    The caller has parsed the whole text, so that what is not looked at here is known to be there.
    """
    members = []
    closing = {"{": "}", "[": "]"}[text[at]]
    is_object = text[at] == "{"
    at = _after_space(text, at + 1)
    while text[at] != closing:
        name = ""
        if is_object:
            name, at = _scan(text, at)
            at = _after_space(text, _after_space(text, at) + 1)  # the colon
        begin = at
        _, at = _scan(text, at)
        members.append((name, begin, at))
        at = _after_space(text, at)
        if text[at] == ",":
            at = _after_space(text, at + 1)
    return members


def _after_space(text: str, at: int) -> int:
    found = _skip_space(text, at)
    assert found is not None, "the pattern matches nothing as well"
    return found.end()


def _no_list(path: tuple[str, ...], found: bytes) -> RunFailed:
    where = ".".join(path) or "the top"
    return NoList("shape", f"expected a list of records at {where}, found {shown(found)}")


def _stray_byte(error: Exception) -> RunFailed | None:
    """Say so when what the parser stumbled over is a byte that is not UTF-8."""
    if not isinstance(error, json.JSONDecodeError) or not "\udc80" <= error.doc[error.pos : error.pos + 1] <= "\udcff":
        return None
    at = len(error.doc[: error.pos].encode("utf-8", "surrogateescape"))
    hint = "another charset has to be declared in the Content-Type"
    return RunFailed("encoding", f"byte {at} of the body, between the records, is not UTF-8; {hint}")


def _not_json(response: Response, body: bytes, error: Exception) -> RunFailed:
    if not body.strip():
        return RunFailed("not_json", f"empty body with status {response.status}")
    content_type = response.headers.get("content-type", "no content type")[:80]
    return RunFailed("not_json", f"{error} ({content_type}); the body starts with {shown(body)}")


def shown(body: bytes) -> str:
    """Return the start of a body for a message, without what may be a secret."""
    # Cut late, so that a secret at the end is recognised as one.
    text = " ".join(body[: 8 * SHOWN_CHARACTERS].decode("utf-8", "replace").split())
    return repr(_SECRETS.sub(lambda match: f"{match['keep'] or ''}…", text)[:SHOWN_CHARACTERS])
