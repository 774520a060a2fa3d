"""What was sent to a remote, kept out of what is said of it: a remote may say anything back. Pure, no I/O."""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from ingestion.errors import IngestionError
from ingestion.http.values import Request, Response

# Shorter texts are words more often than secrets, and hiding them would garble what is said.
_SHORTEST: Final = 6
# Messages are cut: so much of a secret's start tells enough of it.
_SHORTEST_START: Final = 12
# What every client may send, and what is told of it.
_OPEN_HEADERS: Final = frozenset(
    {
        "accept", "accept-encoding", "accept-language", "cache-control", "content-type", "host", "if-modified-since",
        "if-none-match", "if-range", "range", "user-agent",
    }
)  # fmt: skip
# A signature is another one with each request, and a run may have millions: hiding this many takes some milliseconds.
_MOST_CHANGING: Final = 500
# RFC 6749: what of an exchange for a token is no secret.
_OPEN_MEMBERS: Final = frozenset({"grant_type", "token_type", "scope", "error", "error_description", "error_uri"})


def secrets_in(*sent: Any) -> frozenset[str]:
    """Return the texts among values that are sent: any may be a secret, and a remote may say it back."""
    found: set[str] = set()
    for value in sent:
        if isinstance(value, str) and len(value) >= _SHORTEST:
            found.add(value)
        elif isinstance(value, Mapping):
            found |= secrets_in(*value.values())
        elif isinstance(value, list | tuple | frozenset):
            found |= secrets_in(*value)
    return frozenset(found)


def hidden(text: str, secrets: Iterable[str]) -> str:
    """Return a message without what was sent, in any way that it may be written, and without a cut one's start."""
    written = {form for secret in secrets for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1])}
    for form in sorted(written, key=len, reverse=True):
        text = text.replace(form, "…")
    for form in written:
        # A page that somebody logged in with may be one secret of megabytes; no more of it can be in the text.
        sizes = range(min(len(form) - 1, len(text)), _SHORTEST_START - 1, -1)
        if start := next((form[:size] for size in sizes if form[:size] in text), ""):
            text = text.replace(start, "…")
    return text


class Sent:
    """The secrets that a client was given and has sent so far; of those that change with each request the newest."""

    def __init__(
        self, secrets: Iterable[str], headers: Mapping[str, str] | None = None, urls: Iterable[str] = ()
    ) -> None:
        self._kept = {*secrets, *_in_headers(headers or {})}.union(*map(_in_url, urls))
        # As keys, in the order in which they were last sent.
        self._changing: dict[str, None] = {}

    def learn(self, request: Request, signed: Request) -> None:
        """Learn what was added to a request to prove who asks."""
        if signed.headers != request.headers:
            self._learn(_in_headers(signed.headers))
        if signed.url != request.url:
            self._learn(_in_url(signed.url))

    def learn_headers(self, headers: Mapping[str, str]) -> None:
        """Learn what is in headers that are sent from now on."""
        self._learn(_in_headers(headers))

    def learn_cookies(self, header: str) -> None:
        """Learn the cookies that a request is sent with."""
        self._learn(_in_headers({"Cookie": header}))

    def learn_url(self, url: str) -> None:
        """Learn what is in a URL that the remote has given."""
        self._learn(_in_url(url))

    def learn_values(self, *sent: Any) -> None:
        """Learn texts that came from elsewhere, and are sent or signed with."""
        self._learn(secrets_in(*sent))

    def learn_exchange(self, request: Request, response: Response | None) -> None:
        """Learn what was given for a token or a session, and all texts of what came for it."""
        self._kept |= _in_headers(request.headers) | _in_url(request.url)
        for body in (request.body or b"", response.body if response is not None else b""):
            try:
                told = json.loads(body)
            except (ValueError, RecursionError):
                told = dict(parse_qsl(body.decode("utf-8", "replace")))
            if isinstance(told, Mapping):
                told = {name: value for name, value in told.items() if name not in _OPEN_MEMBERS}
            self._kept |= secrets_in(told)

    @contextmanager
    def unsaid(self) -> Iterator[None]:
        """Leave what was sent out of the errors of a block."""
        try:
            yield
        except IngestionError as error:
            self.hide_in(error)
            raise

    def hidden(self, text: str) -> str:
        """Return a text without what was sent."""
        return hidden(text, self._kept | self._changing.keys())

    def hide_in(self, error: BaseException) -> None:
        """Leave what was sent out of an error's message, and out of those of the errors that it came from."""
        secrets, seen = self._kept | self._changing.keys(), set[int]()
        due: list[BaseException | None] = [error]
        while due:
            each = due.pop()
            if each is None or id(each) in seen:
                continue
            seen.add(id(each))
            if isinstance(each, IngestionError):
                each.rewrite(lambda text: hidden(text, secrets))
            else:
                each.args = tuple(hidden(part, secrets) if isinstance(part, str) else part for part in each.args)
            due += (each.__cause__, each.__context__)

    def _learn(self, texts: Iterable[str]) -> None:
        for text in texts:
            self._changing.pop(text, None)
            self._changing[text] = None
        while len(self._changing) > _MOST_CHANGING:
            del self._changing[next(iter(self._changing))]


def _in_headers(headers: Mapping[str, str]) -> frozenset[str]:
    found: list[str] = []
    for name, value in headers.items():
        if name.lower() in _OPEN_HEADERS:
            continue
        # "Bearer abc": what follows the scheme is the secret, and may come alone.
        found += (value, value.rpartition(" ")[2])
        if value.startswith("Basic "):
            found.append(_password(value))
        if name.lower() == "cookie":
            found += (pair.partition("=")[2] for pair in value.split("; "))
    return secrets_in(found)


def _in_url(url: str) -> frozenset[str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return frozenset()
    given = [value for _, value in parse_qsl(parts.query)]
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    # As they are sent.
    pair = base64.b64encode(f"{user}:{password}".encode()).decode() if password else ""
    return secrets_in(given, user, password, pair)


def _password(header: str) -> str:
    try:
        return base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
