"""Links to the next page: how they are written, where they may lead, and what of them is kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.errors import ConfigurationError, RunFailed
from ingestion.pagination import LinkHeader, NextUrl, Received, parse_links

PAGE = "https://api.example.com/v1/items?limit=10"
HEADER = LinkHeader()
BODY = NextUrl(url=("links", "next"))


def after(link, *, pagination=BODY, cursor=None, records=10, own=None, more=None):
    """Return the cursor after a page with this link in its body, or in its header."""
    body = {("links", "next"): link, ("more",): more}
    received = Received(
        headers={"link": link} if isinstance(pagination, LinkHeader) else {},
        records=records,
        value=body.get,
        url=PAGE,
        origin=PAGE,
        own=own or {},
    )
    return pagination.following(cursor or pagination.first(), received)


def address(link, **options):
    found = BODY.link(after(link, **options))
    return found and found[0]


def refusal(link, **options):
    with pytest.raises(RunFailed) as raised:
        after(link, **options)
    return raised.value


@pytest.mark.parametrize(
    ("link", "resolved"),
    [
        ("https://api.example.com/v1/items?page=2", "https://api.example.com/v1/items?page=2"),
        ("https://API.example.com:443/v1/items?page=2", "https://API.example.com:443/v1/items?page=2"),
        ("/v2?page=2", "https://api.example.com/v2?page=2"),
        ("?page=2", "https://api.example.com/v1/items?page=2"),
        ("items/2", "https://api.example.com/v1/items/2"),
        ("../2", "https://api.example.com/2"),
        ("//api.example.com/2", "https://api.example.com/2"),
        ("/2#part", "https://api.example.com/2"),
        ("?q=a%26b&q=c", "https://api.example.com/v1/items?q=a%26b&q=c"),
    ],
)
def test_links_are_resolved_against_the_page(link, resolved):
    assert address(link) == resolved


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("https://evil.example/v1/items", "leads to https://evil.example"),
        ("https://api.example.com.evil.example/", "leads to"),
        ("https://api.example.com:8443/", "leads to"),
        ("//evil.example/v1", "leads to https://evil.example"),
        ("http://api.example.com/v1", "from https to http"),
        ("file:///etc/passwd", "begins with file:"),
        ("javascript:alert(1)", "begins with javascript:"),
        ("ftp://api.example.com/", "begins with ftp:"),
        ("https://api.example.com@evil.example/", "user info"),
        ("https://user:hush@api.example.com/", "user info"),
        ("https://api.example.com\\@evil.example/", "no URL"),
        ("https://[::1", "no URL"),
        ("https://api.example.com:port/", "no URL"),
        ("/a b", "no URL"),
        ("/a\nb", "no URL"),
        ("/a\x00b", "no URL"),
        ("/" + "a" * 8_000, "no URL"),
        (7, "no text"),
        ({"href": "/2"}, "no text"),
        (True, "no text"),
    ],
)
def test_a_link_that_leads_elsewhere_fails(link, reason):
    failed = refusal(link)
    assert failed.code == "next_link"
    assert reason in failed.message
    assert "hush" not in failed.message


def test_another_host_is_followed_where_the_feed_names_it_but_not_without_tls():
    trusting = NextUrl(url=("links", "next"), hosts=("cdn.example.com",))
    assert address("https://cdn.example.com/2", pagination=trusting) == "https://cdn.example.com/2"
    assert "from https to http" in refusal("http://cdn.example.com/2", pagination=trusting).message
    assert "leads to" in refusal("https://cdn.example.org/2", pagination=trusting).message


@pytest.mark.parametrize("link", [None, "", False])
def test_no_link_is_the_end(link):
    assert after(link) is None


@pytest.mark.parametrize("told", [True, "true", 1])
def test_more_without_a_link_fails(told):
    assert refusal(None, pagination=NextUrl(url=("links", "next"), has_more=("more",)), more=told).code == "has_more"


def test_what_the_feed_sends_itself_is_not_kept_and_what_is_named_like_a_secret_neither():
    cursor = after("?limit=10&tenant=hush&page=2&access_token=hush2&x=", own={"limit": "10", "tenant": "hush"})
    assert BODY.link(cursor) == ("https://api.example.com/v1/items?page=2&x=", ["limit", "tenant"])
    assert "hush" not in str(cursor)


def test_a_value_that_the_remote_changed_is_followed():
    assert address("?limit=50&page=2", own={"limit": "10"}) == "https://api.example.com/v1/items?limit=50&page=2"


def test_the_path_to_the_link_has_to_be_given():
    for path in ((), "next"):
        with pytest.raises(ConfigurationError, match="NextUrl"):
            NextUrl(url=path)


def follow(links, limit=200):
    """Return how many pages are read until a loop is found."""
    cursor = BODY.first()
    for number in range(limit):
        try:
            cursor = after(f"?c={links(number)}", cursor=cursor)
        except RunFailed:
            return number + 1
    return None


@given(length=st.integers(1, 20), before=st.integers(0, 20))
def test_links_in_a_circle_are_found_within_a_few_rounds(length, before):
    pages = follow(lambda number: number if number < before else before + (number - before) % length)
    assert pages is not None
    assert pages <= 3 * (length + before) + 3


def test_links_without_end_over_empty_pages_fail():
    cursor = BODY.first()
    for number in range(999):
        cursor = after(f"?c={number}", cursor=cursor, records=0)
    assert refusal("?c=1000", cursor=cursor, records=0).message == "1,000 pages without a record, one after the other"
    assert after("?c=1000", cursor=cursor, records=1)["empty"] == 0


# RFC 8288


@pytest.mark.parametrize(
    ("header", "links"),
    [
        ("", []),
        (" , ,", []),
        ('<https://a/2>; rel="next"', [("https://a/2", {"rel": "next"})]),
        ("</2>;rel=next", [("/2", {"rel": "next"})]),
        ('</2> ; REL = "prev Next" ; title="a, \\"b\\"; <c>"', [("/2", {"rel": "prev Next", "title": 'a, "b"; <c>'})]),
        ('</1>; rel="first", </2,3>; rel="next"', [("/1", {"rel": "first"}), ("/2,3", {"rel": "next"})]),
        ('</2>; rel=next; rel="last"', [("/2", {"rel": "next"})]),
        ("</2>; hidden; rel=next;", [("/2", {"hidden": "", "rel": "next"})]),
        ("<>", [("", {})]),
        ("</2>; title*=UTF-8''a%20b; rel=next", [("/2", {"title*": "UTF-8''a%20b", "rel": "next"})]),
    ],
)
def test_the_link_header_is_read_as_rfc_8288_says(header, links):
    assert [(link.target, link.params) for link in parse_links(header)] == links


@pytest.mark.parametrize(
    "header", ["next", "https://a; rel=next", "<a", '<a>; rel="next', "<a> rel=next", '<a>; rel="n"x', "<a>, b", "<<a>"]
)
def test_a_header_that_cannot_be_read_fails(header):
    with pytest.raises(ValueError, match="character"):
        parse_links(header)
    assert refusal(header, pagination=HEADER).code == "next_link"


NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789*-_!", min_size=1)
TARGETS = st.text(st.characters(codec="latin-1", exclude_characters="<>", exclude_categories=["Cc"])).map(str.strip)
VALUES = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]))


@given(links=st.lists(st.tuples(TARGETS, st.dictionaries(NAMES, VALUES)), max_size=4), space=st.sampled_from(["", " "]))
def test_what_is_written_is_read(links, space):
    def quoted(value):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    written = f"{space},{space}".join(
        f"<{target}>" + "".join(f"{space};{space}{name}={quoted(value)}" for name, value in params.items())
        for target, params in links
    )
    assert [(link.target, link.params) for link in parse_links(written)] == links


@given(header=st.text('<>;,="\\ abrelnxt\t', max_size=60))
def test_any_header_is_read_or_refused(header):
    try:
        links = parse_links(header)
    except ValueError:
        return
    # Nothing that looks like a target is passed over.
    assert len(links) >= min(1, header.count("<"))


def test_the_next_page_is_the_link_with_the_relation_next():
    cursor = after('</0>; rel="prev", </2?b=1>; rel="NEXT start", </9>; rel=last', pagination=HEADER)
    assert HEADER.link(cursor) == ("https://api.example.com/2?b=1", [])
    assert after('</0>; rel="prev"', pagination=HEADER) is None
    # It says what follows another resource.
    assert after('</2>; rel=next; anchor="/other"', pagination=HEADER) is None


def test_two_next_links_fail():
    failed = refusal('</2>; rel=next, </3>; rel="next"', pagination=HEADER)
    assert (failed.code, failed.message) == ("next_link", "the Link header has 2 links with rel=next")
