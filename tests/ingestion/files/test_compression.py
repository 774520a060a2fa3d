"""gzip and zip: whole, of several members, cut, nested, encrypted, too big; never unpacked to a name."""

import gzip
import io
import struct
import tracemalloc
import zipfile

import pytest

from ingestion.sources import Csv, Disk, Facts, FileLimits, Files
from tests.ingestion.files.shelf import QUICK
from tests.ingestion.files.streams import rows_of

PLAIN = b"code,name\n" + b"".join(b"%d,product %d\n" % (n, n) for n in range(50))


METHODS = {"stored": 0, "deflate": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}


def zipped(*members, method="deflate"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", METHODS[method]) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def read(tmp_path):
    """Return a function that reads one file's records, or says with which code it fails."""
    from ingestion.errors import RunFailed

    def read(name, content, **options):
        (tmp_path / name).write_bytes(content)
        files = Files(place=Disk(folder=tmp_path), pattern="*", format=Csv(page_bytes=100), **QUICK, **options)
        try:
            return sum(len(page.records) for page in files.for_feed(Facts()).pages(None))
        except RunFailed as failed:
            return failed.code

    return read


@pytest.mark.parametrize("name", ["a.csv.gz", "A.GZ"])
def test_gzip_of_one_and_of_several_members(read, name):
    whole = gzip.compress(PLAIN)
    assert read(name, whole) == 50
    assert read(name, gzip.compress(PLAIN[:200]) + gzip.compress(PLAIN[200:])) == 50
    assert read(name, whole + b"\x00" * 512) == 50  # as tapes and some tools pad it


@pytest.mark.parametrize("cut", [0, 9, 30, -1, -8])
def test_gzip_that_is_cut_fails(read, cut):
    assert read("a.gz", gzip.compress(PLAIN)[:cut]) == "incomplete"


def test_a_cut_second_member_fails(read):
    assert read("a.gz", gzip.compress(PLAIN) + gzip.compress(b"99,x\n")[:-3]) == "incomplete"


def test_what_is_no_gzip_fails(read):
    whole = gzip.compress(PLAIN)
    assert read("a.gz", PLAIN) == "compression"
    assert read("a.gz", whole + b"garbage behind it") == "compression"
    assert read("a.gz", whole[:-8] + b"\x00\x00\x00\x00" + whole[-4:]) == "compression"  # the checksum


def test_compression_is_declared_where_the_name_does_not_tell(read):
    assert read("a.csv", gzip.compress(PLAIN)) == "compression"
    assert read("a.csv", gzip.compress(PLAIN), compression="gzip") == 50
    assert read("a.csv", zipped(("b.csv", PLAIN)), compression="zip") == 50


def test_zip_with_one_member(read):
    assert read("a.zip", zipped(("some/folder/b.csv", PLAIN))) == 50
    assert read("a.zip", zipped(("folder/", b""), ("b.csv", PLAIN))) == 50


def test_one_of_several_members_can_be_chosen(read):
    content = zipped(("readme.txt", b"hello"), ("data/b.csv", PLAIN))
    assert read("a.zip", content) == "archive"
    assert read("a.zip", content, member="data/*.csv") == 50


@pytest.mark.parametrize(
    "members",
    [
        (),
        (("a.csv", PLAIN), ("b.csv", PLAIN)),
        (("a.csv", PLAIN), ("a.csv", PLAIN)),
        (("b.zip", zipped(("a.csv", PLAIN))),),
        (("../a.csv", PLAIN),),
        (("x/../../a.csv", PLAIN),),
        (("/etc/a.csv", PLAIN),),
        (("..\\a.csv", PLAIN),),
        (("C:/a.csv", PLAIN),),
    ],
    ids=["none", "two", "two of one name", "nested", "above", "hidden above", "absolute", "backslash", "drive"],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zip_files_that_are_not_read(read, members):
    assert read("a.zip", zipped(*members)) == "archive"


def test_an_encrypted_zip_is_not_read(read):
    content = bytearray(zipped(("a.csv", PLAIN)))
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.index(signature) + at
        content[place : place + 2] = struct.pack("<H", 1)
    assert read("a.zip", bytes(content)) == "archive"


def test_a_cut_or_damaged_zip_is_not_read(read):
    content = zipped(("a.csv", PLAIN))
    assert read("a.zip", content[:-30]) == "archive"
    assert read("a.zip", b"") == "archive"
    damaged = bytearray(content)
    damaged[60] ^= 0xFF
    assert read("a.zip", bytes(damaged)) in ("compression", "archive")


@pytest.mark.parametrize("method", METHODS)
def test_each_method_of_zip_that_is_damaged_anywhere_fails_with_what_is_wrong(read, method):
    content = zipped(("a.csv", PLAIN), method=method)
    assert read("a.zip", content) == 50
    # LZMA's own header says things that its data do not need.
    start = content.index(b"a.csv") + len("a.csv") + 9
    for place in range(start, content.index(b"PK\x01\x02"), 7):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        assert read("a.zip", bytes(damaged)) in ("compression", "archive", "incomplete")


@pytest.mark.parametrize(("at", "value"), [(8, 97), (8, 93), (4, 99)], ids=["method", "zstd", "version"])
def test_a_zip_of_a_method_or_a_version_that_nobody_knows_is_not_read(read, at, value):
    content = bytearray(zipped(("a.csv", PLAIN)))
    place = content.index(b"PK\x01\x02") + at + 2
    content[place : place + 2] = struct.pack("<H", value)
    assert read("a.zip", bytes(content)) == "archive"


def test_bombs_are_stopped_at_their_limits(read):
    bomb = b"code,name\n" + b"1,aaaaaaaaaaaaaaaaaaaa\n" * 2_000_000
    ratio = FileLimits(ratio=100)
    assert read("a.gz", gzip.compress(bomb), limits=ratio) == "compression_ratio"
    assert read("a.gz", gzip.compress(bomb), limits=FileLimits(decoded_bytes=1_000_000)) == "file_too_large"


def test_zip_bombs_are_stopped_at_their_limits(read):
    bomb = zipped(("a.csv", b"code,name\n" + b"1,aaaaaaaaaaaaaaaaaaaa\n" * 2_000_000))
    assert read("a.zip", bomb, limits=FileLimits(ratio=100)) == "compression_ratio"
    assert read("a.zip", bomb, limits=FileLimits(decoded_bytes=1_000_000)) == "file_too_large"
    assert read("a.zip", bomb, limits=FileLimits(file_bytes=1_000)) == "file_too_large"
    many = zipped(*[(f"{n}.csv", b"") for n in range(20)])
    assert read("a.zip", many, limits=FileLimits(members=10)) == "archive"


@pytest.mark.parametrize("method", ["bzip2", "lzma"])
def test_what_becomes_large_is_made_piece_by_piece(tmp_path, method):
    """32 MiB of which few bytes are stored, and zipfile takes all that they become."""
    row = b"1," + b"a" * 255 * 1024 + b"\n"
    content = zipped(("a.csv", b"code,name\n" + row * 128), method=method)
    assert len(content) < 10_000
    (tmp_path / "a.zip").write_bytes(content)
    pages = Files(place=Disk(folder=tmp_path), pattern="*", format=Csv(page_bytes=100)).for_feed(Facts()).pages(None)
    tracemalloc.start()
    try:
        assert next(pages).records
        # LZMA's dictionary is 8 MiB.
        assert tracemalloc.get_traced_memory()[1] < 16 * 1024 * 1024
    finally:
        tracemalloc.stop()
        pages.close()


def with_dictionary(content, size, *, declared=None):
    """Let a zip file's LZMA member ask for a dictionary, and say that it is so large, decompressed."""
    changed = bytearray(content)
    at = changed.index(b"a.csv") + len("a.csv") + 5
    changed[at : at + 4] = struct.pack("<I", size)
    if declared is not None:
        directory = changed.index(b"PK\x01\x02")
        changed[directory + 24 : directory + 28] = struct.pack("<I", declared)
    return bytes(changed)


def test_a_dictionary_is_no_larger_than_what_is_compressed(read):
    content = zipped(("a.csv", PLAIN), method="lzma")
    tracemalloc.start()
    try:
        assert read("a.zip", with_dictionary(content, 0xFFFFFFFF)) == 50
        assert read("a.zip", with_dictionary(content, 0xFFFFFFFF, declared=0xFFFFFFFE)) == "archive"
        assert read("a.zip", with_dictionary(content, 65 << 20, declared=65 << 20)) == "archive"
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("declared", [len(PLAIN) - 1, len(PLAIN) + 1])
@pytest.mark.parametrize("method", ["bzip2", "lzma"])
def test_a_member_of_another_size_than_it_says_fails(read, method, declared):
    content = bytearray(zipped(("a.csv", PLAIN), method=method))
    directory = content.index(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = struct.pack("<I", declared)
    assert read("a.zip", bytes(content)) in ("compression", "incomplete")


@pytest.mark.parametrize("kind", ["none", "gzip", "zip"])
def test_reading_goes_on_inside_a_compressed_file(tmp_path, kind):
    content = {"none": PLAIN, "gzip": gzip.compress(PLAIN), "zip": zipped(("b.csv", PLAIN))}[kind]
    (tmp_path / "a").write_bytes(content)
    files = Files(place=Disk(folder=tmp_path), pattern="a", format=Csv(page_bytes=150), compression=kind)
    pages = list(files.pages(None))
    assert len(pages) > 4
    for place, page in enumerate(pages[:-1]):
        rest = list(files.pages(page.following))
        assert [rows_of(p) for p in rest] == [rows_of(p) for p in pages[place + 1 :]]
        assert [p.number for p in rest] == [p.number for p in pages[place + 1 :]]
