"""Page numbers: when a collection is at its end, when it is not, and when nobody can know."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.errors import ConfigurationError, RunFailed
from ingestion.pagination import PageNumber, Received, SinglePage

PLAIN = PageNumber(param="page", size=10)
COUNTED = PageNumber(param="page", size=10, total_header="X-Total-Count")


def received(records, total=None):
    return Received(headers={} if total is None else {"x-total-count": str(total)}, records=records)


def walk(paginator, pages):
    """Return the page numbers that are asked for when the remote answers with these, one after the other."""
    cursor, asked = paginator.first(), []
    for page in pages:
        asked.append(paginator.params(cursor)["page"])
        cursor = paginator.following(cursor, page)
        if cursor is None:
            return asked
    return [*asked, "more"]


def failure(paginator, pages):
    with pytest.raises(RunFailed) as raised:
        walk(paginator, pages)
    return raised.value


def test_a_single_page_asks_for_nothing_and_ends():
    paginator = SinglePage()
    assert paginator.params(paginator.first()) == {}
    assert paginator.following(paginator.first(), received(5)) is None


def test_asks_for_page_and_size():
    paginator = PageNumber(param="_page", size_param="_limit", size=50, start=0)
    cursor = paginator.first()
    assert paginator.params(cursor) == {"_page": "0", "_limit": "50"}
    assert paginator.params(paginator.following(cursor, received(50))) == {"_page": "1", "_limit": "50"}
    assert PLAIN.params(PLAIN.first()) == {"page": "1"}


@pytest.mark.parametrize(
    ("sizes", "asked"),
    [
        ([0], ["1"]),
        ([10, 0], ["1", "2"]),
        ([10, 3], ["1", "2"]),
        ([10, 10, 9], ["1", "2", "3"]),
        ([10, 10, 10], ["1", "2", "3", "more"]),
        # The server gives 4 per page whatever is asked for: a short page proves nothing until a full one was seen.
        ([4, 4, 4], ["1", "2", "3", "more"]),
        ([4, 4, 1, 0], ["1", "2", "3", "4"]),
        ([3, 10, 3], ["1", "2", "3"]),
        # More than asked for is a full page.
        ([15, 15, 2], ["1", "2", "3"]),
    ],
)
def test_ends_at_an_empty_page_or_at_a_short_one_after_a_full_one(sizes, asked):
    assert walk(PLAIN, [received(size) for size in sizes]) == asked


@pytest.mark.parametrize(
    ("sizes", "total", "asked"),
    [
        ([0], 0, ["1"]),
        ([3], 3, ["1"]),
        ([10], 10, ["1"]),
        ([10, 10, 5], 25, ["1", "2", "3"]),
        ([10, 10], 20, ["1", "2"]),
        ([4, 4, 2], 10, ["1", "2", "3"]),
        ([10, 10], 21, ["1", "2", "more"]),
    ],
)
def test_ends_when_the_total_is_reached(sizes, total, asked):
    assert walk(COUNTED, [received(size, total) for size in sizes]) == asked


@pytest.mark.parametrize("sizes", [[10, 5], [10, 0], [0], [4, 4, 0]])
def test_an_end_short_of_the_total_is_no_end(sizes):
    failed = failure(COUNTED, [received(size, 26) for size in sizes])
    assert failed.code == "incomplete"
    assert f"the pages ended after {sum(sizes)} records, but X-Total-Count says 26" in str(failed)


def test_a_total_that_grows_is_followed():
    assert walk(COUNTED, [received(10, 15), received(10, 25), received(5, 25)]) == ["1", "2", "3"]


def test_a_total_that_becomes_smaller_fails():
    # A record of page 1 was deleted: the first one of page 2 moved to page 1, and would never be read.
    failed = failure(COUNTED, [received(10, 25), received(10, 24)])
    assert failed.code == "total"
    assert "went from 25 to 24" in str(failed)


@pytest.mark.parametrize("pages", [[received(10, 0)], [received(10, 9)], [received(10, 15), received(10, 15)]])
def test_more_records_than_the_total_fail(pages):
    # Perhaps it counts something else: ending there would lose the rest.
    failed = failure(COUNTED, pages)
    assert failed.code == "total"
    assert "were received" in str(failed)


@pytest.mark.parametrize("text", ["", "many", "-1", "1.0", "1,000", "+5", "0x10", " 5", "٣", "²", "25, 25", "9" * 5000])
def test_a_total_that_is_no_number_fails(text):
    failed = failure(COUNTED, [received(10, text)])
    assert failed.code == "total"
    assert len(str(failed)) < 120


def test_without_the_header_the_pages_alone_decide():
    assert walk(COUNTED, [received(10), received(4)]) == ["1", "2"]
    assert walk(PLAIN, [received(10, 500), received(4, 500)]) == ["1", "2"]


def test_a_total_that_is_no_longer_sent_still_holds():
    assert failure(COUNTED, [received(10, 25), received(10), received(0)]).code == "incomplete"
    assert walk(COUNTED, [received(10, 25), received(10), received(5)]) == ["1", "2", "3"]


@pytest.mark.parametrize("size", [0, -1])
def test_a_page_of_no_records_is_a_mistake_of_the_feed(size):
    with pytest.raises(ConfigurationError, match=rf"size={size}"):
        PageNumber(param="page", size=size)


@given(total=st.integers(0, 200), size=st.integers(1, 30), cap=st.integers(1, 30), is_counted=st.booleans())
def test_every_record_is_received_once_whatever_the_sizes(total, size, cap, is_counted):
    paginator = PageNumber(param="page", size=size, total_header="X-Total-Count" if is_counted else None)
    served = min(size, cap)
    cursor, read = paginator.first(), []
    while cursor is not None:
        page = int(paginator.params(cursor)["page"])
        records = range((page - 1) * served, min(page * served, total))
        read += records
        cursor = paginator.following(cursor, received(len(records), total))
    assert read == list(range(total))


def test_a_cursor_is_all_that_is_remembered():
    pages = [received(10, 30), received(10, 30), received(10, 30)]
    cursors = list(itertools.accumulate(pages[:2], COUNTED.following, initial=COUNTED.first()))
    again = PageNumber(param="page", size=10, total_header="X-Total-Count")
    assert again.following(cursors[1], pages[1]) == cursors[2]
    assert again.following(cursors[2], pages[2]) is None
