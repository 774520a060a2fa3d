"""Content codings: whatever arrives, in pieces of whatever size, is the whole body or an error."""

import gzip
import itertools
import os
import random
import tracemalloc
import zlib

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.http.coding import ACCEPTED, Damaged, UnknownCoding, decoded
from tests import packing
from tests.packing import zstd

BODY = b"[" + b",".join(b'{"id": %d}' % number for number in range(500)) + b"]"
SKIPPED = b"\x50\x2a\x4d\x18\x03\0\0\0any"


def packed_zstd(body, **options):
    """Compress to a frame of unknown size, as a server does that compresses while it sends."""
    compressor = zstd.ZstdCompressor(
        options={zstd.CompressionParameter[name]: value for name, value in options.items()}
    )
    return compressor.compress(body) + compressor.flush()


def packed_bare(body):
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


PACKED = packing.PACKED | {
    "bare deflate": packed_bare,
    "zstd": lambda body: packed_zstd(body, checksum_flag=1),
}
# What one body may be sent as, in parts: what ends behind one of them is whole.
SENT = {name: [pack(BODY)] for name, pack in PACKED.items()} | {
    "gzip of two members": [gzip.compress(BODY[:700]), gzip.compress(BODY[700:])],
    "gzip with an empty member": [gzip.compress(b""), gzip.compress(BODY)],
    "zstd of two frames": [packed_zstd(BODY[:700]), zstd.compress(BODY[700:])],
    "zstd with an empty frame": [packed_zstd(b""), packed_zstd(BODY)],
    "zstd with frames to skip": [SKIPPED, packed_zstd(BODY), b"\x5f\x2a\x4d\x18\0\0\0\0"],
}
WHOLE = {name: b"".join(parts) for name, parts in SENT.items()}
CODING = {name: name.removeprefix("bare ").split(" ")[0] for name in WHOLE}


def pieces(data, size):
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_whole_body_is_decoded_in_pieces_of_any_size(name, size):
    assert b"".join(decoded(pieces(WHOLE[name], size), CODING[name])) == BODY


@pytest.mark.parametrize("size", [1, 100_000])
def test_zeros_behind_the_last_member_of_gzip_are_padding(size):
    assert b"".join(decoded(pieces(WHOLE["gzip"] + b"\0" * 600, size), "gzip")) == BODY


@given(
    body=st.binary(max_size=3000),
    times=st.integers(1, 100),
    names=st.lists(st.sampled_from(sorted(PACKED)), min_size=1, max_size=2),
    cuts=st.lists(st.integers(0, 4000), max_size=8),
)
def test_any_body_comes_back_from_one_coding_or_two_on_top_of_each_other(body, times, names, cuts):
    sent = body * times
    for name in names:
        sent = PACKED[name](sent)
    coding = ", ".join(name.removeprefix("bare ") for name in names)
    ends = [0, *sorted(cuts), len(sent)]
    parts = [sent[start:end] for start, end in itertools.pairwise(ends)]
    assert b"".join(decoded(parts, coding)) == body * times


@pytest.mark.parametrize("name", WHOLE)
def test_a_body_that_was_cut_anywhere_is_found(name):
    ends = {*itertools.accumulate(map(len, SENT[name]))}
    for end in {*range(1, len(WHOLE[name]))} - ends:
        with pytest.raises(Damaged):
            list(decoded([*pieces(WHOLE[name][:end], 50), b""], CODING[name]))


@pytest.mark.parametrize("name", ["gzip", "gzip of two members", "deflate", "zstd"])
@given(data=st.data())
def test_a_damaged_body_is_found_or_as_it_was(name, data):
    whole = bytearray(WHOLE[name])
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        body = b"".join(decoded([bytes(whole)], CODING[name]))
    except (Damaged, UnknownCoding):  # the latter where it is the size of zstd's window
        return
    assert body == BODY  # in a field that says nothing of the data, such as the time


WIDEST = {zstd.DecompressionParameter.window_log_max: 23}
AT_ONCE = {"br": brotli.decompress, "zstd": lambda sent: zstd.decompress(sent, options=WIDEST)}


