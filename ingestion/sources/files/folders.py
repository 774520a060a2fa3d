"""Walking the folders of a server that lists one at a time; names it gives are checked before they are used."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ingestion.sources.files.entries import Entry
from ingestion.sources.files.patterns import fixed_folder, matcher


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One line of a listing: a file as an entry, or a folder. `name` is its last part, as the server gave it."""

    name: str
    is_folder: bool
    entry: Entry


def walk(pattern: str, listing: Callable[[str], Iterator[Found]], *, depth: int = 32) -> Iterator[Entry]:
    """Yield the files that match a pattern; `listing` gives what is in a folder: "" or a name with a slash at its end.

    A name with a slash, a line break or two dots may be meant to lead elsewhere: it is not used, and reported.
    """
    matches = matcher(pattern).fullmatch
    is_deep = "/" in pattern[len(fixed_folder(pattern)) :]
    waiting = [(fixed_folder(pattern), depth)]
    while waiting:
        folder, left = waiting.pop()
        for found in listing(folder):
            if found.name in (".", ".."):
                continue
            problem = _problem_of(found.name)
            if found.is_folder:
                if is_deep and not problem and left:
                    waiting.append((f"{folder}{found.name}/", left - 1))
            elif problem:
                yield _with_problem(found.entry, problem)
            elif matches(f"{folder}{found.name}"):
                yield found.entry


def _problem_of(name: str) -> str:
    if not name or "/" in name or name.startswith(".."):
        return "its name may lead to another folder"
    if any(character in name for character in "\r\n\x00"):
        return "its name has a line break or U+0000"
    return ""


def _with_problem(entry: Entry, problem: str) -> Entry:
    return Entry(name=entry.name, handle=None, version="", problem=problem)
