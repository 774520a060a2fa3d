"""An OAuth 2 server on loopback, made of oauthlib's side of the server: refresh tokens can be used once."""

import base64
import threading
from types import SimpleNamespace
from urllib.parse import unquote

from oauthlib.oauth2 import RequestValidator, Server

from tests.remote import Reply, Request


class OAuthServer(RequestValidator):
    """Answers requests for tokens at /token, and tells whether a request has a good one. One client is registered."""

    def __init__(self, *, client: str, secret: str, refresh: str, lifetime: int = 3600) -> None:
        self._client, self._secret = client, secret
        self.refresh_tokens, self.access_tokens = {refresh}, set()
        self.grants: list[str] = []
        self._lock = threading.Lock()
        self._server = Server(self, token_expires_in=lifetime)

    def answer(self, request: Request) -> Reply:
        """Give tokens, and an empty list to whoever brings a good one."""
        if request.path == "/token":
            return self.token(request)
        return Reply(body=b"[]") if self.accepts(request) else Reply(401)

    def token(self, request: Request) -> Reply:
        with self._lock:
            # oauthlib speaks with https alone.
            headers, body, status = self._server.create_token_response(
                "https://oauth.example/token", request.method, request.body.decode(), dict(request.headers)
            )
        return Reply(status, body.encode(), headers)

    def accepts(self, request: Request) -> bool:
        return request.headers.get("authorization", "").removeprefix("Bearer ") in self.access_tokens

    # What oauthlib asks

    def authenticate_client(self, request, *args, **kwargs):
        given = request.headers.get("authorization", "")
        if given.startswith("Basic "):
            name, _, secret = base64.b64decode(given.removeprefix("Basic ")).decode().partition(":")
        else:
            name, secret = request.client_id, request.client_secret
        request.client = SimpleNamespace(client_id=self._client)
        return (unquote(name or ""), unquote(secret or "")) == (self._client, self._secret)

    def validate_grant_type(self, client_id, grant_type, client, request, *args, **kwargs):
        return grant_type in ("client_credentials", "refresh_token")

    def get_default_scopes(self, client_id, request, *args, **kwargs):
        return ["read"]

    def validate_scopes(self, client_id, scopes, client, request, *args, **kwargs):
        return set(scopes) <= {"read"}

    def get_original_scopes(self, refresh_token, request, *args, **kwargs):
        return ["read"]

    def validate_refresh_token(self, refresh_token, client, request, *args, **kwargs):
        return refresh_token in self.refresh_tokens

    def rotate_refresh_token(self, request):
        return True

    def save_bearer_token(self, token, request, *args, **kwargs):
        self.grants.append(request.grant_type)
        self.refresh_tokens.discard(request.refresh_token)
        self.access_tokens.add(token["access_token"])
        if "refresh_token" in token:
            self.refresh_tokens.add(token["refresh_token"])
