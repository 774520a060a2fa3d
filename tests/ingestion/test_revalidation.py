"""Pages that a remote need not send: asked for with their validators where, and only where, a 304 may be believed."""

import hashlib

import pytest
from django.db import connection

from ingestion.http import Answers
from ingestion.models import RememberedPages
from ingestion.pagination import LinkHeader, PageNumber
from ingestion.sources import JsonApi
from tests.ingestion.catalog import counts, products
from tests.ingestion.shop import Shop, somebody
from tests.remote import Reply, json_list

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_waiting")]

LONG_AGO = "Mon, 02 Nov 2015 10:00:00 GMT"


@pytest.fixture
def shop(monkeypatch, model):
    shop = TaggedShop(monkeypatch, model, 5)
    with shop.remote:
        yield shop


class TaggedShop(Shop):
    """A shop whose remote gives each response a tag and knows it again; `sent` are the statuses of its answers."""

    def __init__(self, monkeypatch, model, pages):
        super().__init__(monkeypatch, model, pages)
        self.sent = []
        self.validator = "ETag"
        self.release = "1-"
        self.extra = {}
        self.of_304 = {}
        self.options["source"] = self.source()

    def source(self, **options):
        options = {"pagination": PageNumber(param="page", size=2)} | options
        return JsonApi(url=lambda: self.remote.url, **options)

    def _answer(self, request):
        number = int(request.query["page"])
        self.asked(number)
        if number in self.broken:
            return Reply(404)
        body = json_list(self.pages[number - 1] if number <= len(self.pages) else [])
        tag = f'W/"{self.release}{hashlib.sha256(body).hexdigest()[:8]}"'
        headers = {"ETag": tag} if self.validator == "ETag" else {"Last-Modified": LONG_AGO}
        headers |= {"Content-Type": self.content_type} | self.extra
        asked = request.headers.get("if-none-match") or request.headers.get("if-modified-since")
        is_known = asked is not None and asked in headers.values()
        self.sent.append(304 if is_known else 200)
        return Reply(304, b"", headers | self.of_304) if is_known else Reply(200, body, headers)

    def statuses(self, **options):
        """Sync, which has to succeed, and return what was answered."""
        self.sent.clear()
        self.skipped(**options)
        return list(self.sent)


NEW, SAME = [200] * 6, [304] * 6


def test_an_unchanged_source_is_a_run_of_one_304_per_page_and_no_writes(shop):
    assert shop.statuses() == NEW
    for _ in range(2):
        summary = shop.sync()
        assert (summary["state"], summary["pages"], summary["pages_skipped"]) == ("succeeded", 6, 6)
        assert counts(summary) == {"read": 10, "unchanged": 10}
    assert shop.sent == NEW + SAME * 2


@pytest.mark.parametrize("slices", [False, True])
def test_changed_pages_are_sent_and_loaded_and_those_behind_them_are_not_sent(shop, slices):
    shop.sync()
    shop.pages[2][1]["name"] = "changed"
    shop.sent.clear()
    if slices:
        summary = shop.in_slices().summary()
    else:
        summary = shop.sync()
    assert set(shop.sent[:2] + shop.sent[-2:]) == {304}
    assert 200 in shop.sent
    assert counts(summary) == {"read": 10, "updated": 1, "unchanged": 9}
    assert shop.names() == shop.expected()
    assert shop.statuses() == SAME


def test_the_end_moves_with_the_pages(shop):
    shop.sync()
    shop.pages.append(products(90, 91))
    assert shop.statuses() == [304] * 5 + [200] * 2
    assert shop.names() == shop.expected()
    del shop.pages[5:]
    assert shop.statuses() == [304] * 5 + [200]
    assert shop.statuses() == SAME


@pytest.mark.parametrize("validator", ["ETag", "Last-Modified"])
def test_either_validator_will_do(shop, validator):
    shop.validator = validator
    assert [shop.statuses(), shop.statuses()] == [NEW, SAME]
    name = "if-none-match" if validator == "ETag" else "if-modified-since"
    assert [name in request.headers for request in shop.remote.requests] == [False] * 6 + [True] * 6


def test_nothing_is_asked_for_so_where_the_table_may_be_another_one(shop):
    shop.sync()
    with somebody() as cursor:
        cursor.execute("UPDATE photos_order SET name = 'by hand' WHERE code = 5")
    assert shop.statuses() == NEW
    assert shop.names() == shop.expected()
    assert shop.statuses() == SAME


