"""Groups of parents as parts: the children of each are read by one of them."""

import json
from dataclasses import replace

import pytest

from ingestion import interventions, pipeline
from ingestion.errors import RunFailed
from ingestion.feeds import Feed, Mirror, Upsert
from ingestion.http import Answers
from ingestion.models import State
from ingestion.pagination import PageNumber, SinglePage
from ingestion.parts import FileGroups, PageRanges, ParentGroups
from ingestion.sources import ForEach, JsonApi
from tests.ingestion.catalog import COLUMNS, counts, products, rows
from tests.ingestion.slices import begin, work_off
from tests.remote import Remote, Reply

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("tried_twice")]


class Shop:
    """Serves shelves, two a page, and the products of each, two a page."""

    def __init__(self, **stock):
        self.stock = {int(name.removeprefix("s")): codes for name, codes in stock.items()}
        self.asked = []

    def __call__(self, request):
        page = int(request.query.get("page", 1)) - 1
        if request.path == "/shelves":
            found = [{"id": shelf} for shelf in self.stock]
        else:
            shelf = int(request.path.split("/")[2])
            self.asked.append(shelf)
            if shelf not in self.stock:
                return Reply(404)
            found = products(*self.stock[shelf])
        return Reply(body=json.dumps(found[page * 2 : page * 2 + 2]).encode())


STOCK = {"s1": [1, 2, 3], "s2": [], "s3": [4], "s4": [5, 6, 7, 8], "s5": [9]}
PAGED = PageNumber(param="page", size=2)


@pytest.fixture
def declare(monkeypatch):
    def declare(remote, target, parts, **options):
        parents = JsonApi(url=f"{remote.url}/shelves", pagination=PAGED)
        children = JsonApi(url=f"{remote.url}/shelves/{{parent}}/products", pagination=PAGED, **options)
        source = ForEach(parents=parents, field=("id",), source=children)
        feed = Feed(name="shop", source=source, columns=COLUMNS, target=target, parts=parts, chunk_rows=1)
        monkeypatch.setattr("photos.feeds.SHOP", feed, raising=False)
        return source

    return declare


@pytest.mark.parametrize(
    ("size", "expected"), [(1, [[1], [2], [3], [4], [5]]), (2, [[1, 2], [3, 4], [5]]), (9, [[1, 2, 3, 4, 5]])]
)
def test_the_children_of_every_parent_are_read_once(declare, model, size, expected):
    shop = Shop(**STOCK)
    with Remote(shop) as remote:
        declare(remote, Upsert(model, key="code"), ParentGroups(parents=size))
        run = work_off(begin("shop"))
        lists = [asked.path for asked in remote.requests].count("/shelves")
    assert [part.share["parents"] for part in run.parts.order_by("number")] == expected
    assert (run.state, counts(run.summary())) == ("succeeded", {"read": 9, "inserted": 9})
    assert rows(model, "code") == [*range(1, 10)]
    # Two pages of parents and the third one, short: whoever goes on asks for none of them again.
    assert lists == 3


def test_the_pages_of_a_share_can_be_gone_on_with_at_any_of_them(declare, model):
    with Remote(Shop(**STOCK)) as remote:
        source = declare(remote, Upsert(model, key="code"), None)
        some = ParentGroups().bind(source, {"parents": [1, 2, 4]})
        pages = list(some.pages(None))
        whole = [bytes(record) for page in pages for record in page.records]
        assert len(whole) == 7
        for number, page in enumerate(pages[:-1], start=1):
            again = list(some.pages(json.loads(json.dumps(page.following))))
            assert [later.number for later in again] == [later.number for later in pages[number:]]
            before = [bytes(record) for earlier in pages[:number] for record in earlier.records]
            assert before + [bytes(record) for later in again for record in later.records] == whole
    assert [page.number for page in pages] == [*range(1, len(pages) + 1)]
    assert pages[-1].following is None


def test_batches_of_a_share_are_asked_for_in_one_request(declare, model):
    def answer(asked):
        return Reply(body=json.dumps(products(*map(int, asked.query["ids"].split(",")))).encode())

    with Remote(answer) as remote:
        source = replace(
            declare(remote, Upsert(model, key="code"), None),
            source=JsonApi(url=remote.url, pagination=SinglePage(), params={"ids": "{parent}"}),
            batch=2,
        )
        pages = list(source.of([1, 2, 3]).pages(None))
    assert [asked.query["ids"] for asked in remote.requests] == ["1,2", "3"]
    assert [len(page.records) for page in pages] == [2, 1]


