"""Validators: what of a response may be sent back, what is sent, and which 304 is believed."""

import pytest

from ingestion.errors import RunFailed
from ingestion.http import Answers, Client, Transport
from ingestion.http.validators import Validators, validators_of
from tests.remote import Remote, Reply

DATE = "Mon, 23 Nov 2026 10:00:00 GMT"
LONG_AGO = "Mon, 23 Nov 2026 09:59:00 GMT"
JUST_NOW = "Mon, 23 Nov 2026 09:59:01 GMT"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"etag": '"a"'}, ('"a"', "")),
        ({"etag": ' W/"2-x" '}, ('W/"2-x"', "")),
        ({"etag": '"a-gzip"', "last-modified": LONG_AGO, "date": DATE}, ('"a-gzip"', "")),
        ({"last-modified": LONG_AGO, "date": DATE}, ("", LONG_AGO)),
        ({"etag": "a", "last-modified": LONG_AGO, "date": DATE}, ("", LONG_AGO)),
        ({"last-modified": "Mon, 23 Nov 2015 10:00:00 GMT"}, ("", "Mon, 23 Nov 2015 10:00:00 GMT")),
    ],
)
def test_a_tag_goes_before_a_time(headers, expected):
    assert validators_of(headers) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"etag": ""},
        {"etag": '""'},
        {"etag": "unquoted"},
        {"etag": 'w/"a"'},
        {"etag": '"a", "b"'},
        {"etag": '"a b"'},
        {"etag": f'"{"a" * 201}"'},
        {"last-modified": "yesterday"},
        {"last-modified": ""},
        {"last-modified": "Mon, 23 Nov 99999 10:00:00 GMT"},
        # Within the minute before the response: it may change once more without another time.
        {"last-modified": JUST_NOW, "date": DATE},
        {"last-modified": "Mon, 23 Nov 2026 11:00:00 GMT", "date": DATE},
    ],
)
def test_what_cannot_be_relied_on_is_none(headers):
    assert validators_of(headers) is None


@pytest.mark.parametrize(
    ("validators", "conditions"),
    [
        (Validators('"a"', ""), {"If-None-Match": '"a"'}),
        (Validators('W/"a"', ""), {"If-None-Match": 'W/"a"'}),
        (Validators('"a-gzip"', ""), {"If-None-Match": '"a-gzip", "a"'}),
        (Validators('W/"a--gzip"', ""), {"If-None-Match": 'W/"a--gzip", W/"a"'}),
        (Validators('"a;br"', ""), {"If-None-Match": '"a;br", "a"'}),
        (Validators("", LONG_AGO), {"If-Modified-Since": LONG_AGO}),
    ],
)
def test_the_tag_of_a_compressed_form_is_sent_with_the_plain_one(validators, conditions):
    assert validators.conditions() == conditions


@pytest.mark.parametrize(
    ("etag", "told", "is_confirmed"),
    [
        ('"a"', '"a"', True),
        ('"a"', 'W/"a"', True),
        ('W/"a"', '"a"', True),
        ('"a-gzip"', '"a"', True),
        ('"a"', '"a-gzip"', True),
        ('"a"', "", True),
        ('"a"', '"b"', False),
        ('"a"', "a", True),
        ('"a"', '"A"', False),
        ('"-gzip"', '"a-gzip"', False),
    ],
)
def test_a_304_is_about_the_tag_that_was_sent_weak_or_strong_compressed_or_not(etag, told, is_confirmed):
    assert Validators(etag, "").confirmed_by({"etag": told} if told else {}) is is_confirmed


@pytest.mark.parametrize(("told", "is_confirmed"), [(LONG_AGO, True), (JUST_NOW, False), (None, True)])
def test_a_304_is_about_the_time_that_was_sent(told, is_confirmed):
    headers = {} if told is None else {"last-modified": told}
    assert Validators("", LONG_AGO).confirmed_by(headers) is is_confirmed


def test_a_304_that_nobody_asked_for_fails():
    with Remote(Reply(304)) as remote, Client() as client, pytest.raises(RunFailed, match="answered 304") as raised:
        client.get(remote.url, {})
    assert (raised.value.code, len(remote.requests)) == ("http_status", 1)


def test_a_304_that_was_asked_for_has_no_body_to_be_judged():
    answers = Answers(body=lambda response: "fail")
    with Remote(Reply(304, b"", {"ETag": '"a"'})) as remote, Client(answers=answers) as client:
        for _ in range(2):
            response = client.request("GET", remote.url, {}, headers={"If-None-Match": '"a"'}, answers=(304,))
            assert (response.status, response.headers["etag"], response.body) == (304, '"a"', b"")
    assert remote.accepted == 1


def test_conditions_go_where_a_redirect_leads_and_other_headers_stay():
    with Remote(Reply(304)) as other, Remote(Reply(302, b"", {"Location": f"{other.url}/there"})) as remote:
        transport = Transport(redirects=1, other_origins=(other.url,))
        with Client(transport=transport, origins=(remote.url,), headers={"X-Key": "k"}) as client:
            headers = {"If-None-Match": '"a"', "X-Other": "o"}
            assert client.request("GET", remote.url, {}, headers=headers, answers=(304,)).status == 304
    sent = other.requests[0].headers
    assert (sent.get("if-none-match"), sent.get("x-other"), sent.get("x-key")) == ('"a"', None, None)
