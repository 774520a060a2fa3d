"""Offsets, cursors and keysets: what follows what, what is an end, and what contradicts itself."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.errors import ConfigurationError, RunFailed
from ingestion.pagination import Keyset, NextCursor, OffsetLimit, PageNumber, Received

OFFSET = OffsetLimit(param="offset", size=10, size_param="limit")
TOTAL = OffsetLimit(param="offset", size=10, total=("meta", "total"))
MORE = OffsetLimit(param="offset", size=10, has_more=("more",))
CURSOR = NextCursor(param="after", cursor=("next",))
TOLD = NextCursor(param="after", cursor=("next",), has_more=("more",))
KEYSET = Keyset(param="since_id", field=("id",), size=3)


def received(records, *, last=None, headers=None, **told):
    def value(path):
        return told.get("_".join(path))

    return Received(headers=headers or {}, records=records, value=value, last=lambda: last)


def walk(paginator, pages):
    """Return what is asked for when the remote answers with these, one after the other."""
    cursor, asked = paginator.first(), []
    for page in pages:
        asked.append(paginator.params(cursor))
        cursor = paginator.following(json.loads(json.dumps(cursor)), page)
        if cursor is None:
            return asked
    return [*asked, "more"]


def failure(paginator, pages):
    with pytest.raises(RunFailed) as raised:
        walk(paginator, pages)
    return raised.value


# Offsets


def test_the_offset_advances_by_what_was_received():
    # The server gives 4 whatever is asked for: an offset of 10 would leave records out.
    asked = walk(OFFSET, [received(4), received(4), received(1), received(0)])
    assert [page["offset"] for page in asked] == ["0", "4", "8", "9"]
    assert asked[0] == {"offset": "0", "limit": "10"}


@given(total=st.integers(0, 100), size=st.integers(1, 30), cap=st.integers(1, 30), start=st.integers(0, 1))
def test_every_record_is_received_once_whatever_the_sizes(total, size, cap, start):
    paginator = OffsetLimit(param="offset", size=size, start=start)
    cursor, read = paginator.first(), []
    while cursor is not None:
        offset = int(paginator.params(cursor)["offset"]) - start
        records = range(offset, min(offset + min(size, cap), total))
        read += records
        cursor = paginator.following(cursor, received(len(records)))
    assert read == list(range(total))


@given(total=st.integers(0, 60), size=st.integers(2, 12), cap=st.integers(1, 12), overlap=st.integers(1, 4))
def test_pages_that_overlap_read_every_record_and_end(total, size, cap, overlap):
    paginator = OffsetLimit(param="offset", size=size, overlap=min(overlap, size - 1))
    cursor, read, ends = paginator.first(), [], [0]
    while cursor is not None:
        offset = int(paginator.params(cursor)["offset"])
        records = range(offset, min(offset + min(size, cap), total))
        # No gap, and no page that is asked for twice.
        assert offset <= ends[-1]
        assert len(records) == 0 or records.stop > ends[-1] or cursor["offset"] == total
        read += records
        ends.append(max(records.stop, ends[-1]))
        cursor = paginator.following(json.loads(json.dumps(cursor)), received(len(records)))
    assert sorted(set(read)) == list(range(total))


@given(
    total=st.integers(1, 100),
    size=st.integers(1, 10),
    cap=st.integers(1, 10),
    pages=st.integers(1, 4),
    told=st.booleans(),
)
def test_ranges_of_offsets_read_every_record_once_whatever_the_sizes(total, size, cap, pages, told):
    whole = OffsetLimit(param="offset", size=size, size_param="limit", total=("total",) if told else ())
    shares = whole.ranges_of_total({"total": total}, pages=pages) if told else whole.ranges(pages=pages, count=5)
    read = []
    for share in json.loads(json.dumps(shares)):
        part = whole.within(share)
        cursor = part.first()
        while cursor is not None:
            asked = part.values(cursor)
            records = range(asked["offset"], min(asked["offset"] + min(asked["limit"], cap), total))
            read += records
            cursor = part.following(cursor, received(len(records), total=total))
    assert read == list(range(total))


@pytest.mark.parametrize("overlap", [-1, 10])
def test_an_overlap_is_less_than_a_page(overlap):
    with pytest.raises(ConfigurationError, match="overlap"):
        OffsetLimit(param="offset", size=10, overlap=overlap)


def test_offsets_without_the_total_cannot_be_divided_by_it():
    with pytest.raises(RunFailed, match=r"meta.total is missing"):
        TOTAL.ranges_of_total({"total": None}, pages=2)
    assert (TOTAL.tells_total, OFFSET.tells_total) == (True, False)


@pytest.mark.parametrize("kind", [OffsetLimit, PageNumber])
def test_a_range_asks_where_the_whole_asks(kind):
    part = kind(param="at", size=10, place="body")
    part = part.within(part.ranges(pages=2, count=3)[1])
    assert (part.place, part.values(part.first())) == ("body", {"at": 20 if kind is OffsetLimit else 3})


@pytest.mark.parametrize("total", [15, "15", " 15 ", 15.0])
def test_totals_as_text_are_numbers(total):
    assert len(walk(TOTAL, [received(10, meta_total=total), received(5, meta_total=total)])) == 2
    pages = PageNumber(param="page", size=10, total=("meta", "total"))
    assert len(walk(pages, [received(10, meta_total=total), received(5, meta_total=total)])) == 2


@pytest.mark.parametrize("total", [-1, "-1", "many", 1.5, True, [15], {}, "9" * 30, 10**40, float("nan"), float("inf")])
def test_totals_that_are_negative_or_no_numbers_fail(total):
    failed = failure(TOTAL, [received(10, meta_total=total)])
    assert failed.code == "total"
    assert len(failed.message) < 120


def test_a_total_that_becomes_smaller_fails():
    failed = failure(TOTAL, [received(10, meta_total=25), received(10, meta_total="24")])
    assert (failed.code, "meta.total went from 25 to 24" in failed.message) == ("total", True)


def test_an_end_short_of_the_total_is_no_end():
    assert failure(TOTAL, [received(10, meta_total=25), received(3)]).code == "incomplete"
    assert failure(TOTAL, [received(10, meta_total=9)]).code == "total"


@pytest.mark.parametrize("no", [False, "false", "False", "0", 0, "no"])
@pytest.mark.parametrize("yes", [True, "true", " TRUE", "1", 1, "yes"])
def test_has_more_decides_whatever_way_it_is_written(yes, no):
    # A filter of the remote made the first pages short.
    assert len(walk(MORE, [received(10, more=yes), received(2, more=yes), received(10, more=no)])) == 3


@pytest.mark.parametrize("told", ["perhaps", 2, [], {}, "", 0.5])
def test_has_more_that_is_neither_yes_nor_no_fails(told):
    assert failure(MORE, [received(10, more=told)]).code == "has_more"


def test_has_more_that_is_missing_leaves_it_to_the_pages():
    assert walk(MORE, [received(10), received(10)])[-1] == "more"
    assert len(walk(MORE, [received(10), received(9)])) == 2


@pytest.mark.parametrize("paginator", [MORE, PageNumber(param="page", size=10, has_more=("more",))])
def test_more_after_an_empty_page_fails(paginator):
    failed = failure(paginator, [received(10, more=True), received(0, more=True)])
    assert (failed.code, failed.message) == ("has_more", "more says that more follows, but the page is empty")


@pytest.mark.parametrize("kind", [OffsetLimit, PageNumber])
def test_mistakes_of_counted_pages(kind):
    with pytest.raises(ConfigurationError, match=f"{kind.__name__}.size=0"):
        kind(param="page", size=0)
    with pytest.raises(ConfigurationError, match="not both"):
        kind(param="page", size=1, total=("total",), total_header="X-Total")


# Cursors


def test_each_page_is_asked_for_with_the_cursor_of_the_one_before():
    assert walk(CURSOR, [received(5, next="a"), received(0, next="b"), received(5, next=7.5), received(5)]) == [
        {},
        {"after": "a"},
        {"after": "b"},
        {"after": "7.5"},
    ]


def test_zero_is_a_cursor():
    assert walk(CURSOR, [received(5, next=0), received(5)]) == [{}, {"after": "0"}]
    assert walk(CURSOR, [received(5, next="0"), received(5)]) == [{}, {"after": "0"}]


@pytest.mark.parametrize("end", [None, "", False])
def test_no_cursor_is_the_end(end):
    assert len(walk(CURSOR, [received(5, next="a"), received(5, next=end)])) == 2
    assert len(walk(TOLD, [received(5, next="a"), received(5, next=end, more="false")])) == 2


@pytest.mark.parametrize("end", [None, "", False])
@pytest.mark.parametrize("more", [True, "true"])
def test_more_without_a_cursor_fails(end, more):
    failed = failure(TOLD, [received(5, next="a", more=more), received(5, next=end, more=more)])
    assert (failed.code, failed.message) == ("has_more", "more says that more follows, but next is empty")


def test_a_cursor_without_more_is_no_next_page():
    assert len(walk(TOLD, [received(5, next="a", more="true"), received(5, next="b", more="false")])) == 2


def test_a_cursor_in_a_header_and_a_first_one():
    paginator = NextCursor(param="cursorMark", cursor_header="X-Next", start="*")
    pages = [received(5, headers={"x-next": "a"}), received(5, headers={"x-next": ""})]
    assert walk(paginator, pages) == [{"cursorMark": "*"}, {"cursorMark": "a"}]


@pytest.mark.parametrize("cursors", ["aa", "aba", "abcb", "abcabc"])
def test_a_cursor_that_comes_again_fails(cursors):
    pages = [received(5, next=cursor) for cursor in cursors * 5]
    failed = failure(CURSOR, pages)
    assert failed.code == "pagination_loop"
    assert "would be asked for like page" in failed.message


def test_the_cursor_of_the_first_page_counts_as_well():
    failed = failure(NextCursor(param="after", cursor=("next",), start="*"), [received(5, next="*")])
    assert failed.message == "page 2 would be asked for like page 1: '*'"


@pytest.mark.parametrize("told", [True, ["a"], {"a": 1}, "a\x00", "\ud800", "a" * 8_001])
def test_what_cannot_be_a_cursor_fails(told):
    assert failure(CURSOR, [received(5, next=told)]).code == "cursor"


def test_a_list_can_be_a_cursor_in_a_body():
    paginator = NextCursor(param="search_after", cursor=("sort",), place="body")
    cursor = paginator.following(paginator.first(), received(5, sort=[1, "a"]))
    assert paginator.values(cursor) == {"search_after": [1, "a"]}


@pytest.mark.parametrize("options", [{}, {"cursor": ("a",), "cursor_header": "b"}, {"cursor": "next"}])
def test_a_cursor_has_to_be_somewhere(options):
    with pytest.raises(ConfigurationError, match="which tells the end as well"):
        NextCursor(param="after", **options)


# Keysets


def test_the_next_page_begins_after_the_last_record():
    pages = [received(3, last={"id": 3}), received(3, last={"id": 0}), received(2, last={"id": 8})]
    assert walk(KEYSET, pages) == [{}, {"since_id": "3"}, {"since_id": "0"}]
    assert walk(KEYSET, [received(0)]) == [{}]


def test_the_value_may_be_inside_objects():
    paginator = Keyset(param="after", field=("meta", "at"), size=1, size_param="n", start="0")
    pages = [received(1, last={"meta": {"at": "2026-01-01"}}), received(0)]
    assert walk(paginator, pages) == [{"after": "0", "n": "1"}, {"after": "2026-01-01", "n": "1"}]


@pytest.mark.parametrize("last", [None, {}, {"id": None}, {"id": ""}, {"id": [1]}, {"id": {}}, [1], 7])
def test_a_last_record_without_the_value_fails(last):
    assert failure(KEYSET, [received(3, last=last)]).code == "cursor"


def test_a_remote_that_gives_records_from_the_value_on_is_found():
    pages = [received(3, last={"id": 3}), received(3, last={"id": 5}), received(3, last={"id": 5})]
    assert failure(KEYSET, pages).code == "pagination_loop"


def test_mistakes_of_keysets():
    with pytest.raises(ConfigurationError, match="size=0"):
        Keyset(param="after", field=("id",), size=0)
    for path in ((), "id"):
        with pytest.raises(ConfigurationError, match="names on the way"):
            Keyset(param="after", field=path, size=1)


def test_more_decides_about_keysets():
    paginator = Keyset(param="after", field=("id",), size=3, has_more=("more",))
    assert len(walk(paginator, [received(3, last={"id": 1}, more=True), received(3, more=False)])) == 2
    assert walk(paginator, [received(3, last={"id": 1}), received(1, last={"id": 2}, more=True)])[-1] == "more"
    assert failure(paginator, [received(0, more="true")]).code == "has_more"
