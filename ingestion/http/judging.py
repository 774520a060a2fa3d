"""What a response's status and headers mean for its request, before the body is read."""

from typing import Final

import httpx

from ingestion.errors import Blame, RunFailed
from ingestion.http.ratelimits import wait_asked_for
from ingestion.http.values import Meaning, TransientFailure
from ingestion.http.waiting import retry_after

_TOO_MANY: Final = 429
# RFC 9110, 15.6: not this request but the server, or what it stands in front of. CDNs have numbers of their own.
_OUT_OF_SERVICE: Final = frozenset({502, 503, 504, *range(520, 528), 530})


class Answered(RunFailed):
    """The remote refused a request, with `status`."""

    status: int = 0


class Refused(Answered):
    """The remote does not take the credentials."""


def check(meaning: Meaning, response: httpx.Response, where: str) -> None:
    """Raise what a response means unless it is a good one.

    Raises:
        TransientFailure: it may pass by itself.
        Refused: the credentials have to be made anew.
        Answered: `http_status`, the remote refused the request.
    """
    if meaning == "retry":
        raise passing(response, where)
    if meaning in ("refresh", "fail"):
        failure = (Refused if meaning == "refresh" else Answered)("http_status", said(where, response))
        failure.status = response.status_code
        raise failure


def passing(response: httpx.Response, where: str) -> TransientFailure:
    """Return the failure that a response is which may pass by itself."""
    headers = headers_of(response)
    wait = wait_asked_for(headers) if response.status_code == _TOO_MANY else retry_after(headers)
    return TransientFailure(said(where, response), wait=wait, blames=blame_of(response.status_code))


def blame_of(status: int) -> Blame:
    """Return what of the remote has failed by its status."""
    if status in _OUT_OF_SERVICE:
        return "host"
    return "request" if status >= 500 else ""


def check_raw(meaning: Meaning, response: httpx.Response, where: str) -> None:
    """Raise what a response means whose body is handed on as it comes.

    Raises:
        TransientFailure, Refused, Answered: as `check`.
        RunFailed: `content_encoding`, whoever reads it could not.
    """
    check(meaning, response, where)
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise RunFailed(
            "content_encoding", f"{where} answered in {encoding[:40]!r} although only identity was accepted"
        )


def said(where: str, response: httpx.Response) -> str:
    """Return what the remote answered, for a message."""
    return f"{where} answered {response.status_code} {response.reason_phrase}".strip()


def headers_of(response: httpx.Response) -> dict[str, str]:
    """Return the headers with their names in lower case."""
    return {name.lower(): value for name, value in response.headers.items()}
