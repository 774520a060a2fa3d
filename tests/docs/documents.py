"""The documents as the tests see them: blocks, commands, headings and links, as far as the documents use Markdown."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.processes import ROOT

PATHS = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("**/*.md")))
NAMES = tuple(path.relative_to(ROOT).as_posix() for path in PATHS)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block; `line` is that of its first line of text."""

    document: str
    line: int
    language: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def file(self) -> str | None:
        """The path in the first line of a block that is a file."""
        found = re.match(r"# ([\w./-]+/[\w.-]+\.\w+)\n", self.text)
        return found[1] if found else None


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command of a block, and the output that the document shows; None where it shows none."""

    where: str
    text: str
    shown: str | None = None


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def blocks(name: str) -> list[Block]:
    found, opened = [], None
    for number, line in enumerate(text_of(name).splitlines(), start=1):
        fence = re.fullmatch(r"( *)```(\w*)", line)
        if opened is None and fence:
            opened = Block(document=name, line=number + 1, language=fence[2], text="")
        elif opened is not None and fence:
            found.append(opened)
            opened = None
        elif opened is not None:
            opened = Block(document=name, line=opened.line, language=opened.language, text=f"{opened.text}{line}\n")
    assert opened is None, f"{name}: a block is not closed"
    return found


def commands(block: Block) -> Iterator[Command]:
    """Yield a shell block's commands, one a line (more with a backslash at the end); in `console` they follow `$ `."""
    if block.language == "sh":
        lines = [line for line in block.text.replace("\\\n", "").splitlines() if line and not line.startswith("#")]
        yield from (Command(where=block.where, text=line) for line in lines)
    elif block.language == "console":
        head, *parts = re.split(r"^\$ ", block.text.replace("\\\n", ""), flags=re.MULTILINE)
        assert head == "", f"{block.where}: the block begins without a command"
        for part in parts:
            command, _, shown = part.partition("\n")
            yield Command(where=block.where, text=command, shown=shown)


def prose(name: str) -> str:
    """Return the document without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", text_of(name), flags=re.MULTILINE | re.DOTALL)


def anchors(name: str) -> set[str]:
    """Return the anchors that headings get on a Git host: lower case, punctuation gone, spaces as hyphens."""
    headings = re.findall(r"^#+ +(.+)$", prose(name), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(name: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(name))


def rows(name: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading, without its head."""
    _, found, rest = text_of(name).partition(f"\n{heading}\n")
    assert found, f"{name} has no heading {heading!r}"
    section = re.split(r"^#", rest, maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert lines, f"{name} has no table under {heading!r}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def sources() -> list[Path]:
    """Return the project's own Python files, tests and migrations left out."""
    packages = ("config", "ingestion", "photos", "worker")
    return [path for name in packages for path in (ROOT / name).rglob("*.py") if "migrations" not in path.parts]
