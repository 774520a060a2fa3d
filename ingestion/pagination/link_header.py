"""The Link header of RFC 8288, parsed by the algorithm of its appendix B.2, but strictly: what cannot be read fails.

Leaving out what cannot be read, as the appendix allows, could leave out the next page.
"""

import re
from dataclasses import dataclass
from typing import Final

_SPACE: Final = r"[ \t]*"
_TARGET: Final = re.compile(rf"{_SPACE}<([^<>]*)>{_SPACE}")
# A name, and a value in quotes or without; a value may be left out (RFC 8288, 3).
_PARAM: Final = re.compile(
    rf";{_SPACE}(?:([^ \t;,=\"<>]+){_SPACE}(?:={_SPACE}(?:\"((?:[^\"\\]|\\.)*+)\"|([^ \t;,\"]*))){{0,1}})?{_SPACE}"
)
_COMMAS: Final = re.compile(r"[ \t,]*")
_ESCAPED: Final = re.compile(r"\\(.)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A target, and its parameters with names in lower case; of a name that comes twice the first counts."""

    target: str
    params: dict[str, str]

    @property
    def relations(self) -> list[str]:
        """Return the relation types in lower case; none for a link between other resources than this one."""
        return [] if "anchor" in self.params else self.params.get("rel", "").lower().split()


def parse_links(header: str) -> list[Link]:
    """Return the links of a Link header, several headers joined by commas.

    Raises:
        ValueError: it is not written as RFC 8288 demands.
    """
    links = []
    at = _end(_COMMAS, header, 0)
    while at < len(header):
        found = _TARGET.match(header, at)
        if not found:
            raise ValueError(f"expected <target> at character {at + 1}")
        params: dict[str, str] = {}
        at = found.end()
        while param := _PARAM.match(header, at):
            name, quoted, plain = param.groups()
            if name:
                value = _ESCAPED.sub(r"\1", quoted) if quoted is not None else plain or ""
                params.setdefault(name.lower(), value)
            at = param.end()
        links.append(Link(target=found[1].strip(), params=params))
        if at < len(header) and header[at] != ",":
            raise ValueError(f"expected a parameter or a comma at character {at + 1}")
        at = _end(_COMMAS, header, at)
    return links


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at
