"""Where requests and credentials go: origins, redirects, what statuses mean, certificates, proxies."""

import ssl
from datetime import timedelta

import pytest

from ingestion.errors import ConfigurationError, RetryLater, RunFailed
from ingestion.http import Answers, Client, Retry, Transport
from ingestion.http.origins import origin_of
from ingestion.pagination import NextUrl, PageNumber
from ingestion.sources import JsonApi, Web
from tests.ingestion.files.servers import certificate
from tests.ingestion.signing import Passwords
from tests.remote import Remote, Reply, in_turn, json_pages

QUICK = Retry(attempts=2, wait_initial=timedelta(milliseconds=1), wait_max=timedelta(milliseconds=2))
GOOD = Reply(body=b"[]")
SECRET = {"X-Api-Key": "hush"}


def get(url, **options):
    with Client(retry=QUICK, **options) as client:
        return client.get(url, {})


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://A.example/x?y", "https://a.example"),
        ("https://a.example:443/", "https://a.example"),
        ("http://a.example:80", "http://a.example"),
        ("http://u:p@a.example:8080/", "http://a.example:8080"),
        ("https://[::1]:8443/", "https://[::1]:8443"),
        ("ftp://a.example/", ""),
        ("//a.example/", ""),
        ("https://a.example:port/", ""),
        ("https:///x", ""),
    ],
)
def test_origins(url, origin):
    assert origin_of(url) == origin


def test_another_origin_gets_no_request_unless_allowed_and_then_no_secrets():
    with Remote(GOOD) as own, Remote(GOOD) as other:
        with pytest.raises(RunFailed, match="foreign_origin") as raised:
            get(other.url + "/?key=hush", headers=SECRET, origins=(own.url,))
        assert "hush" not in str(raised.value)
        assert other.requests == []
        get(own.url, headers=SECRET, origins=(own.url,))
        assert own.requests[0].headers["x-api-key"] == "hush"
        get(other.url, headers=SECRET, origins=(own.url,), transport=Transport(other_origins=(other.url,)))
        assert "x-api-key" not in other.requests[0].headers


def test_redirects_within_the_origin_keep_the_headers():
    with Remote(in_turn(Reply(302, headers={"Location": "/new?x=1"}), GOOD)) as remote:
        assert get(remote.url + "/old", headers=SECRET, transport=Transport(redirects=1)).body == b"[]"
    assert [(request.path, request.headers["x-api-key"]) for request in remote.requests] == [
        ("/old", "hush"),
        ("/new", "hush"),
    ]


def test_redirects_to_another_origin_are_refused_or_lose_the_headers():
    with Remote(GOOD) as other, Remote(Reply(307, headers={"Location": other.url + "/file"})) as remote:
        with pytest.raises(RunFailed, match=r"redirect: .* which the feed does not allow"):
            get(remote.url, headers=SECRET, transport=Transport(redirects=3))
        assert other.requests == []
        allowed = Transport(redirects=3, other_origins=(other.url,))
        assert get(remote.url, headers=SECRET, transport=allowed).body == b"[]"
        assert "x-api-key" not in other.requests[0].headers


def test_another_origin_that_redirects_within_itself_still_gets_no_secrets():
    with Remote(GOOD) as own, Remote(in_turn(Reply(307, headers={"Location": "/b"}), GOOD)) as other:
        allowed = Transport(redirects=1, other_origins=(other.url,))
        secrets = {"headers": SECRET, "auth": Passwords(["good"]), "origins": (own.url,)}
        with Client(retry=QUICK, transport=allowed, **secrets) as client:
            client.request("POST", other.url + "/a", {}, body=b"x", headers={"X-Asked": "1"})
    sent = [(each.path, each.method, each.body, each.headers["x-asked"]) for each in other.requests]
    assert sent == [("/a", "POST", b"x", "1"), ("/b", "POST", b"x", "1")]
    for request in other.requests:
        assert not {"x-api-key", "authorization"} & request.headers.keys()


def test_another_origin_that_redirects_to_the_feed_s_own_leads_to_its_headers():
    with Remote(GOOD) as own, Remote(Reply(302, headers={"Location": own.url + "/a"})) as other:
        allowed = Transport(redirects=1, other_origins=(other.url,))
        assert get(other.url, headers=SECRET, origins=(own.url,), transport=allowed).body == b"[]"
        assert own.requests[0].headers["x-api-key"] == "hush"
        assert "x-api-key" not in other.requests[0].headers


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("/", "more than 3 redirects"),
        ("ftp://127.0.0.1/", "no http or https URL"),
        ("file:///etc/passwd", "no http or https URL"),
        ("//user:hush@127.0.0.1/", "a user's name"),
        ("http://example.com/", "does not allow"),
    ],
)
def test_redirects_that_are_not_followed(location, message):
    remote = Remote(Reply(301, headers={"Location": location}))
    with remote, pytest.raises(RunFailed, match="redirect: ") as raised:
        get(remote.url, transport=Transport(redirects=3))
    assert message in str(raised.value)
    assert "hush" not in str(raised.value)


def test_a_post_is_redirected_as_a_get_and_kept_by_307():
    with (
        Remote(in_turn(Reply(303, headers={"Location": "/a"}), GOOD)) as remote,
        Client(transport=Transport(redirects=1)) as client,
    ):
        client.request("POST", remote.url, {}, body=b"x")
    assert [request.method for request in remote.requests] == ["POST", "GET"]
    with (
        Remote(in_turn(Reply(307, headers={"Location": "/a"}), GOOD)) as remote,
        Client(transport=Transport(redirects=1)) as client,
    ):
        client.request("POST", remote.url, {}, body=b"x")
    assert [(request.method, request.body) for request in remote.requests] == [("POST", b"x")] * 2


