"""A response of a JSON API to the page that it is, or to the one that is remembered. Pure, no I/O."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import msgspec

from ingestion.http import Response
from ingestion.pagination import Received
from ingestion.sources import loops
from ingestion.sources.asking import Asked, Asking
from ingestion.sources.revalidating import Heard, Note
from ingestion.sources.shaping import Cut, Shape, last_of
from ingestion.sources.splitting import value_at
from ingestion.types import Cursor, Page, Recall
from ingestion.unchanged import Remembered


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """A page that was received: what was asked for, and what came."""

    asking: Asking
    shape: Shape
    max_pages: int
    asked: Asked
    response: Response
    at: Cursor
    heard: Heard | None = None
    known_total: int | None = None

    def known_page(self, recall: Recall) -> Page:
        """Return the page without its records where it is as it was remembered."""
        if self.response.is_empty:
            return self.page()
        if self.heard is not None and self.heard.unchanged is not None:
            return self._unsent_page(self.heard.unchanged)
        digest = _digest_of_response(self.response, self.asked.added)
        remembered = recall(self.at["pages"] + 1, digest)
        if remembered is None:
            return replace(self.page(), digest=digest)
        note = Note.of(remembered)
        following = self._following(note.received, note.digest, None)
        if self.heard is not None:
            remembered = msgspec.structs.replace(remembered, note=self._note(note.received, note.digest, following))
        return Page(
            number=remembered.number,
            records=(),
            size_bytes=len(self.response.body),
            following=following,
            digest=digest,
            note=remembered.note,
            unchanged=remembered,
            reread=lambda: replace(self.page(), digest=digest),
        )

    def _unsent_page(self, remembered: Remembered) -> Page:
        """Return a page that the remote says is as it was remembered: see Note [Not modified]."""
        note = Note.of(remembered)
        assert note.seen is not None, "it was asked for with its validators"
        at = note.seen.following
        return Page(
            number=remembered.number,
            records=(),
            size_bytes=len(remembered.note),
            following=self._advanced(note.digest, lambda: at),
            digest=remembered.digest,
            note=remembered.note,
            unchanged=remembered,
        )

    def _note(self, received: int, digest: str, following: Cursor | None) -> str:
        """Return what the page is remembered with."""
        seen = None if self.heard is None else self.heard.seen(following and following["at"])
        return Note(digest=digest, received=received, seen=seen).text()

    def page(self) -> Page:
        if self.response.is_empty:
            # It is the end, unless that contradicts what the remote has said before: a total, for one.
            self._following(0, "", None)
            return Page(number=self.at["pages"] + 1, records=(), size_bytes=0, following=None)
        cut = self.shape.cut(self.response)
        following = self._following(cut.received, cut.digest, cut)
        return Page(
            number=self.at["pages"] + 1,
            records=cut.records,
            size_bytes=len(self.response.body),
            following=following,
            refused=cut.refused,
            note=self._note(cut.received, cut.digest, following),
        )

    def _following(self, count: int, digest: str, cut: Cut | None) -> Cursor | None:
        """Return the cursor after a page of so many records with that digest."""
        pagination, at = self.asking.pagination, self.at
        return self._advanced(digest, lambda: pagination.following(at["at"], self._received(count, cut)))

    def _advanced(self, digest: str, following: Callable[[], Cursor | None]) -> Cursor | None:
        asking = self.asking
        return loops.advance(
            self.at,
            digest,
            following,
            max_pages=self.max_pages,
            shown=lambda each: asking.shown(asking.page(each).added),
        )

    def _received(self, count: int, cut: Cut | None) -> Received:
        return Received(
            headers=self.response.headers if self.heard is None else self.heard,
            records=count,
            value=partial(value_at, self.response),
            last=partial(_last, self, cut),
            url=self.asked.url,
            origin=self.asking.url,
            own=self.asking.own,
            known_total=self.known_total,
        )


def _last(read: Read, cut: Cut | None) -> Any:
    """Return the last record as it was received."""
    if cut is None or read.shape.expand is not None:
        cut = replace(read.shape, expand=None).cut(read.response)
    return last_of(cut.records)


def _digest_of_response(response: Response, added: Mapping[str, Any]) -> bytes:
    """Digest what was asked for, and all of the response that decides about its records."""
    asked = json.dumps([sorted(added.items()), response.headers.get("content-type", "")]).encode()
    digest = hashlib.sha256(b"%d %b" % (len(asked), asked))
    digest.update(response.body)
    return digest.digest()