@pytest.mark.parametrize("options", [{"full": True}, {"limit": 100}, {"dry_run": True}])
def test_a_run_that_loads_every_page_sends_no_validators(shop, options):
    shop.sync()
    assert shop.statuses(**options) == NEW
    assert "if-none-match" not in shop.remote.requests[-1].headers


@pytest.mark.parametrize(
    "other",
    [
        {"params": {"lang": "de"}},
        {"headers": {"Accept-Language": "de"}},
        {"conditional": False},
        {"headers": {"If-None-Match": '"own"'}},
        {"answers": Answers(empty=frozenset({304}))},
        {"answers": Answers(succeed=frozenset({304}))},
    ],
)
def test_another_request_or_a_feed_that_wants_none_sends_no_validators(shop, other):
    shop.sync()
    shop.options["source"] = shop.source(**other)
    assert shop.statuses() == NEW


def test_a_page_that_may_have_a_row_of_a_changed_one_before_it_is_asked_for_as_a_whole(shop):
    """Page 4 has product 2 again, and its version is the one that stays: the last one wins."""
    shop.pages[3] = [{"code": 2, "name": "the last one"}, *products(9)]
    # In chunks of one page: pages that are loaded together and have a key twice are not remembered.
    shop.sync()
    shop.pages[0][0]["name"] = "changed before"
    assert shop.statuses(chunk_rows=1_000) == [200, 304, 304, 200, 304, 304]
    assert shop.names()[2] == "the last one"


def test_a_page_with_a_reject_is_sent_each_time(shop):
    shop.pages[1][0]["name"] = "x" * 30
    assert [shop.statuses(), shop.statuses()] == [NEW, [304, 200, 304, 304, 304, 304]]


def test_a_304_of_another_version_is_not_believed_nor_are_those_behind_it(shop):
    shop.sync()
    shop.of_304 = {"ETag": 'W/"another"'}
    assert shop.statuses() == [304, *NEW]
    assert shop.names() == shop.expected()


def test_a_total_in_a_header_is_none_of_the_body_and_counts_with_a_304_too(shop):
    """Pages of equal bytes lead elsewhere when more records follow than before."""
    counted = PageNumber(param="page", size=2, total_header="X-Total-Count")
    shop.options["source"] = shop.source(pagination=counted)
    shop.extra = {"X-Total-Count": "10"}
    assert [shop.statuses(), shop.statuses()] == [[200] * 5, [304] * 5]
    shop.pages.append(products(90, 91))
    shop.extra = {"X-Total-Count": "12"}
    assert shop.statuses() == [304, *[200] * 6]
    assert shop.names() == shop.expected()
    shop.extra, shop.of_304 = {}, {}
    # A 304 that says nothing of it is not enough.
    assert shop.statuses() == [304, *[200] * 7]


def test_links_in_headers_count_with_a_304_and_are_not_kept(shop):
    def answer(request):
        number = int(request.query.get("page", "1"))
        headers = {"ETag": f'"{number}"', "Content-Type": "application/json"}
        if number < 3:
            headers["Link"] = f'</?page={number + 1}&api_key=s3cr3t>; rel="next"'
        sent.append(304 if request.headers.get("if-none-match") == headers["ETag"] else 200)
        body = b"" if sent[-1] == 304 else json_list(products(2 * number, 2 * number + 1))
        return Reply(sent[-1], body, headers)

    sent = []
    shop.remote.answer = answer
    source = shop.source(pagination=LinkHeader(), params={"api_key": "s3cr3t"})
    assert [shop.skipped(source=source) for _ in range(2)] == [0, 3]
    assert sent == [200] * 3 + [304] * 3
    kept = b"".join(bytes(pages) for pages in RememberedPages.objects.values_list("pages", flat=True))
    assert b"s3cr3t" not in kept
    assert b"page=2" in kept


def test_what_the_remote_sends_again_is_remembered_with_its_new_validators(shop):
    """The bytes are the same, and the tag is another one: such as after a deployment."""
    shop.sync()
    shop.release = "2-"
    assert [shop.skipped(), shop.skipped()] == [6, 6]
    assert shop.sent == NEW * 2 + SAME


def test_a_page_without_validators_is_remembered_by_its_bytes(shop):
    shop.validator = "Last-Modified"
    shop.extra = {"Last-Modified": "now"}
    assert [shop.statuses(), shop.statuses()] == [NEW, NEW]
    assert shop.skipped() == 6
    with connection.cursor() as cursor:
        cursor.execute("SELECT sum(length(pages)) FROM ingestion_rememberedpages")
        assert cursor.fetchone()[0] < 6 * 300
