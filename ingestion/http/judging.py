"""What a response's status and headers mean for its request, before the body is read."""

from typing import Final

import httpx

from ingestion.errors import Blame, RunFailed
from ingestion.http.ratelimits import wait_asked_for
from ingestion.http.values import Answers, Meaning, TransientFailure

_FORBIDDEN: Final = 403
# RFC 9110, 15.6: not this request but the server, or what it stands in front of. CDNs have numbers of their own.
_OUT_OF_SERVICE: Final = frozenset({502, 503, 504, *range(520, 528), 530})


class Answered(RunFailed):
    """The remote refused a request, with `status`."""

    status: int = 0


class Refused(Answered):
    """The remote does not take the credentials."""


def meaning_of(response: httpx.Response, answers: Answers, *, is_part: bool = False) -> Meaning:
    """Return what a status means to a feed, `is_part` when a part of the document was asked for.

    Some refuse who asks too fast with 403 (GitHub, "Rate limits for the REST API"); their headers tell it from others.
    """
    meaning = answers.meaning(response.status_code, is_part=is_part)
    if response.status_code == _FORBIDDEN and meaning in ("refresh", "fail"):
        return meaning if wait_asked_for(headers_of(response)) is None else "retry"
    return meaning


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
    wait = wait_asked_for(headers_of(response))
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
