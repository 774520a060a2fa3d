"""Content codings: whatever arrives, in pieces of whatever size, is the whole body or an error."""

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.http.coding import Damaged, UnknownCoding, decoded

BODY = b"[" + b",".join(b'{"id": %d}' % number for number in range(500)) + b"]"
BARE = zlib.compressobj(wbits=-15)
WHOLE = {
    "gzip": gzip.compress(BODY),
    "two members": gzip.compress(BODY[:700]) + gzip.compress(BODY[700:]),
    "an empty member": gzip.compress(b"") + gzip.compress(BODY),
    "padding": gzip.compress(BODY) + b"\0" * 600,
    "deflate": zlib.compress(BODY),
    "bare deflate": BARE.compress(BODY) + BARE.flush(),
}
CODING = {name: "deflate" if "deflate" in name else "gzip" for name in WHOLE}


def pieces(data, size):
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_whole_body_is_decoded_in_pieces_of_any_size(name, size):
    assert b"".join(decoded(pieces(WHOLE[name], size), CODING[name])) == BODY


def test_both_codings_on_top_of_each_other():
    body = gzip.compress(zlib.compress(BODY))
    assert b"".join(decoded([body], "deflate, gzip")) == BODY


@pytest.mark.parametrize("name", ["gzip", "two members", "deflate", "bare deflate"])
@given(data=st.data())
def test_a_body_that_was_cut_anywhere_is_found(name, data):
    whole = WHOLE[name]
    end = data.draw(st.integers(1, len(whole) - 1))
    if name == "two members" and end == len(gzip.compress(BODY[:700])):
        return  # a whole body of one member
    with pytest.raises(Damaged):
        list(decoded(pieces(whole[:end], 50), CODING[name]))


@pytest.mark.parametrize("name", ["gzip", "two members", "deflate"])
@given(data=st.data())
def test_a_damaged_body_is_found_or_as_it_was(name, data):
    whole = bytearray(WHOLE[name])
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        body = b"".join(decoded([bytes(whole)], CODING[name]))
    except Damaged:
        return
    assert body == BODY  # in a field that says nothing of the data, such as the time


@pytest.mark.parametrize("more", [b"x", b"<html>", b"\0x"])
@pytest.mark.parametrize("name", ["gzip", "deflate", "bare deflate"])
@pytest.mark.parametrize("size", [3, 100_000])
def test_more_behind_the_end_is_found(name, more, size):
    with pytest.raises(Damaged):
        list(decoded(pieces(WHOLE[name] + more, size), CODING[name]))


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_an_empty_body_is_empty(coding):
    assert list(decoded([], coding)) == []


@pytest.mark.parametrize("coding", ["", "identity", "Identity, "])
def test_without_a_coding_the_body_stays_as_it_is(coding):
    assert b"".join(decoded([b"a", b"b"], coding)) == b"ab"


def test_unknown_codings_are_refused_before_anything_is_read():
    with pytest.raises(UnknownCoding):
        decoded(iter(()), "br")


def test_a_bomb_takes_no_more_memory_than_a_piece():
    bomb = gzip.compress(b" " * 100_000_000)
    tracemalloc.start()
    assert sum(map(len, decoded([bomb], "gzip"))) == 100_000_000
    assert tracemalloc.get_traced_memory()[1] < 8_000_000
    tracemalloc.stop()
