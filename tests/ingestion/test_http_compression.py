"""Compressed responses over connections: decoded, tried again or refused, with the extra codings and without."""

import gzip
import json
import subprocess
import sys

import pytest

from ingestion.errors import RunFailed
from ingestion.http import Client, Limits
from tests.ingestion.http_getting import GOOD, fails, get, gives_up
from tests.packing import PACKED, zstd
from tests.remote import Remote, Reply, in_turn

# Asks for an address without the optional libraries, as where they are not installed.
WITHOUT = f"""
import sys
for name in ("brotli", "{zstd.__name__}"):
    sys.modules[name] = None
from ingestion.errors import RunFailed
from ingestion.http import Client
with Client() as client:
    for url in sys.argv[1:]:
        try:
            print(client.get(url, {{}}).body.decode())
        except RunFailed as failed:
            print(failed.code, failed.message)
"""


def packed(body, encoding):
    return Reply(body=body, headers={"Content-Encoding": encoding})


@pytest.mark.parametrize("encoding", ["compress", "dcb", "gzip, dcz", "x-unknown", "gzip, gzip, gzip"])
def test_a_coding_that_nobody_asked_for_is_refused(encoding):
    failed = fails(packed(gzip.compress(b"[]"), encoding))
    assert failed.code == "content_encoding"
    assert failed.message.endswith(f" answered in '{encoding}' although only gzip, deflate, br, zstd was accepted")


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", "identity, gzip", "deflate", "br", "Br", "zstd"])
def test_a_compressed_body_is_decoded(encoding):
    pack = PACKED[encoding.lower().split("-")[-1].split(" ")[-1]]
    with Remote(packed(pack(GOOD.body), encoding)) as remote:
        assert get(remote.url).body == GOOD.body


def test_a_body_that_was_compressed_by_the_remote_and_by_a_proxy_is_decoded():
    with Remote(packed(PACKED["br"](PACKED["zstd"](GOOD.body)), "zstd, br")) as remote:
        assert get(remote.url).body == GOOD.body


@pytest.mark.parametrize("encoding", PACKED)
def test_a_compressed_body_that_was_cut_is_tried_again(encoding):
    body = b"[" + b" " * 100 + b"]"
    whole = PACKED[encoding](body)
    cut = packed(whole[:-1], encoding)
    with Remote(in_turn(cut, packed(whole, encoding))) as remote:
        assert get(remote.url).body == body
        assert len(remote.requests) == 2
    assert f"{encoding} data end too early" in str(gives_up(cut)[0])


@pytest.mark.parametrize("encoding", PACKED)
def test_a_bomb_is_refused_by_size_and_by_ratio(encoding):
    bomb = packed(PACKED[encoding](b" " * 20_000_000), encoding)
    assert fails(bomb).code == "compression_ratio"
    assert fails(bomb, limits=Limits(body_bytes=1_000_000)).code == "response_too_large"
    with Remote(bomb) as remote:
        assert len(get(remote.url, limits=Limits(ratio=2_000_000)).body) == 20_000_000


@pytest.mark.parametrize("encoding", PACKED)
def test_a_page_of_records_that_are_wide_and_empty_is_no_bomb(encoding):
    records = json.dumps([{f"reading_{n}": None for n in range(60)} | {"id": at} for at in range(4_000)]).encode()
    with Remote(packed(PACKED[encoding](records), encoding)) as remote:
        assert get(remote.url).body == records


def test_a_bomb_of_a_gibibyte_is_stopped_as_soon_as_a_small_one():
    bomb = packed(zstd.compress(bytes(1024 * 1024)) * 1024, "zstd")
    with (
        Remote(bomb) as remote,
        Client() as client,
        pytest.raises(RunFailed, match=r"became more than [0-9]{7,9} bytes"),
    ):
        client.get(remote.url, {})


def test_what_one_coding_expands_to_counts_as_well_when_the_other_one_skips_it():
    skipped = b"\x50\x2a\x4d\x18" + (20_000_000).to_bytes(4, "little") + bytes(20_000_000)
    failed = fails(packed(PACKED["br"](skipped + PACKED["zstd"](GOOD.body)), "zstd, br"))
    assert failed.code == "compression_ratio"


def test_a_window_that_takes_too_much_memory_is_refused_and_not_tried_again():
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 24})
    failed = fails(packed(compressor.compress(GOOD.body) + compressor.flush(), "zstd"))
    assert failed.code == "content_encoding"
    assert failed.message.endswith(" answered in 'zstd' although only windows of up to 8 MiB are accepted (RFC 9659)")


@pytest.mark.parametrize("encoding", ["identity", " Identity", ""])
def test_no_encoding_may_be_said(encoding):
    with Remote(packed(b"[]", encoding)) as remote:
        assert get(remote.url).body == b"[]"


def test_without_the_optional_libraries_the_others_are_asked_for_and_decoded():
    replies = {f"/{name}": packed(pack(GOOD.body), name) for name, pack in PACKED.items()}
    with Remote(lambda request: replies[request.path]) as remote:
        urls = [remote.url + path for path in replies]
        result = subprocess.run(
            [sys.executable, "-c", WITHOUT, *urls], capture_output=True, text=True, timeout=60, check=True
        )
        assert {request.headers["accept-encoding"] for request in remote.requests} == {"gzip, deflate"}
    lines = result.stdout.splitlines()
    assert lines[:2] == [GOOD.body.decode()] * 2
    asked = "although only gzip, deflate was accepted;"
    missing = "which is not installed: it is in the extra 'codings', see docs/sources.md"
    assert lines[2] == f"content_encoding GET {urls[2]} answered in 'br' {asked} br needs brotli 1.2, {missing}"
    assert (
        lines[3] == f"content_encoding GET {urls[3]} answered in 'zstd' {asked} zstd needs {zstd.__name__}, {missing}"
    )
