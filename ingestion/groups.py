"""Groups of records to COPY text at C speed, where nothing in them needs a second look.

Note [Fast groups]: written as a struct, the columns let msgspec check types, lengths and ranges of a whole group of
records at once, and one format string per record makes its line. Whatever needs a decision (a coercion, a default for
null, a character to escape other than the backslash, a bad value) makes the group fail as a whole; it then goes record
by record through `cleaning` and `encoding`, which alone know the rules. Tests hold both ways against each other.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Annotated, Any, Final, Literal

import msgspec

from ingestion.cleaning import MAX_DEPTH, MAX_RECORD_BYTES, UNSET, Column
from ingestion.encoding import NULL
from ingestion.types import Record

# Stands for NULL until the backslashes are escaped; a group whose values hold it goes the slow way.
_NULL_MARK: Final = "\x1d"

_validate = msgspec.json.Decoder().decode
_split = msgspec.json.Decoder(list[Record]).decode

# The COPY text and the keys of a group of records, or None where it needs a second look.
EncodeGroup = Callable[[Sequence[Record]], tuple[str, list[Any]] | None]


def compile_groups(columns: Sequence[Column]) -> EncodeGroup | None:
    """Compile the columns into a function of a group; None for columns that only the slow way knows.

    A column that takes the whole record must be the last.
    """
    taken = [column for column in columns if column.path is not None]
    whole = len(taken) < len(columns)
    struct = _struct_of(taken)
    if struct is None or any(column.path is None for column in columns[:-1]):
        return None
    decode = msgspec.json.Decoder(list[struct]).decode  # type: ignore[valid-type]  # it is made at run time
    values_of = _getter(range(len(taken)))
    keys_of = attrgetter(*[_name(number) for number, column in enumerate(taken) if column.is_key])
    template = "\t".join(["%s"] * len(columns)) + "\n"
    translated = any(column.null or column.default is None or column.kind == "boolean" for column in taken)

    def encode(records: Sequence[Record]) -> tuple[str, list[Any]] | None:
        text = b"[" + b",".join(records) + b"]"
        if not _is_plain(text, len(records), whole=whole):
            return None
        try:
            structs = decode(text)
            _validate(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        rows: list[tuple[Any, ...]] = [values_of(struct) for struct in structs]
        marks = 0
        if translated:
            marks = sum([row.count(None) for row in rows])
            rows = [tuple([_word(value) for value in row]) for row in rows]
        if whole:
            rows = [(*row, str(raw, "utf-8")) for row, raw in zip(rows, _split(_compact(text)), strict=True)]
        lines = _escaped("".join([template % row for row in rows]), rows=len(rows), columns=len(columns), marks=marks)
        return None if lines is None else (lines, [keys_of(struct) for struct in structs])

    return encode


def _struct_of(columns: Sequence[Column]) -> type[msgspec.Struct] | None:
    """Make the struct that a record must fit, one field per column; None where a column has no such form."""
    paths = [column.path for column in columns]
    if len(set(paths)) < len(paths) or not all(path and len(path) == 1 for path in paths):
        return None
    fields: list[Any] = []
    for number, column in enumerate(columns):
        type_ = _type_of(column)
        if type_ is None:
            return None
        default = column.default if column.default is not UNSET else None if column.null else msgspec.NODEFAULT
        fields.append((_name(number), type_ | None if default is None else type_, default))
    # msgspec wants fields without a default first; keyword-only fields may come in any order.
    rename = {_name(number): column.path[0] for number, column in enumerate(columns) if column.path}
    return msgspec.defstruct("Columns", fields, rename=rename, kw_only=True, gc=False)


def _type_of(column: Column) -> Any:
    """Return the type whose values need no cleaning, or None when every value needs it."""
    if column.choices is not None:
        plain = {"text": str, "integer": int}.get(column.kind)
        fits = plain is not None and all(type(choice) is plain for choice in column.choices)
        return Literal[tuple(column.choices)] if fits and column.choices else None
    if column.kind == "text":
        return Annotated[str, msgspec.Meta(min_length=int(column.is_key), max_length=column.max_length)]
    if column.kind == "integer":
        low, high = column.limits or (-(2**63), 2**63 - 1)
        return Annotated[int, msgspec.Meta(ge=low, le=high)]
    return bool if column.kind == "boolean" else None


def _name(number: int) -> str:
    return f"column_{number}"


def _getter(numbers: range) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that takes the fields of a struct as a tuple; attrgetter gives a bare value for one."""
    if len(numbers) == 1:
        only = attrgetter(_name(numbers[0]))
        return lambda struct: (only(struct),)
    return attrgetter(*map(_name, numbers)) if numbers else lambda struct: ()


def _is_plain(text: bytes, records: int, *, whole: bool) -> bool:
    """Whether no record of the group can be too deep or too large, or hold a NUL that jsonb refuses."""
    if len(text) > MAX_RECORD_BYTES:
        return False
    # The list and each record have one bracket; a record deeper than the limit has that many more.
    if text.count(b"{") + text.count(b"[") >= records + MAX_DEPTH:
        return False
    return not (whole and b"\\u0000" in text)


def _word(value: Any) -> Any:
    return _NULL_MARK if value is None else "t" if value is True else "f" if value is False else value


def _compact(text: bytes) -> bytes:
    """Drop line breaks and tabs between tokens; JSON allows none inside its strings."""
    if b"\n" in text or b"\t" in text or b"\r" in text:
        return msgspec.json.format(text, indent=-1)
    return text


def _escaped(text: str, *, rows: int, columns: int, marks: int) -> str | None:
    """Escape the backslashes of lines; None when a value holds a character that would need more than that."""
    if text.count("\n") != rows or text.count("\t") != rows * (columns - 1) or text.count(_NULL_MARK) != marks:
        return None
    if "\r" in text or "\x00" in text:
        return None
    # The other escapes were just ruled out, so this is all of `encoding.escape`.
    text = text.replace("\\", r"\\")
    return text.replace(_NULL_MARK, NULL) if marks else text
