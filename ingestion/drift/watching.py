"""Every record of a run looked at for fields and types that were not seen before, most of them at C speed.

Note [Watching]: what was seen so far is compiled into a struct that forbids everything else. A page that fits has
nothing new, and was validated by the way; one that does not fit is looked at record by record, and what it has is
added to the struct. So each field costs one slow page. The struct holds what this watch has seen, not what was known
before it: what it lacks at the end of a run has vanished.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from ingestion.cleaning import strings_in
from ingestion.drift.shapes import TYPES, Change, Shape, changes, learn, struct_of, to_json

_decode_any: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode
_TYPES_OF_KINDS: Final = {"text": "text", "integer": "number", "boolean": "boolean"}


class Watch:
    """Looks at the records of one slice of a run, by one thread. See Note [Watching].

    `found` is what differs from the `known` shape so far; nothing does where nothing was known. It may be read by
    other threads.
    """

    def __init__(self, known: Shape | None = None) -> None:
        self._known = known
        self._seen = Shape()
        self._is_changed = False
        self._page = 0
        self._decode = _decoder(self._seen)
        self._required: list[tuple[str, str]] = []
        self._optional: list[str] = []
        self._settled: dict[tuple[frozenset[type], ...], bool] = {}
        self.found: tuple[Change, ...] = ()

    def turn_to(self, page: int) -> None:
        """Note the number of the page whose records come next."""
        self._page = page

    def look(self, records: bytes) -> int:
        """Look at records in a JSON list, and validate it; return how many strings are left of it when it is decoded.

        Raises:
            msgspec.MsgspecError: it is no JSON, or holds a number out of range.
            UnicodeDecodeError: it is not UTF-8.
            RecursionError: it is too deep.
        """
        try:
            decoded = self._decode(records)
        except msgspec.ValidationError:
            decoded = _decode_any(records)
            self._learn(decoded)
        return strings_in(_encode(decoded))

    def _learn(self, records: list[Any]) -> None:
        learned = [learn(self._seen, record, page=self._page) for record in records if type(record) is dict]
        if not any(learned):
            return
        self._is_changed = True
        self._settled.clear()
        self._decode = _decoder(self._seen)
        if self._known is not None and self._known.fields:
            self.found = tuple(changes(self._known, self._seen))

    def expect(self, fields: Iterable[tuple[str, str, bool]]) -> None:
        """Name the fields at the top that `has_seen` is asked about: each one's kind of column, and if it is optional.

        Values of a kind have one JSON type.
        """
        for name, kind, is_optional in fields:
            if is_optional:
                self._optional.append(name)
            else:
                self._required.append((name, _TYPES_OF_KINDS[kind]))

    def has_seen(self, kinds: tuple[frozenset[type], ...]) -> bool:
        """Whether there is nothing new in records that have nothing besides the expected fields.

        Args:
            kinds: the Python types of each optional field's values, UnsetType for records without it.
        """
        settled = self._settled.get(kinds)
        if settled is None:
            settled = self._settled[kinds] = self._is_settled(kinds)
        return settled

    def _is_settled(self, kinds: tuple[frozenset[type], ...]) -> bool:
        seen = self._seen.fields
        if any(name not in seen or kind not in seen[name].types for name, kind in self._required):
            return False
        for name, found in zip(self._optional, kinds, strict=True):
            there = {TYPES[kind] for kind in found - {msgspec.UnsetType}}
            if there and (name not in seen or not there <= {"null", *seen[name].types}):
                return False
        return True

    def take_shape(self) -> dict[str, Any] | None:
        """Return what was seen so far as it is stored; None when that is what was returned the last time."""
        if not self._is_changed:
            return None
        self._is_changed = False
        return to_json(self._seen)


def _decoder(shape: Shape) -> Any:
    return msgspec.json.Decoder(list[struct_of(shape)]).decode  # type: ignore[misc]  # a struct made at run time
