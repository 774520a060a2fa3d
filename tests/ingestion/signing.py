"""Credentials for the tests: a value like those of feeds, which signs with one password after the other."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from ingestion.http import Request, Response


@dataclass
class Passwords:
    """Signs with one password after the other."""

    left: list[str]

    def signer(self, send: Callable[[Request], Response]) -> "Passwords":
        return self

    def sign(self, request: Request) -> Request:
        return replace(request, headers={**request.headers, "Authorization": self.left[0]})

    def renew(self) -> bool:
        self.left.pop(0)
        return bool(self.left)
