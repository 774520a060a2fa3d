"""OAuth 2 (RFC 6749) without a browser: client credentials, and refresh tokens that somebody was given once.

Note [Spent tokens]: a refresh token that can be used once is spent by the reply that has its successor, so that there
is a moment at which nobody but the process that reads that reply has a token that is still good. It is as short as it
can be: that the token is about to be sent is committed before; its successor is committed, alone, as soon as it is
there; a database that does not take it is asked again and again. A process that is killed in that moment leaves the
note and the old token. The next one sends that again: many servers take it for a while, or until its successor is used,
because replies get lost on every network. One that does not makes it a person's business, and the run and the
credential say so.
"""

import threading
from base64 import b64encode
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from urllib.parse import quote, urlencode

import structlog
from django.db import DatabaseError, InterfaceError

from ingestion import credentials
from ingestion.auth.schemes import Secret, Send
from ingestion.auth.tokens import GrantRefused, Token, read_token
from ingestion.credentials import Locked
from ingestion.errors import ConfigurationError, IngestionError, RetryLater
from ingestion.http import Request
from ingestion.texts import Text, text_of

log = structlog.get_logger(__name__)

# A worker that lost the database while it asked holds the next token for so long and more: see `credentials.succeed`.
_UNSTORED: Final = timedelta(seconds=60)

# Tokens of client credentials, for all feeds and slices of this process.
_granted: Final[dict["ClientCredentials", Token]] = {}
_granting: Final = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class ClientCredentials:
    """Get tokens for the client itself (RFC 6749, 4.4); each process has one, until it has to be replaced.

    Args:
        client_auth: where id and secret go: `"basic"` or `"body"` (RFC 6749, 2.3.1).
        params: other fields of the request for a token, such as `(("audience", "…"),)`.
    """

    token_url: Text
    client_id: Text
    client_secret: Secret
    scope: str = ""
    client_auth: Literal["basic", "body"] = "basic"
    params: tuple[tuple[str, str], ...] = ()

    def signer(self, send: Send) -> "_Signer":
        return _Signer(lambda refused: self._token(send, refused))

    def _token(self, send: Send, refused: str) -> Token:
        now = datetime.now(UTC)
        with _granting:
            known = _granted.get(self)
            if known is None or not known.is_good(now) or known.access == refused:
                fields = {"grant_type": "client_credentials", **dict(self.params)}
                known = _asked(self, send, fields, now)
                _granted[self] = known
            return known