# What statuses mean


@pytest.mark.parametrize(
    ("answers", "status", "meaning"),
    [
        (Answers(), 200, "succeed"),
        (Answers(), 204, "succeed"),
        (Answers(), 206, "fail"),
        (Answers(succeed=frozenset({206})), 206, "succeed"),
        (Answers(), 304, "fail"),
        (Answers(), 401, "refresh"),
        (Answers(), 403, "fail"),
        (Answers(refresh=frozenset({401, 403})), 403, "refresh"),
        (Answers(), 404, "fail"),
        (Answers(empty=frozenset({404})), 404, "empty"),
        (Answers(), 429, "retry"),
        (Answers(retry=frozenset({429})), 500, "fail"),
        (Answers(), 599, "retry"),
    ],
)
def test_what_a_status_means(answers, status, meaning):
    assert answers.meaning(status) == meaning


def test_a_status_that_means_nothing_more_ends_the_pages():
    good = json_pages([{"id": number} for number in range(4)], total_header=None)

    def answer(request):
        return good(request) if int(request.query["_page"]) <= 2 else Reply(404, b"<html>")

    with Remote(answer) as remote:
        pages = PageNumber(param="_page", size_param="_limit", size=2)
        source = JsonApi(url=remote.url, pagination=pages, answers=Answers(empty=frozenset({404})))
        assert [len(page.records) for page in source.pages(None)] == [2, 2, 0]


def test_a_body_may_say_what_its_status_does_not():
    def judge(response):
        return {b"busy": "retry", b"gone": "empty", b"no": "fail"}.get(response.body)

    with Remote(in_turn(Reply(body=b"busy"), GOOD)) as remote:
        assert get(remote.url, answers=Answers(body=judge)).body == b"[]"
    with Remote(Reply(body=b"busy")) as remote, pytest.raises(RetryLater, match="by its body"):
        get(remote.url, answers=Answers(body=judge))
    with Remote(Reply(body=b"gone")) as remote:
        assert get(remote.url, answers=Answers(body=judge)).is_empty
    with Remote(Reply(body=b"no")) as remote, pytest.raises(RunFailed, match="http_status"):
        get(remote.url, answers=Answers(body=judge))


# Signing


def guarded(request):
    return GOOD if request.headers.get("authorization") == "good" else Reply(401)


def test_refused_credentials_are_made_anew_once():
    with Remote(guarded) as remote:
        assert get(remote.url, auth=Passwords(["old", "good"])).body == b"[]"
        assert len(remote.requests) == 2
        with pytest.raises(RunFailed, match="answered 401"):
            get(remote.url, auth=Passwords(["old", "older", "good"]))
        assert len(remote.requests) == 4


def test_each_try_is_signed_and_other_origins_are_not():
    with Remote(GOOD) as other, Remote(in_turn(Reply(503), Reply(302, headers={"Location": other.url}))) as remote:
        get(remote.url, auth=Passwords(["good"]), transport=Transport(redirects=1, other_origins=(other.url,)))
    assert [request.headers.get("authorization") for request in remote.requests] == ["good", "good"]
    assert "authorization" not in other.requests[0].headers


def test_files_are_signed_too():
    with Remote(guarded) as remote:
        place = Web(urls=remote.url + "/a.json", auth=Passwords(["old", "good"]))
        with place.session() as session:
            (entry,) = session.find("*")
            with_body = session.open(entry, 0)
            assert with_body.read() == b"[]"
            with_body.close()


# Certificates and proxies


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls"))


def test_a_private_authority_has_to_be_named(pem):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with Remote(GOOD, tls=context) as remote:
        with pytest.raises(RetryLater, match="CERTIFICATE_VERIFY_FAILED"):
            get(remote.url)
        assert get(remote.url, transport=Transport(ca_file=str(pem))).body == b"[]"


def test_a_link_without_tls_is_not_followed(pem):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with Remote(GOOD) as plain:
        linked = Reply(body=b'{"list": [{}], "next": "%s/2"}' % plain.url.encode())
        with Remote(linked, tls=context) as remote:
            source = JsonApi(
                url=remote.url,
                records=("list",),
                pagination=NextUrl(url=("next",), hosts=("127.0.0.1",)),
                headers=SECRET,
                transport=Transport(ca_file=str(pem), other_origins=(plain.url,)),
                retry=QUICK,
            )
            with pytest.raises(RunFailed, match=r"^next_link: .*from https to http"):
                list(source.pages(None))
        assert (len(remote.requests), plain.requests) == (1, [])


def test_a_client_certificate_is_shown(pem):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(pem)
    with Remote(GOOD, tls=context) as remote:
        with pytest.raises(RetryLater):
            get(remote.url, transport=Transport(ca_file=str(pem)))
        both = Transport(ca_file=str(pem), certificate_file=str(pem))
        assert get(remote.url, transport=both).body == b"[]"


def test_files_that_are_no_certificates_are_a_mistake_of_the_feed(tmp_path):
    for transport in (
        Transport(ca_file="nowhere.pem"),
        Transport(certificate_file=str(tmp_path)),
        Transport(proxy="nonsense://hush@host"),
    ):
        with pytest.raises(ConfigurationError, match="cannot be used") as raised:
            get("https://example.com", transport=transport)
        assert "hush" not in str(raised.value)


def test_a_proxy_takes_all_requests_when_it_is_named():
    with Remote(GOOD) as proxy:
        assert get("http://api.example.com/photos", transport=Transport(proxy=proxy.url)).body == b"[]"
    assert proxy.requests[0].headers["host"] == "api.example.com"
