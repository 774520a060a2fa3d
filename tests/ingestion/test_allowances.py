"""What a run has received and not committed: one chunk, however pages come, and two pages where they are as large."""

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion import feeds
from ingestion.allowances import Allowance
from ingestion.collecting import collect
from ingestion.prefetch import END, Prefetcher
from ingestion.preparation import Prepared
from ingestion.types import Record
from ingestion.unchanged import Remembered
from photos.feeds import PHOTOS
from tests.processes import wait_until

PATIENCE = 30
ROWS, BYTES = 60, 6_000
CHUNK = ROWS * BYTES
PLAN = feeds.resolve(replace(PHOTOS, chunk_rows=ROWS, chunk_bytes=BYTES))
ALLOWANCE = Allowance.of(PLAN.feed)


def page(number, records=0, size_bytes=0, *, last=False, **options):
    return Prepared(
        number=number,
        records=[Record(b"{}")] * records,
        received_bytes=size_bytes,
        following=None if last else {"page": number + 1},
        **options,
    )


class Remote:
    """Gives pages, and notes what was open after each: received, and not committed."""

    def __init__(self, sizes):
        self.pages = [
            page(number, records, size_bytes, last=number == len(sizes))
            for number, (records, size_bytes) in enumerate(sizes, start=1)
        ]
        self.committed = 0
        self.open = []

    def __iter__(self):
        received = 0
        for sent in self.pages:
            received += ALLOWANCE.weigh(sent)
            self.open.append(received - self.committed)
            yield sent

    def load(self, pauses):
        """Load everything as a part does, in pauses of milliseconds; return how many pages each chunk had."""
        chunks = []
        with Prefetcher(iter(self), ALLOWANCE) as ahead:
            while (first := ahead.take(timeout_seconds=PATIENCE)) is not END:
                chunk = collect(first, ahead, PLAN)
                time.sleep(pauses[len(chunks) % len(pauses)] / 1000)  # the pages that come meanwhile may join
                list(chunk.growing_lines(lambda keys: True))
                time.sleep(pauses[-1 - len(chunks) % len(pauses)] / 1000)  # and these are read ahead
                self.committed += sum(map(ALLOWANCE.weigh, chunk.pages))
                ahead.release()
                chunks.append(len(chunk.pages))
                if chunk.following is None:
                    break
        assert sum(chunks) == len(self.pages)
        return chunks


@pytest.mark.parametrize(
    ("size", "at_most", "in_a_transaction"),
    [
        ((12, 100), 5, 3),  # as in the faults: five pages of 100 records in chunks of 500
        ((1, 1_200), 5, 3),
        ((1, 100), 60, 36),
        ((18, 0), 3, 2),
        ((20, 0), 3, 1),
        ((21, 0), 2, 1),
        ((30, 0), 2, 1),
        ((60, 6_000), 2, 1),
        ((200, 0), 2, 1),
    ],
)
def test_pages_of_one_size_never_make_more_than_a_chunk_or_two_pages(size, at_most, in_a_transaction):
    remote = Remote([size] * 90)
    chunks = remote.load([0, 1, 5])
    assert max(remote.open) <= at_most * ALLOWANCE.weigh(page(1, *size))
    assert max(chunks) <= in_a_transaction


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 70), st.integers(0, 7_000)), min_size=1, max_size=30),
    st.lists(st.integers(0, 3), min_size=1, max_size=5),
)
def test_pages_of_any_size_make_no_more_than_a_chunk_and_what_could_not_be_foreseen(sizes, pauses):
    remote = Remote(sizes)
    remote.load(pauses)
    weights = [ALLOWANCE.weigh(page(1, *size)) for size in sizes]
    for number, weight in enumerate(weights):
        heaviest = max(weights[:number], default=weight)
        # It was asked for when one as heavy as any before it would fit, or when nothing was ready behind a transaction.
        foreseen = CHUNK + max(0, weight - heaviest)
        alone = max(CHUNK * 3 // 5, heaviest) + weight
        assert remote.open[number] <= max(foreseen, alone)


def taken_together(*pages):
    with Prefetcher(iter(pages), ALLOWANCE) as ahead:
        first = ahead.take(timeout_seconds=PATIENCE)
        wait_until(lambda: len(ahead._ready) == len(pages) - 1, seconds=PATIENCE, what="the pages behind it")
        return [page.number for page in collect(first, ahead, PLAN).pages]


def test_a_transaction_takes_three_fifths_and_not_a_page_more():
    assert taken_together(page(1, 20), page(2, 16), page(3, 1, last=True)) == [1, 2]
    assert taken_together(page(1, 20), page(2, 15), page(3, 1, last=True)) == [1, 2, 3]
    assert taken_together(page(1, 1, 2_600), page(2, 1, 1_001, last=True)) == [1]
    assert taken_together(page(1, 1, 2_600), page(2, 1, 1_000, last=True)) == [1, 2]


def test_records_and_bytes_that_are_skipped_weigh_nothing_to_load():
    remembered = Remembered(number=1, digest=b"", note="", records=60, skipped=0, coercions={}, low=1, high=60)
    skipped = [page(number, size_bytes=2_000, unchanged=remembered) for number in range(1, 4)]
    assert [ALLOWANCE.loading(unread) for unread in skipped] == [0, 0, 0]
    assert ALLOWANCE.ahead(skipped[0]) == CHUNK
    with Prefetcher(iter([*skipped, page(4, 60), page(5, 1, last=True)]), ALLOWANCE) as ahead:
        chunk = collect(ahead.take(timeout_seconds=PATIENCE), ahead, PLAN)
    assert [page.number for page in chunk.pages] == [1, 2, 3, 4]


def test_text_that_waits_counts_by_half_until_its_page_is_taken():
    long = page(1, 1, 10, lines=["x" * 3_000, "y" * 1_000])
    assert ALLOWANCE.ahead(long) == BYTES + 2_000 * ROWS
    assert ALLOWANCE.loading(long) == ALLOWANCE.weigh(long) == BYTES