def test_a_parent_that_was_added_meanwhile_is_for_the_next_run(declare, model):
    shop = Shop(**STOCK)
    with Remote(shop) as remote:
        declare(remote, Mirror(model, key="code", allow_delete_share=1), ParentGroups(parents=2))
        run = begin("shop")
        pipeline.advance(run.parts.get().pk, slice_seconds=0)
        shop.stock = {0: [10]} | shop.stock
        assert (work_off(run).state, run.read) == ("succeeded", 9)
        assert 0 not in shop.asked
        again = work_off(begin("shop"))
    assert counts(again.summary()) == {"read": 10, "inserted": 1, "unchanged": 9}


def test_a_parent_that_is_gone_when_its_turn_comes_fails_unless_the_feed_says_that_it_has_no_children(declare, model):
    target = Mirror(model, key="code", allow_delete_share=1)
    for options, state, left in (
        ({}, "failed", [*range(1, 10)]),
        ({"answers": Answers(empty=frozenset({404}))}, "succeeded", [1, 2, 3, 4, 9]),
    ):
        shop = Shop(**STOCK)
        with Remote(shop) as remote:
            declare(remote, target, ParentGroups(parents=2), **options)
            assert work_off(begin("shop")).state == "succeeded"
            run = begin("shop")
            pipeline.advance(run.parts.get().pk, slice_seconds=0)
            del shop.stock[4]
            run = work_off(run)
        assert (run.state, rows(model, "code")) == (state, left), run.error


def test_a_parent_that_comes_on_two_pages_is_asked_once(declare, model):
    def answer(asked):
        if asked.path == "/shelves":
            number = int(asked.query["page"])
            return Reply(body=json.dumps([[{"id": 1}, {"id": 2}], [{"id": 2}, {"id": 3}], []][number - 1]).encode())
        return Reply(body=b"[]")

    with Remote(answer) as remote:
        source = declare(remote, Upsert(model, key="code"), None)
        assert ParentGroups(parents=2).plan(source, now=None) == [{"parents": [1, 2]}, {"parents": [3]}]


def test_no_parent_at_all_is_a_run_without_records(declare, model):
    with Remote(Shop()) as remote:
        declare(remote, Upsert(model, key="code"), ParentGroups())
        run = work_off(begin("shop"))
    assert (run.state, run.read, run.parts.count()) == ("succeeded", 0, 1)


def test_a_part_that_fails_leaves_the_others_and_goes_on_when_the_run_is_resumed(declare, model):
    shop = Shop(**STOCK)
    broken = {3}

    def answer(asked):
        if asked.path.startswith("/shelves/") and int(asked.path.split("/")[2]) in broken:
            return Reply(403)
        return shop(asked)

    with Remote(answer) as remote:
        declare(remote, Upsert(model, key="code"), ParentGroups(parents=2))
        run = work_off(begin("shop"))
        assert (run.state, rows(model, "code")) == ("failed", [1, 2, 3, 9])
        broken.clear()
        shop.asked.clear()
        interventions.resume(run.pk, wake_workers=False)
        assert (work_off(run).state, run.read) == ("succeeded", 9)
    assert set(shop.asked) == {3, 4}
    assert [part.state for part in run.parts.all()] == [State.SUCCEEDED] * 3


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        (ParentGroups(), None),
        (ParentGroups(parents=0), "from 1 on"),
        (FileGroups(), "has no files"),
        (PageRanges(pages=1), "cannot be asked for by number"),
    ],
)
def test_what_cannot_be_divided_says_why(declare, model, parts, problem):
    with Remote(Reply()) as remote:
        source = declare(remote, Upsert(model, key="code"), None)
    found = parts.problem(source)
    assert found is None if problem is None else problem in found
    assert "has no parents" in ParentGroups().problem(source.source)
    with pytest.raises(RunFailed, match="share: the run was divided before the feed had ParentGroups"):
        ParentGroups().bind(source, {"files": []})
