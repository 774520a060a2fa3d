"""Records that have the columns' fields and nothing else: decoded once, written by one format string each.

Note [Closed records]: a struct that forbids unknown fields vouches for all of a record: neither its depth nor what no
column takes needs a look. And where a group has no backslash, its JSON says its texts as they are, so that no value
holds a quote, a backslash or a control character: nothing is left to escape, and the format string can write the JSON
of the whole record as well. The format strings are compiled once a feed; `%` takes twice as long, encoding and cutting
the JSON thrice.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import NoneType
from typing import Any, Final

import msgspec

from ingestion.cleaning import Column

# What can stand in JSON, in a format string and in Python's source as it is.
_PLAIN_NAME: Final = re.compile(r"[\w .:/-]+", re.ASCII)
_KINDS: Final = frozenset({"text", "integer", "boolean"})

encode_lines = msgspec.json.Encoder().encode_lines


@dataclass(frozen=True, kw_only=True)
class Field:
    """A column of a closed record: its type for msgspec, its default (NODEFAULT where it has none)."""

    column: Column
    type_: Any
    default: Any

    @property
    def name(self) -> str:
        return self.column.path[0] if self.column.path else ""

    @property
    def is_required(self) -> bool:
        return self.default is msgspec.NODEFAULT

    @property
    def may_be_null(self) -> bool:
        return self.column.null or self.default is None


@dataclass(frozen=True, kw_only=True)
class Closed:
    """How closed records become lines.

    Args:
        decode: a JSON list to structs; raises what msgspec raises.
        plain: structs of a group without a backslash to COPY lines.
        careful: structs, with the JSON of each when that is a column, to lines of values that are not escaped, with a
            mark for NULL.
        keys: the keys of structs.
        expected: the fields as `drift.Watch` wants to know them.
        optional: the values of each field that not every record has to have, or that may be null.
        are_texts: whether each of those is text.
        strings_each: how many strings a record has that has all fields, names included.
    """

    decode: Callable[[bytes], list[Any]]
    plain: Callable[[list[Any]], list[str]]
    careful: Callable[[list[Any], Sequence[str]], list[str]]
    keys: Callable[[list[Any]], list[Any]]
    expected: Sequence[tuple[str, str, bool]]
    optional: Callable[[list[Any]], tuple[list[Any], ...]]
    are_texts: Sequence[bool]
    strings_each: int

    def strings(self, records: int, optional: tuple[list[Any], ...], kinds: tuple[frozenset[type], ...]) -> int:
        """Return how many strings so many records have with these optional values and their types."""
        strings = records * self.strings_each
        for values, types, is_text in zip(optional, kinds, self.are_texts, strict=True):
            if msgspec.UnsetType in types:
                strings -= values.count(msgspec.UNSET) * (1 + is_text)
            if is_text and NoneType in types:
                strings -= values.count(None)
        return strings


def close(fields: Sequence[Field], *, whole: bool, null: str, mark: str) -> Closed | None:
    """Compile the fields; None where one is more than a text, a whole number or a boolean of the record itself.

    Args:
        whole: whether the JSON of the whole record is the last column.
        null, mark: NULL in COPY text, and what stands for it in lines that are not escaped.
    """
    if not all(map(_is_plain, fields)) or not any(field.is_required for field in fields):
        return None
    names = [f"s.c{number}" for number in range(len(fields))]
    named = list(zip(names, fields, strict=True))
    # The fields that every record has come first, so that the others' commas stand in front of them. They come in the
    # order of jsonb, which then has nothing to sort: names of ASCII, by length and then byte by byte.
    required = sorted(
        (pair for pair in named if pair[1].is_required), key=lambda pair: (len(pair[1].name), pair[1].name)
    )
    json = ",".join(f'"{field.name}":{_json(name, field)}' for name, field in required)
    json += "".join(_optional_json(name, field) for name, field in named if not field.is_required)
    values = r"\t".join(_value(name, field) for name, field in named)
    inline, beside = (rf"\t{{{{{json}}}}}", r"\t{text}") if whole else ("", "")
    each = "s, text in zip(records, texts)" if whole else "s in records"
    keys = [name for name, field in named if field.column.is_key]
    key = keys[0] if len(keys) == 1 else f"({', '.join(keys)})"
    optional = [name for name, field in named if field.may_be_null or not field.is_required]
    lists = "".join(f"[{name} for s in records], " for name in optional)
    plain, careful = partial(_compile, fields, null), partial(_compile, fields, mark)
    return Closed(
        decode=msgspec.json.Decoder(list[_struct(fields)]).decode,  # type: ignore[misc]  # made at run time
        plain=plain(rf"lambda records: [f'{values}{inline}\n' for s in records]"),
        careful=careful(rf"lambda records, texts: [f'{values}{beside}\n' for {each}]"),
        keys=plain(f"lambda records: [{key} for s in records]"),
        expected=[(field.name, field.column.kind, name in optional) for name, field in named],
        optional=plain(f"lambda records: ({lists})"),
        are_texts=[field.column.kind == "text" for name, field in named if name in optional],
        strings_each=sum(1 + (field.column.kind == "text") for field in fields),
    )


def _struct(fields: Sequence[Field]) -> Any:
    # A field that is not there has to be told from one that has the default.
    members = [
        (f"c{number}", field.type_)
        if field.is_required
        else (f"c{number}", field.type_ | msgspec.UnsetType, msgspec.UNSET)
        for number, field in enumerate(fields)
    ]
    return msgspec.defstruct(
        "Record",
        members,
        rename={f"c{number}": field.name for number, field in enumerate(fields)},
        kw_only=True,
        gc=False,
        forbid_unknown_fields=True,
    )


def _is_plain(field: Field) -> bool:
    column, default = field.column, field.default
    if column.kind not in _KINDS or len(column.path or ()) != 1 or not _PLAIN_NAME.fullmatch(field.name):
        return False
    return not isinstance(default, str) or (default.isprintable() and "\\" not in default)


def _value(name: str, field: Field) -> str:
    """Return the part of the format string that writes a value as COPY text."""
    value = name if field.is_required else f'(DEFAULTS["{field.name}"] if {name} is UNSET else {name})'
    if field.column.kind == "boolean":
        return f"{{BOOLEANS[{value}]}}"
    if not field.may_be_null:
        return f"{{{value}}}"
    return f"{{NULL if {value} is None else {value}}}"


def _json(name: str, field: Field) -> str:
    """Return the part of the format string that writes a value as JSON, in a group without backslashes."""
    if field.column.kind == "boolean":
        return f"{{JSON_BOOLEANS[{name}]}}"
    quote = '"' if field.column.kind == "text" else ""
    if not field.may_be_null:
        return f"{quote}{{{name}}}{quote}"
    value = f"QUOTE + {name} + QUOTE" if quote else name
    return f'{{"null" if {name} is None else {value}}}'


def _optional_json(name: str, field: Field) -> str:
    """Return the part that writes a field which a record need not have, with its name and a comma in front."""
    value = {"boolean": f"JSON_BOOLEANS[{name}]", "text": f"QUOTE + {name} + QUOTE"}.get(
        field.column.kind, f"str({name})"
    )
    if field.may_be_null and field.column.kind != "boolean":
        value = f'("null" if {name} is None else {value})'
    return f'{{"" if {name} is UNSET else NAMES["{field.name}"] + {value}}}'


def _compile(fields: Sequence[Field], null: str, source: str) -> Callable[..., Any]:
    """Compile a function that this module wrote; of the feed it holds nothing but names that `_is_plain` has seen."""
    names = {
        "NULL": null,
        "QUOTE": '"',
        "UNSET": msgspec.UNSET,
        "NAMES": {field.name: f',"{field.name}":' for field in fields},
        "DEFAULTS": {field.name: field.default for field in fields},
        "BOOLEANS": {True: "t", False: "f", None: null},
        "JSON_BOOLEANS": {True: "true", False: "false", None: "null"},
    }
    function: Callable[..., Any] = eval(source, names)  # noqa: S307
    return function
