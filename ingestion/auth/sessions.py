"""Logging in: a request that is answered with a cookie or a token for the others."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import urlencode

from ingestion.auth.schemes import Fixed, Send
from ingestion.errors import RunFailed
from ingestion.http import Request, Response
from ingestion.texts import Text, text_of

# Several Set-Cookie headers arrive as one; dates in them hold commas, too.
_NEXT_COOKIE: Final = re.compile(r",\s*(?=[^;,=\s]+=)")


@dataclass(frozen=True, kw_only=True)
class Login:
    """Log in with a POST, and again when the remote refuses what it gave.

    Args:
        fields: names to texts, or to functions that return secrets.
        as_json: send the fields as a JSON object instead of a form.
        token: names on the way to a bearer token in the answer; empty where the answer sets cookies.
    """

    url: Text
    fields: Mapping[str, Text] = field(repr=False)
    as_json: bool = False
    token: tuple[str, ...] = ()

    def signer(self, send: Send) -> "_Session":
        return _Session(self, send)


class _Session:
    def __init__(self, login: Login, send: Send) -> None:
        self._login, self._send = login, send
        self._given: Fixed | None = None

    def sign(self, request: Request) -> Request:
        if self._given is None:
            self._given = self._logged_in()
        return self._given.sign(request)

    def renew(self) -> bool:
        self._given = self._logged_in()
        return True

    def _logged_in(self) -> Fixed:
        login = self._login
        fields = {name: text_of(each) for name, each in login.fields.items()}
        kind = "application/json" if login.as_json else "application/x-www-form-urlencoded"
        body = json.dumps(fields) if login.as_json else urlencode(fields)
        response = self._send(
            Request(method="POST", url=text_of(login.url), headers={"Content-Type": kind}, body=body.encode())
        )
        # Forms lead to a page of their own after a login.
        if response.status >= 400 or (login.token and response.status >= 300):
            raise RunFailed("credentials", f"the login was answered with status {response.status}")
        headers = _token_header(response, login.token) if login.token else _cookie_header(response)
        return Fixed(headers)


def _token_header(response: Response, path: tuple[str, ...]) -> dict[str, str]:
    try:
        value: Any = json.loads(response.body)
        for name in path:
            value = value[name]
    except (ValueError, KeyError, TypeError, RecursionError):
        value = None
    if not isinstance(value, str) or not value:
        raise RunFailed("credentials", f"the answer to the login has no token at {'.'.join(path)}")
    return {"Authorization": f"Bearer {value}"}


def _cookie_header(response: Response) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in _NEXT_COOKIE.split(response.headers.get("set-cookie", "")):
        try:
            pairs |= {name: morsel.coded_value for name, morsel in SimpleCookie(text).items()}
        except CookieError:
            continue
    if not pairs:
        raise RunFailed("credentials", "the answer to the login sets no cookie")
    return {"Cookie": "; ".join(f"{name}={value}" for name, value in pairs.items())}