@dataclass(frozen=True, kw_only=True)
class RefreshToken:
    """Get tokens with a refresh token (RFC 6749, 6) that `manage.py credentials set NAME` has stored.

    All workers use the same token: the row of the credential is locked while one of them replaces it, and the new
    refresh token is committed, encrypted, before the new access token is used. See Note [Spent tokens].
    """

    name: str
    token_url: Text
    client_id: Text
    client_secret: Secret | None = None
    scope: str = ""
    client_auth: Literal["basic", "body"] = "basic"
    params: tuple[tuple[str, str], ...] = field(default=())

    def signer(self, send: Send) -> "_Signer":
        return _Signer(lambda refused: self._token(send, refused))

    def _token(self, send: Send, refused: str) -> Token:
        if credentials.is_joined():
            # A dry run rolls its transaction back, and the only copy of the token with it.
            with ThreadPoolExecutor(1) as alone:
                return alone.submit(self._own_token, send, refused).result()
        return self._own_token(send, refused)

    def _own_token(self, send: Send, refused: str) -> Token:
        """Return a token that was not refused. See Note [Spent tokens]."""
        with credentials.connected():
            with credentials.locked(self.name) as row:
                now = datetime.now(UTC)
                if (known := _stored(row)).is_good(now) and known.access != refused:
                    return known
                if not known.refresh:
                    raise ConfigurationError(f"the credential {self.name} holds no refresh token: set it again")
                asked_before = row.asked_at
                row.note_asked(now)
            try:
                return self._exchanged(send, refused)
            except GrantRefused as refusal:
                raise self._refused(refusal, known.refresh, asked_before) from refusal

    def _exchanged(self, send: Send, refused: str) -> Token:
        """Spend the refresh token and store its successor, or return what somebody else has got meanwhile."""
        fresh: Token | None = None
        try:
            with credentials.locked(self.name) as row:
                now = datetime.now(UTC)
                if (known := _stored(row)).is_good(now) and known.access != refused:
                    return known
                fields = {"grant_type": "refresh_token", "refresh_token": known.refresh, **dict(self.params)}
                fresh = _asked(self, send, fields, now)
                # A reply without a refresh token keeps the old one (RFC 6749, 6).
                fresh = replace(fresh, refresh=fresh.refresh or known.refresh)
                row.save(_values(fresh))
        except (DatabaseError, InterfaceError):
            if fresh is None:
                raise
            credentials.succeed(self.name, spent=known.refresh, values=_values(fresh))
        log.info("refreshed credential", credential=self.name)
        return fresh

    def _refused(self, refusal: GrantRefused, spent: str, asked_before: datetime | None) -> IngestionError:
        """Note that the refresh token is refused, and return what to do about it."""
        now = datetime.now(UTC)
        with credentials.locked(self.name) as row:
            if _stored(row).refresh != spent:
                return RetryLater(f"{refusal.message}; the credential {self.name} was replaced meanwhile")
            if asked_before is not None and now - asked_before < _UNSTORED:
                return RetryLater(
                    f"{refusal.message}; the worker that asked before, at {asked_before:%H:%M:%S} UTC, may yet store "
                    f"the next refresh token of {self.name}",
                    wait=_UNSTORED / 2,
                )
            row.note_refused(now, is_spent=asked_before is not None)
        lost = ""
        if asked_before is not None:
            lost = (
                f" It was sent at {asked_before:%Y-%m-%d %H:%M:%S} UTC already, and the answer to that was never "
                "stored: the worker was killed, or the answer was lost on its way."
            )
        return refusal.proven_by(
            f"the refresh token of {self.name} is no longer taken.{lost} Somebody has to log in again, and to store "
            f"the new one with manage.py credentials set {self.name}"
        )


def _values(token: Token) -> dict[str, str]:
    return {
        "refresh": token.refresh,
        "access": token.access,
        "replace_at": token.replace_at.isoformat() if token.replace_at else "",
    }


def _stored(row: Locked) -> Token:
    at = row.values.get("replace_at")
    return Token(
        access=row.values.get("access", ""),
        refresh=row.values.get("refresh", ""),
        replace_at=datetime.fromisoformat(at) if at else None,
    )


def _asked(client: ClientCredentials | RefreshToken, send: Send, fields: Mapping[str, str], now: datetime) -> Token:
    """Ask the token's server once."""
    name, secret = text_of(client.client_id), client.client_secret() if client.client_secret is not None else ""
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    form = {**fields, **({"scope": client.scope} if client.scope else {})}
    if client.client_auth == "basic" and secret:
        pair = f"{quote(name, safe='')}:{quote(secret, safe='')}"
        headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    else:
        form |= {"client_id": name, **({"client_secret": secret} if secret else {})}
    request = Request(method="POST", url=text_of(client.token_url), headers=headers, body=urlencode(form).encode())
    where = f"the token server of {name}"
    return read_token(send(request), where, now)


class _Signer:
    """Signs with an access token, and gets another when it is refused or about to end.

    `token` is given the access token that was refused, or an empty text.
    """

    def __init__(self, token: Callable[[str], Token]) -> None:
        self._source = token
        self._token: Token | None = None

    def sign(self, request: Request) -> Request:
        if self._token is None or not self._token.is_good(datetime.now(UTC)):
            self._token = self._source("")
        return replace(request, headers={**request.headers, "Authorization": f"Bearer {self._token.access}"})

    def renew(self) -> bool:
        refused = self._token.access if self._token else ""
        self._token = self._source(refused)
        return self._token.access != refused
