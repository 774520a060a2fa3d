"""Which keys a page can have: spans that may be wider than the truth, and never narrower."""

from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.unchanged import NO_KEYS, Remembered, joined, overlap, span_of

ONE, TWO = UUID(int=1), UUID(int=2)


@pytest.mark.parametrize(
    ("keys", "span"),
    [
        ([], NO_KEYS),
        ([3], (3, 3)),
        ([3, -1, 2], (-1, 3)),
        (["b", "a", "ä"], ("a", "ä")),
        (["x" * 101], None),
        ([(2, "x"), (1, "y")], (1, 2)),
        ([TWO, ONE], (str(ONE), str(TWO))),
        ([date(2024, 2, 29)], ("2024-02-29", "2024-02-29")),
        ([datetime(2024, 2, 29, tzinfo=UTC)], None),
        ([Decimal("1.0")], None),
        ([True], None),
    ],
)
def test_spans(keys, span):
    assert span_of(keys) == span


keys = st.lists(st.integers(0, 9), max_size=3) | st.lists(st.integers(0, 9).map(lambda n: (n, "x")), max_size=3)


@given(keys, keys, keys)
def test_pages_that_share_a_key_overlap_also_when_spans_are_joined(one, other, third):
    both = joined(span_of(one), span_of(other))
    if {str(key) for key in third} & {str(key) for key in [*one, *other]}:
        assert overlap(both, span_of(third))
        assert overlap(span_of(third), both)


@pytest.mark.parametrize(
    ("one", "other", "is_shared"),
    [
        ((1, 3), (4, 5), False),
        ((1, 3), (3, 5), True),
        ((4, 5), (1, 3), False),
        (("a", "b"), ("b", "c"), True),
        (None, (1, 1), True),
        (None, None, True),
        (None, NO_KEYS, False),
        (NO_KEYS, (1, 1), False),
        (NO_KEYS, NO_KEYS, False),
    ],
)
def test_overlaps(one, other, is_shared):
    assert overlap(one, other) is is_shared
    assert overlap(other, one) is is_shared


def test_what_could_be_any_key_stays_so():
    assert joined(None, (1, 2)) is joined((1, 2), None) is joined(NO_KEYS, None) is None
    assert joined(NO_KEYS, (1, 2)) == joined((1, 2), NO_KEYS) == (1, 2)
    assert joined((1, 2), (5, 6)) == (1, 6)


def remembered(**changes):
    fields = {"number": 1, "digest": b"d" * 32, "note": "n", "records": 2, "skipped": 1, "coercions": {"a:text": 1}}
    return Remembered(**(fields | {"low": None, "high": None} | changes))


def test_what_is_remembered_is_the_same_after_it_was_stored():
    pages = [remembered(), remembered(low=-(2**63), high=2**63 - 1), remembered(low="ä", high="🦔")]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(pages), type=list[Remembered]) == pages
    assert [page.span for page in pages] == [None, (-(2**63), 2**63 - 1), ("ä", "🦔")]


def test_a_page_whose_records_were_all_left_out_has_no_key():
    assert remembered(skipped=2).span == NO_KEYS
