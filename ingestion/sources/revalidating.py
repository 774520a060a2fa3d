"""Pages that a remote need not send again: asked for with the validators of what is remembered of them.

Note [Not modified]: a 304 says that a response's body is what it was, and nothing of it arrives. So a page is asked for
with validators only where it may be skipped whatever becomes of the pages before it, with the very request that it was
remembered for; and where it led is remembered with it, as its body cannot be read again. Headers are none of the body:
where a paginator has looked at some, a total for one, the 304 has to say the same of them; else the page is asked for
once more without validators, and so are all behind it.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from ingestion.http import Response
from ingestion.http.validators import NOT_MODIFIED, Validators, validators_of
from ingestion.types import Cursor, Foresee
from ingestion.unchanged import Remembered

_encode = msgspec.json.encode
# What is remembered of a page stays small; one that leads to a cursor like a whole document is not asked for so.
_LONGEST: Final = 500


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of a response besides its records: its validators, its request, and where it led.

    `following` is the paginator's cursor of the next page, None at the end. `heard` is a digest of what the headers
    said that the paginator looked at, which are in `names`: they may hold secrets.
    """

    etag: str
    modified: str
    asked: str
    following: Cursor | None
    names: tuple[str, ...]
    heard: str

    @property
    def validators(self) -> Validators:
        return Validators(self.etag, self.modified)

    def holds(self, headers: Mapping[str, str]) -> bool:
        """Whether the headers of a 304 say that everything is as it was."""
        return self.validators.confirmed_by(headers) and _digest_of(self.names, headers) == self.heard


_decode = msgspec.json.Decoder(Seen).decode


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """What a page is remembered with: how many records came, their digest, and the response where it has validators."""

    digest: str
    received: int
    seen: Seen | None = None

    @classmethod
    def of(cls, remembered: Remembered) -> "Note":
        """Return the note of a page."""
        digest, *more = remembered.note.split(" ", 2)
        received = int(more[0]) if more else remembered.records
        return cls(digest=digest, received=received, seen=_decode(more[1]) if len(more) > 1 else None)

    def text(self) -> str:
        """Return it as it is stored."""
        text = f"{self.digest} {self.received}"
        seen = b"" if self.seen is None else _encode(self.seen)
        return f"{text} {seen.decode()}" if 0 < len(seen) <= _LONGEST else text


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard(Mapping[str, str]):
    """The headers of a response to the request `asked`, and the names of those that somebody looked at.

    `unchanged` is the page that the response is about, where it says that it is as it was.
    """

    headers: Mapping[str, str]
    asked: str
    unchanged: Remembered | None = None
    names: dict[str, None] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        self.names[name] = None
        return self.headers[name]

    def __iter__(self) -> Iterator[str]:
        self.names.update(dict.fromkeys(self.headers))
        return iter(self.headers)

    def __len__(self) -> int:
        return len(self.headers)

    def seen(self, following: Cursor | None) -> Seen | None:
        """Return what is to be remembered of the response; None when it has no validators."""
        validators = validators_of(self.headers)
        if validators is None:
            return None
        names = tuple(self.names)
        return Seen(*validators, self.asked, following, names, _digest_of(names, self.headers))


@dataclass(kw_only=True)
class Revalidation:
    """Asks for the pages of one feed; `same` is a digest of what is the same in each request."""

    foresee: Foresee
    same: str
    is_believed: bool = True

    def ask(
        self, ask: Callable[..., Response], headers: Mapping[str, str], number: int, at: Cursor
    ) -> tuple[Response, Heard]:
        """Return the response to the request of a page, and what is heard with it.

        Args:
            ask: sends the request with `headers`, and takes the statuses in `answers` for no failures.
            at: the paginator's cursor of the page.
        """
        asked = fingerprint(self.same, at)
        remembered = self.foresee(number) if self.is_believed else None
        seen = None if remembered is None else Note.of(remembered).seen
        if seen is not None and seen.asked == asked:
            conditions = seen.validators.conditions()
            response = ask(headers={**headers, **conditions}, answers=(NOT_MODIFIED,))
            if response.status != NOT_MODIFIED:
                return response, Heard(headers=response.headers, asked=asked)
            if seen.holds(response.headers):
                return response, Heard(headers=response.headers, asked=asked, unchanged=remembered)
            self.is_believed = False
        response = ask(headers=headers or None)
        return response, Heard(headers=response.headers, asked=asked)


def fingerprint(*request: Any) -> str:
    """Return a digest of what is asked for. It tells requests apart, and nothing of what they hold."""
    # A cursor comes back from the database with its names in another order.
    return hashlib.sha256(_encode(request, order="deterministic")).hexdigest()[:32]


def _digest_of(names: tuple[str, ...], headers: Mapping[str, str]) -> str:
    return fingerprint([headers.get(name) for name in names]) if names else ""