@pytest.mark.parametrize("coding", AT_ONCE)
@given(data=st.data())
def test_any_bytes_are_what_the_library_makes_of_them_at_once(coding, data):
    """Neither coding has a checksum that has to be there."""
    whole = bytearray(WHOLE[coding])
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=3)):
        whole[at] = data.draw(st.integers(0, 255))
    sent = data.draw(st.one_of(st.just(bytes(whole)), st.binary(min_size=1, max_size=100)))
    try:
        expected = AT_ONCE[coding](sent)
    except (brotli.error, zstd.ZstdError):
        expected = None
    try:
        body = b"".join(decoded(pieces(sent, 40), coding))
    except (Damaged, UnknownCoding):
        body = None
    assert body == expected


@pytest.mark.parametrize("more", [b"x", b"<html>", b"\0x"])
@pytest.mark.parametrize("name", [*PACKED, "zstd of two frames"])
@pytest.mark.parametrize("size", [3, 100_000])
def test_more_behind_the_end_is_found(name, more, size):
    with pytest.raises(Damaged):
        list(decoded(pieces(WHOLE[name] + more, size), CODING[name]))


@pytest.mark.parametrize("name", [*PACKED, "zstd of two frames"])
def test_more_behind_the_end_is_found_in_a_part_of_its_own(name):
    with pytest.raises(Damaged):
        list(decoded([WHOLE[name], b"", b"x"], CODING[name]))


def test_a_second_stream_is_more_behind_the_end_of_the_first_one():
    for coding in ("br", "deflate"):
        with pytest.raises(Damaged, match="behind"):
            list(decoded([WHOLE[coding], WHOLE[coding]], coding))


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_an_empty_body_is_empty(coding):
    assert list(decoded([], coding)) == []
    assert list(decoded([b"", b""], coding)) == []


@pytest.mark.parametrize("coding", ["", "identity", "Identity, "])
def test_without_a_coding_the_body_stays_as_it_is(coding):
    assert b"".join(decoded([b"a", b"b"], coding)) == b"ab"


@pytest.mark.parametrize("coding", ["compress", "dcz", "gzip, aws-chunked", "br, gzip, zstd"])
def test_unknown_codings_are_refused_before_anything_is_read(coding):
    with pytest.raises(UnknownCoding, match=r"^only gzip, deflate, br, zstd was accepted$"):
        decoded(iter(()), coding)


def test_everything_that_can_be_decoded_is_asked_for():
    assert ACCEPTED == "gzip, deflate, br, zstd"


@pytest.mark.parametrize("name", PACKED)
def test_a_bomb_takes_no_more_memory_than_a_piece(name):
    bomb = PACKED[name](b" " * 100_000_000)
    tracemalloc.start()
    try:
        assert sum(map(len, decoded([bomb], CODING[name]))) == 100_000_000
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", PACKED)
def test_what_does_not_compress_at_all_comes_in_pieces_as_well(name):
    noise = random.Random(7).randbytes(3_000_000)
    received = list(decoded(pieces(PACKED[name](noise), 65_536), CODING[name]))
    assert b"".join(received) == noise
    assert max(map(len, received)) <= 1024 * 1024


def test_a_window_that_takes_too_much_memory_is_refused():
    noise = os.urandom(20_000)
    assert b"".join(decoded([packed_zstd(noise, window_log=23)], "zstd")) == noise
    with pytest.raises(UnknownCoding, match=r"only windows of up to 8 MiB are accepted"):
        list(decoded([packed_zstd(noise, window_log=24)], "zstd"))
    # A frame without a window is one itself: RFC 8878, 3.1.1.1.
    frame = b"\x28\xb5\x2f\xfd\xa0" + (8 * 1024 * 1024 + 1).to_bytes(4, "little")
    with pytest.raises(UnknownCoding, match=r"only windows of up to 8 MiB are accepted"):
        list(decoded([frame], "zstd"))
    # RFC 7932, 9.1: this is no size of a window. Encoders that may go beyond 16 MiB begin with it.
    with pytest.raises(Damaged):
        list(decoded([b"\x11\x1e" + b"\0" * 20], "br"))
