"""No secret of a request is shown, whatever comes of it; what cannot be sent is said without it."""

import logging

import pytest

from ingestion.errors import ConfigurationError, RetryLater, RunFailed
from tests.ingestion.http_getting import GOOD, HEAD, get
from tests.remote import Raw, Remote, Reply

SECRET = "hush-9f8e7d"


@pytest.fixture
def logged(caplog):
    """Collect everything that any library logs, as the project's settings let it through."""
    caplog.set_level(logging.DEBUG)
    return caplog


@pytest.mark.parametrize(
    "answer",
    [
        GOOD,
        Reply(500),
        Reply(404),
        Reply(302, headers={"Location": "/"}),
        Raw([]),
        Raw([HEAD + b"Content-Length: 9\r\n\r\n"]),
    ],
    ids=["good", "500", "404", "302", "no answer", "cut"],
)
def test_no_secret_of_the_url_or_a_header_is_shown(answer, logged):
    with Remote(answer) as remote:
        host = remote.url.removeprefix("http://")
        url = f"http://{SECRET}-user:{SECRET}-password@{host}/photos?key={SECRET}#{SECRET}"
        message = ""
        try:
            get(url, {"token": SECRET}, headers={"X-Api-Key": SECRET})
        except (RetryLater, RunFailed) as error:
            message = f"{error} {error!r} {error.__cause__!r} {error.__context__!r}"
    assert remote.requests[0].headers["x-api-key"] == SECRET
    assert remote.queries[0] == {"key": SECRET, "token": SECRET}
    shown = message + logged.text + repr([record.__dict__ for record in logged.records])
    assert "/photos" in shown
    assert SECRET not in shown


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{SECRET}/x@host/photos",
        f"http://user:{SECRET}@[::1/photos",
        f"user:{SECRET}@host/photos",
        f"//user:{SECRET}@host/photos",
        f"ftp://user:{SECRET}@host/photos",
        f"http://user:{SECRET}@/photos",
        f"http://host\n/{SECRET}",
        f"http://a..b/photos?key={SECRET}",
        f"/photos?key={SECRET}",
        f"photos-{SECRET}",
        "http://",
        "",
    ],
)
def test_a_url_that_cannot_be_requested_is_a_mistake_of_the_feed_and_not_shown(url, logged):
    with pytest.raises(ConfigurationError) as raised:
        get(url, {"page": "1"})
    error = raised.value
    assert "expected http://host/path" in str(error)
    assert SECRET not in f"{error} {error!r} {error.__cause__!r} {logged.text}"
    assert error.__suppress_context__


@pytest.mark.parametrize("value", ["\n", "\r\nX-Evil: 1", "\x00", "é", " ", "\t", "\x7f"])
def test_a_header_that_cannot_be_sent_is_a_mistake_of_the_feed_and_not_shown(value, logged):
    with Remote(GOOD) as remote:
        with pytest.raises(ConfigurationError, match="header X-Api-Key") as raised:
            get(remote.url, headers={"X-Api-Key": SECRET + value})
        assert remote.requests == []
    assert SECRET not in f"{raised.value} {raised.value!r} {logged.text}"


@pytest.mark.parametrize("value", ["", "x", "Bearer a.b-c_d~e+f/g==", 'W/"tag"', "two words", "tab\tinside"])
def test_usual_header_values_are_sent(value):
    with Remote(GOOD) as remote:
        get(remote.url, headers={"X-Value": value})
    assert remote.requests[0].headers["x-value"] == value
