"""What was sent, kept out of messages in every way that it may be written."""

import pytest

from ingestion.errors import RunFailed
from ingestion.http import Request, Response, Sent, hidden, secrets_in

SECRET = 'hush-9f8e7d6c5b"&'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"wrong key {SECRET}!", "wrong key …!"),
        ("wrong key hush-9f8e7d6c5b%22%26!", "wrong key …!"),
        (r'{"key": "hush-9f8e7d6c5b\"&"}', '{"key": "…"}'),
        ("cut within hush-9f8e7d6c5b", "cut within …"),
        ("too little of it: hush-9f8e7d", "too little of it: hush-9f8e7d"),
    ],
)
def test_a_secret_is_hidden_in_each_way_to_write_it(text, expected):
    assert hidden(text, [SECRET]) == expected


def test_a_secret_of_megabytes_is_looked_for_no_longer_than_the_text():
    page = "<html>hush-9f8e7d6c5b" + " word" * 200_000
    assert hidden(f"answered {page[:40]}", [page]) == "answered …"
    assert hidden(f"answered {page}!", [page]) == "answered …!"


def test_words_are_no_secrets():
    assert secrets_in({"status": "open", "deep": ["1234567", {"x": ("abcdef", 5)}]}, "", None) == {"1234567", "abcdef"}


def test_a_client_s_secrets_are_known_from_headers_urls_signatures_and_exchanges():
    plain = Request(method="GET", url="https://host/items")
    sent = Sent(
        {"given-secret"},
        {"Accept": "application/json", "X-Key": "key-secret"},
        ["https://a:url-secret@host/?k=query-secret"],
    )
    sent.learn(
        plain,
        Request(
            method="GET",
            url="https://host/items?key=signed-secret",
            headers={"Authorization": "Basic YTpwYXNzLXNlY3JldA=="},
        ),
    )
    exchange = Request(
        method="POST", url="https://host/token", body=b"grant_type=client_credentials&client_secret=body-secret"
    )
    sent.learn_exchange(
        exchange, Response(status=200, headers={}, body=b'{"access_token": "token-secret", "token_type": "Bearer"}')
    )
    names = ("given", "key", "url", "query", "signed", "pass", "body", "token")
    error = RunFailed(
        "shape", " ".join(f"{name}-secret" for name in names) + " application/json Bearer client_credentials"
    )
    with pytest.raises(RunFailed) as raised, sent.unsaid():
        raise error
    assert str(raised.value) == "shape: … … … … … … … … application/json Bearer client_credentials"
    assert raised.value.message == "… … … … … … … … application/json Bearer client_credentials"


def test_of_what_changes_with_each_request_the_newest_are_known_and_few():
    sent = Sent({"given-secret"})
    plain = Request(method="GET", url="https://host/items")
    for number in range(2000):
        headers = {"X-Key": "key-secret", "X-Signature": f"signature-{number:04}"}
        sent.learn(plain, Request(method="GET", url="https://host/items", headers=headers))
    error = RunFailed("shape", "given-secret key-secret signature-1999 signature-1900 signature-0001")
    sent.hide_in(error)
    assert error.message == "… … … … signature-0001"
    assert len(sent._changing) <= 1000
