"""Elements of an answer to records, with what the WSDL knows of them: which are lists. Pure, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import msgspec

from ingestion.errors import ConfigurationError, RunFailed
from ingestion.sources.soap.envelopes import local_name
from ingestion.types import Record

# Where xsi:nil is defined (XML Schema part 1, 2.6.2).
_INSTANCE: Final = "{http://www.w3.org/2001/XMLSchema-instance}"
_NIL, _TYPE = f"{_INSTANCE}nil", f"{_INSTANCE}type"
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Shape:
    """What a schema says of an element: its children by local name. A shape of nothing knows none."""

    type: Any = None
    is_list: bool = False

    @cached_property
    def children(self) -> Mapping[str, "Shape"]:
        found: dict[str, Shape] = {}
        for _, node in getattr(self.type, "elements_nested", ()):
            _collect(node, found, is_list=False)
        return found


def _collect(node: Any, found: dict[str, Shape], *, is_list: bool) -> None:
    """Add the elements of a sequence, choice, group or the like; each may come as often as what it is in."""
    is_list = is_list or bool(getattr(node, "accepts_multiple", False))
    if isinstance(node, list):
        for child in node:
            _collect(child, found, is_list=is_list)
    elif getattr(node, "child", None) is not None:
        _collect(node.child, found, is_list=is_list)
    elif getattr(node, "qname", None) is not None:
        found[node.qname.localname] = Shape(node.type, is_list)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Take the records out of answers.

    Args:
        answers: the elements that may answer, by local name, as the WSDL has them.
        path: local names on the way from the answer to the records.
        lists: local names of elements that are lists although the WSDL does not say so.
    """

    answers: Mapping[str, Shape]
    path: tuple[str, ...]
    lists: frozenset[str] = field(default_factory=frozenset)

    def check(self) -> None:
        """Compare the path with the WSDL.

        Raises:
            ConfigurationError: the WSDL has other elements there.
        """
        for shape in self.answers.values():
            level = shape
            for name in self.path:
                if not level.children:
                    break  # anything may be there
                if name not in level.children:
                    known = ", ".join(level.children)
                    raise ConfigurationError(
                        f"Soap: there is no element {name!r} in the answer, expected one of {known}"
                    )
                level = level.children[name]

    def records(self, answer: Any) -> list[Record]:
        """Return the records of an answer; a missing element on the way to them is an answer without any.

        Raises:
            RunFailed: `shape`, when another element answers, or one is missing that the WSDL does not know.
        """
        name = local_name(answer)
        if name not in self.answers:
            raise RunFailed("shape", f"expected {' or '.join(self.answers)} as the answer, found {name[:80]!r}")
        level, shape = [answer], self.answers[name]
        for step in self.path:
            is_known = step in shape.children
            found = [child for element in level for child in element if local_name(child) == step]
            if not found and not is_known and step != self.path[-1]:
                raise RunFailed("shape", f"there is no {step!r} on the way to the records at {'.'.join(self.path)}")
            level, shape = found, shape.children.get(step, Shape())
        return [Record(_encode(self._value(element, shape))) for element in level]

    def look(self, answer: Any, path: tuple[str, ...]) -> str | None:
        """Return the text at a path of an answer, None where there is none."""
        element = answer
        for name in path:
            element = next((child for child in element if local_name(child) == name), None)
            if element is None or element.get(_NIL) in ("true", "1"):
                return None
        return (element.text or "").strip()

    def _value(self, element: Any, shape: Shape) -> Any:
        if element.get(_NIL) in ("true", "1"):
            return None
        members: dict[str, Any] = {
            f"@{name.rpartition('}')[2]}": value for name, value in element.attrib.items() if name not in (_NIL, _TYPE)
        }
        children = shape.children
        for child in element:
            name = local_name(child)
            inner = children.get(name) or Shape()
            value = self._value(child, inner)
            if name not in members:
                members[name] = [value] if inner.is_list or name in self.lists else value
            elif isinstance(members[name], list):
                members[name].append(value)
            else:
                members[name] = [members[name], value]
        text = (element.text or "").strip() if members else element.text or ""
        if not members:
            return text
        return members | {"#text": text} if text else members
