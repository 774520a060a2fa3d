"""Which column of a CSV file or a sheet is which: the header against what the feed needs. Pure, no I/O."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from ingestion.errors import RunFailed
from ingestion.sources.files.formats import Facts

_DELIMITERS: Final = (",", ";", "\t", "|")
SHOWN_CHARACTERS: Final = 200


def names_of(header: Sequence[str], rename: Mapping[str, str], facts: Facts, delimiter: str | None = None) -> list[str]:
    """Return a name for each column, all different: the header's, but for those that are empty or there twice.

    Raises:
        RunFailed: `header`: a column that the feed needs is missing or there twice. `dialect`: it would not be with
            another delimiter.
    """
    found = [rename.get(name, name) for name in header]
    missing = sorted(facts.fields - set(found))
    if delimiter and (missing or not facts.fields):
        _refuse_delimiter(header, delimiter, rename, facts)
    if missing:
        shown = ", ".join(map(repr, header))[:SHOWN_CHARACTERS]
        raise RunFailed("header", f"there is no column {', '.join(map(repr, missing))}; the header is {shown}")
    counts = Counter(found)
    twice = sorted(name for name, count in counts.items() if count > 1 and name in facts.fields)
    if twice:
        raise RunFailed("header", f"the column {', '.join(map(repr, twice))} is there twice, which one is meant?")
    return _distinct(found)


def _refuse_delimiter(header: Sequence[str], delimiter: str, rename: Mapping[str, str], facts: Facts) -> None:
    """Refuse a header that another delimiter would cut into what is needed, or at all where nothing is."""
    text = delimiter.join(header)
    for other in _DELIMITERS:
        parts = {rename.get(part.strip(' "'), part.strip(' "')) for part in text.split(other)}
        is_better = facts.fields <= parts if facts.fields else len(header) == 1 and len(parts) > 1
        if other != delimiter and is_better:
            raise RunFailed("dialect", f"the columns are separated by {other!r}, and the feed declares {delimiter!r}")


def _distinct(names: list[str]) -> list[str]:
    taken: set[str] = set(names)
    seen: set[str] = set()
    distinct = []
    for place, name in enumerate(names, start=1):
        chosen, turn = name or f"column_{place}", 1
        while chosen in seen or (chosen != name and chosen in taken):
            turn += 1
            chosen = f"{name or f'column_{place}'}_{turn}"
        seen.add(chosen)
        distinct.append(chosen)
    return distinct
