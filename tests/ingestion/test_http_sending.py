"""What a request is sent with beside what was asked for: cookies that the remote has set, and user info as a header."""

import pytest

from ingestion.auth import Bearer
from ingestion.errors import RunFailed
from ingestion.http import Client, Request, Transport
from tests.ingestion.http_getting import GOOD, QUICK, get
from tests.remote import Raw, Remote, Reply, in_turn


def cookies(remote):
    return [request.headers.get("cookie") for request in remote.requests]


def with_user(url, user):
    return url.replace("//", f"//{user}@")


# Cookies


def test_a_cookie_is_sent_with_the_next_requests_of_the_same_client():
    replies = Reply(body=b"[]", headers={"Set-Cookie": "sid=first; Path=/; HttpOnly"}), GOOD, GOOD
    with Remote(in_turn(*replies)) as remote:
        with Client(retry=QUICK) as client:
            for _ in range(3):
                client.get(f"{remote.url}/items", {})
        get(f"{remote.url}/items")
    assert cookies(remote) == [None, "sid=first", "sid=first", None]


def test_a_cookie_is_replaced_limited_to_its_path_and_taken_back():
    replies = (
        Reply(headers={"Set-Cookie": "sid=first"}),
        Reply(headers={"Set-Cookie": "sid=second"}),
        Reply(headers={"Set-Cookie": "sid=; Max-Age=0"}),
        Reply(headers={"Set-Cookie": "sid=third; Path=/other"}),
        GOOD,
    )
    with Remote(in_turn(*replies)) as remote, Client(retry=QUICK) as client:
        for path in ("/", "/", "/", "/other/a", "/items", "/other/b"):
            client.get(remote.url + path, {})
    assert cookies(remote) == [None, "sid=first", "sid=second", None, None, "sid=third"]


def test_a_failure_and_a_redirect_set_cookies_too():
    replies = (
        Reply(503, headers={"Set-Cookie": "node=a"}),
        Reply(302, headers={"Set-Cookie": "seen=1", "Location": "/items"}),
        GOOD,
    )
    with Remote(in_turn(*replies)) as remote, Client(retry=QUICK, transport=Transport(redirects=1)) as client:
        client.get(remote.url, {})
    assert cookies(remote)[:2] == [None, "node=a"]
    assert sorted(cookies(remote)[2].split("; ")) == ["node=a", "seen=1"]


def test_another_origin_gets_no_cookies_of_the_feed_s_own_and_sets_none_for_it():
    # Both have the same host: for cookies alone a port makes no difference.
    with (
        Remote(Reply(headers={"Set-Cookie": "sid=own"})) as own,
        Remote(Reply(headers={"Set-Cookie": "sid=other"})) as other,
        Client(retry=QUICK, origins=(own.url,), transport=Transport(other_origins=(other.url,))) as client,
    ):
        for url in (own.url, other.url, own.url, other.url):
            client.get(url, {})
    assert cookies(own) == [None, "sid=own"]
    assert cookies(other) == [None, "sid=other"]


def test_a_cookie_is_not_shown_when_the_remote_says_it_back():
    def answer(request):
        if "cookie" not in request.headers:
            return Reply(503, headers={"Set-Cookie": "sid=hush-9f8e7d"})
        said = request.headers["cookie"].partition("=")[2]
        return Raw([f"HTTP/1.1 403 {said} is nobody\r\nContent-Length: 0\r\n\r\n".encode()])

    with Remote(answer) as remote, Client(retry=QUICK) as client, pytest.raises(RunFailed) as raised:
        client.get(remote.url, {})
    assert raised.value.message == f"GET {remote.url} answered 403 … is nobody"


# User info


def test_user_info_of_a_url_becomes_a_header_and_is_nowhere_else():
    with Remote(GOOD) as remote:
        get(with_user(f"{remote.url}/items?a=1", "ada:p%40ss%C3%BC"), {"page": "2"})
    (request,) = remote.requests
    headers = dict(request.headers)
    assert headers.pop("authorization") == "Basic YWRhOnBAc3PDvA=="
    assert headers["host"] == remote.url.removeprefix("http://")
    assert (request.path, request.query) == ("/items", {"a": "1", "page": "2"})
    assert not any("ada" in text or "p@ss" in text or "p%40ss" in text for text in headers.values())


@pytest.mark.parametrize(("user", "header"), [("ada", "YWRhOg=="), ("ada:", "YWRhOg=="), (":pass", "OnBhc3M=")])
def test_user_or_password_may_be_missing(user, header):
    with Remote(GOOD) as remote:
        get(with_user(remote.url, user))
    assert remote.requests[0].headers["authorization"] == f"Basic {header}"


@pytest.mark.parametrize("path", ["/@ada/items", "/items?to=ada@example.com", "/items#ada@b"])
def test_an_at_sign_behind_the_host_is_no_user_info(path):
    with Remote(GOOD) as remote:
        get(remote.url + path)
    assert "authorization" not in remote.requests[0].headers


def test_the_next_request_without_user_info_has_no_header():
    with Remote(GOOD) as remote, Client(retry=QUICK) as client:
        client.get(with_user(remote.url, "ada:pass"), {})
        client.get(remote.url, {})
    assert [request.headers.get("authorization") for request in remote.requests] == ["Basic YWRhOnBhc3M=", None]


@pytest.mark.parametrize("place", ["", "same origin"], ids=["relative", "absolute"])
def test_user_info_goes_where_a_redirect_within_the_origin_leads(place):
    def answer(request):
        location = ("" if not place else remote.url) + "/new"
        return GOOD if request.path == "/new" else Reply(302, headers={"Location": location})

    with Remote(answer) as remote, Client(retry=QUICK, transport=Transport(redirects=1)) as client:
        assert client.get(with_user(remote.url, "ada:pass"), {}).body == GOOD.body
    assert [request.headers["authorization"] for request in remote.requests] == ["Basic YWRhOnBhc3M="] * 2


def test_user_info_does_not_go_to_another_origin():
    with Remote(GOOD) as other, Remote(Reply(302, headers={"Location": other.url})) as remote:
        transport = Transport(redirects=1, other_origins=(other.url,))
        with Client(retry=QUICK, transport=transport, origins=(remote.url,)) as client:
            client.get(with_user(remote.url, "ada:pass"), {})
    assert "authorization" not in other.requests[0].headers


def test_declared_credentials_go_before_user_info():
    with Remote(GOOD) as remote, Client(retry=QUICK, auth=Bearer(lambda: "declared")) as client:
        client.get(with_user(remote.url, "ada:pass"), {})
    assert remote.requests[0].headers["authorization"] == "Bearer declared"


def test_where_tokens_are_asked_for_user_info_counts_as_well():
    class Asking:
        def signer(self, send):
            send(Request(method="GET", url=with_user(remote.url, "ada:pass")))

    with Remote(GOOD) as remote, Client(retry=QUICK, auth=Asking()):
        pass
    assert remote.requests[0].headers["authorization"] == "Basic YWRhOnBhc3M="


@pytest.mark.parametrize("said", ["authorization", "encoded", "password"])
def test_user_info_is_not_shown_when_the_remote_says_it_back(said):
    def answer(request):
        header = request.headers["authorization"]
        line = {"authorization": header, "encoded": header.split()[1], "password": "hush-9f8e7d"}[said]
        return Raw([f"HTTP/1.1 401 {line}\r\nContent-Length: 0\r\n\r\n".encode()])

    with Remote(answer) as remote, pytest.raises(RunFailed) as raised:
        get(with_user(remote.url, "ada:hush-9f8e7d"))
    assert raised.value.message == f"GET {remote.url} answered 401 …"
