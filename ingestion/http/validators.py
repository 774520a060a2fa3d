"""Validators of responses (RFC 9110, 8.8): asked with them, a remote need not send again what is unchanged. Pure."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Final, NamedTuple

from ingestion.http.dates import http_date, sent_at

# RFC 9110, 8.8.3. Others are not sent back: what a server makes of them is anybody's guess.
_ETAG: Final = re.compile(r'(W/)?"([!#-~\x80-\xff]{1,200})"')
# What Apache (mod_deflate, mod_brotli) and Jetty add to the tag of a document for its compressed form.
_VARIANT: Final = re.compile(r"(-|--|;)(gzip|br|zstd)$")
# It counts seconds, and a document may change twice within one. RFC 9110, 8.8.2.2 wants a second between it and the
# response, more where two clocks may be meant.
_SETTLED: Final = timedelta(minutes=1)

NOT_MODIFIED: Final = 304
CONDITIONS: Final = frozenset({"if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range"})


class Validators(NamedTuple):
    """What tells one version of a response from another: its tag or, where it has none, when it was last changed."""

    etag: str
    modified: str

    def conditions(self) -> dict[str, str]:
        """Return the headers that ask for the response only if it is another one by now."""
        if not self.etag:
            return {"If-Modified-Since": self.modified}
        plain = _ETAG.fullmatch(self.etag)
        tags = [self.etag]
        # Apache gives the tag of the compressed form, and knows only the plain one again.
        if plain and (found := _VARIANT.search(plain[2])):
            tags.append(f'{plain[1] or ""}"{plain[2][: found.start()]}"')
        return {"If-None-Match": ", ".join(tags)}

    def confirmed_by(self, headers: Mapping[str, str]) -> bool:
        """Whether a 304 speaks of this version. Tags are compared weakly (RFC 9110, 8.8.3.2)."""
        told = headers.get("etag", "").strip()
        if self.etag:
            return not told or _opaque(told) == _opaque(self.etag)
        return headers.get("last-modified", self.modified) == self.modified


def validators_of(headers: Mapping[str, str]) -> Validators | None:
    """Return the validators of a response; None when it has none that can be relied on."""
    etag = headers.get("etag", "").strip()
    if _ETAG.fullmatch(etag):
        return Validators(etag, "")
    modified = headers.get("last-modified", "").strip()
    modified_at = http_date(modified)
    if modified_at is None:
        return None
    return Validators("", modified) if sent_at(headers) - modified_at >= _SETTLED else None


def _opaque(etag: str) -> str:
    found = _ETAG.fullmatch(etag)
    return _VARIANT.sub("", found[2]) if found else etag
