"""The records that are loaded: where they are served, which row of which table each one is. Standard library only."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from photos.sample_records import WORDS, photo

PAGE_RECORDS = 1_000

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"})


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One kind of record, and the table its rows go to. `paths` has, for each column, the way into the record."""

    path: str
    table: str
    paths: dict[str, tuple[str, ...]]
    record: Callable[[int], dict[str, Any]] = field(repr=False)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.paths)

    def row(self, record: dict[str, Any]) -> list[Any]:
        """Return the values of a record in the order of the columns; objects and lists as they are."""
        return [_at(record, path) for path in self.paths.values()]

    def lines(self, rows: int) -> Iterator[str]:
        """Make the COPY text of the first records, written here and not by what is measured."""
        for number in range(1, rows + 1):
            yield "\t".join(map(_text, self.row(self.record(number)))) + "\n"

    def json_lines(self, rows: int) -> Iterator[str]:
        """Make one JSON object a line, its members named as the columns; `raw_data` is JSON inside a text."""
        for number in range(1, rows + 1):
            row = dict(zip(self.columns, self.row(self.record(number)), strict=True))
            yield json.dumps(row | {"raw_data": json.dumps(row["raw_data"])}) + "\n"


def _at(record: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        record = record[name]
    return record


def _text(value: Any) -> str:
    if isinstance(value, dict | list):
        value = json.dumps(value)
    elif isinstance(value, bool):
        value = "t" if value else "f"
    return str(value).translate(_ESCAPES)


_PHOTO_PATHS = {
    "remote_id": ("id",),
    "album_id": ("albumId",),
    "title": ("title",),
    "url": ("url",),
    "thumbnail_url": ("thumbnailUrl",),
    "raw_data": (),
}
_photos = partial(Shape, path="/photos", paths=_PHOTO_PATHS, record=photo)

PHOTOS = _photos(table="photos")
PLAIN = _photos(table="bench_plain")
KEYED = _photos(table="bench_keyed")
# What of a photo is the same when it comes as text: the whole record has other types then.
TEXTS = _photos(table="bench_plain", paths={name: path for name, path in _PHOTO_PATHS.items() if path})

# One of a thousand is bad: the one in the middle of its page.
_BAD = PAGE_RECORDS // 2


def is_bad(number: int) -> bool:
    return number % PAGE_RECORDS == _BAD


def _dirty_photo(number: int) -> dict[str, Any]:
    return photo(number) | {"albumId": "none"} if is_bad(number) else photo(number)


DIRTY = Shape(path="/dirty", table="bench_keyed", paths=_PHOTO_PATHS, record=_dirty_photo)

# With the key 60 columns: 20 numbers, 30 texts, 9 flags.
WIDE_NAMES = (
    *(f"n{place:02}" for place in range(20)),
    *(f"t{place:02}" for place in range(30)),
    *(f"b{place:02}" for place in range(9)),
)


def _wide_record(number: int) -> dict[str, Any]:
    return {"id": number} | {name: _wide_value(name[0], number * 61 + place) for place, name in enumerate(WIDE_NAMES)}


def _wide_value(kind: str, seed: int) -> Any:
    if kind == "n":
        return seed % 1_000_003
    return _word(seed) + " " + _word(seed // 7) if kind == "t" else seed % 3 == 0


def _word(seed: int) -> str:
    return WORDS[seed % len(WORDS)]


WIDE = Shape(
    path="/wide",
    table="bench_wide",
    paths={"remote_id": ("id",), **{name: (name,) for name in WIDE_NAMES}},
    record=_wide_record,
)


def _nested_record(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "customer": {
            "name": f"{_word(number)} {_word(number // 3)}",
            "address": {
                "city": _word(number // 5),
                "geo": {"lat": f"{number % 90}.{number % 997:03}", "lng": f"{number % 180}.5"},
            },
        },
        "tags": [_word(number + place) for place in range(number % 4)],
        "items": [{"sku": f"{number}-{place}", "count": place + 1, "price": "9.99"} for place in range(3)],
    }


NESTED = Shape(
    path="/nested",
    table="bench_nested",
    paths={
        "remote_id": ("id",),
        "customer": ("customer", "name"),
        "city": ("customer", "address", "city"),
        "latitude": ("customer", "address", "geo", "lat"),
        "tags": ("tags",),
        "raw_data": (),
    },
    record=_nested_record,
)

TINY = Shape(
    path="/tiny",
    table="bench_tiny",
    paths={"remote_id": ("id",), "value": ("v",)},
    record=lambda number: {"id": number, "v": number * 7 % 1_000},
)

# What the benchmark's own API serves; the photos come from the sample API.
OWN = (DIRTY, WIDE, NESTED, TINY)
# The tables in which prepared files are made.
BASES = {shape.path: shape for shape in (PLAIN, WIDE, NESTED, TINY)}
