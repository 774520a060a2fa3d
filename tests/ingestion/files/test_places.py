"""The same feed from a disk, HTTP, S3, FTP, FTPS and SFTP: each file once, resumed inside, checked, moved."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from ingestion.errors import RetryLater, RunFailed
from ingestion.sources import S3, Csv, Disk, Ftp, Sftp, Web
from tests.ingestion.catalog import counts
from tests.ingestion.files import servers
from tests.ingestion.files.servers import PASSWORD, USER
from tests.ingestion.files.streams import rows_of
from tests.ingestion.slices import finish

KINDS = ("disk", "web", "s3", "ftp", "ftps", "sftp")


@dataclass
class Where:
    """A place, and a way to put files there that is not the engine's."""

    place: Any
    folder: Path
    bucket: Any = None

    def put(self, name: str, content: bytes) -> None:
        if self.bucket is not None:
            self.bucket.put_object(Key=name, Body=content)
            return
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def names(self) -> list[str]:
        if self.bucket is not None:
            return sorted(found.key for found in self.bucket.objects.all())
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())

    def remove(self, name: str) -> None:
        if self.bucket is not None:
            self.bucket.Object(name).delete()
        else:
            (self.folder / name).unlink()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    with servers.s3() as url:
        yield url


def bucket_of(url: str, name: str) -> Any:
    resource = boto3.resource(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret"
    )
    return resource.create_bucket(Bucket=name)


@pytest.fixture
def where(request, tmp_path, tmp_path_factory):
    folder = tmp_path / "served"
    folder.mkdir()
    with ExitStack() as stack:
        kind = request.param
        bucket = None
        if kind == "disk":
            place = Disk(folder=folder)
        elif kind == "web":
            remote = stack.enter_context(servers.web(folder))
            place = Web(urls=(lambda: f"{remote.url}/a.csv?token=s3cret", f"{remote.url}/b.csv"))
            (folder / "b.csv").write_text("code,name\n")
        elif kind == "s3":
            url = request.getfixturevalue("s3_server")
            name = f"b{abs(hash(str(tmp_path)))}"
            bucket = bucket_of(url, name)
            place = S3(bucket=name, endpoint=url, key_id=lambda: "key", secret=lambda: "secret")
        elif kind in ("ftp", "ftps"):
            pem = servers.certificate(tmp_path_factory.getbasetemp()) if kind == "ftps" else None
            port = stack.enter_context(servers.ftp(folder, tls=pem))
            place = Ftp(
                host="127.0.0.1", port=port, user=USER, password=lambda: PASSWORD, tls=pem is not None,
                ca_file=str(pem) if pem else None, silence=timedelta(seconds=10),
            )  # fmt: skip
        else:
            port, known = stack.enter_context(servers.sftp(folder))
            place = Sftp(host="127.0.0.1", port=port, user=USER, password=lambda: PASSWORD, known_hosts=known)
        yield Where(place=place, folder=folder, bucket=bucket)


def table(*codes: int) -> bytes:
    return b"code,name\n" + b"".join(b"%d,product %d\n" % (code, code) for code in codes)


def files_of(place, **options):
    from ingestion.sources import Files
    from tests.ingestion.files.shelf import QUICK

    return Files(place=place, **({"pattern": "**/*.csv", "format": Csv()} | QUICK | options))


@pytest.mark.parametrize("where", KINDS, indirect=True)
def test_each_version_of_a_file_is_loaded_once(shelf, where):
    where.put("a.csv", table(1, 2))
    assert counts(shelf.sync(place=where.place)) == {"read": 2, "inserted": 2}
    assert counts(shelf.sync(place=where.place)) == {}
    where.put("a.csv", table(1, 2, 3))
    assert counts(shelf.sync(place=where.place)) == {"read": 3, "inserted": 1, "unchanged": 2}
    assert "a.csv" in shelf.loaded()


@pytest.mark.parametrize("where", KINDS, indirect=True)
def test_reading_begins_again_at_any_byte(where):
    where.put("a.csv", table(*range(60)))
    files = files_of(where.place, format=Csv(page_bytes=150), pattern="a*")
    pages = list(files.pages(None))
    assert len(pages) > 5
    assert [row[0] for page in pages for row in rows_of(page)] == [str(code) for code in range(60)]
    for place in (0, 2, len(pages) - 2):
        rest = [row for page in files.pages(pages[place].following) for row in rows_of(page)]
        assert rest == [row for page in pages[place + 1 :] for row in rows_of(page)]


@pytest.mark.parametrize("where", KINDS, indirect=True)
@pytest.mark.parametrize("change", ["replaced", "deleted"])
def test_a_file_that_changes_while_it_is_read_is_not_taken_for_whole(where, change):
    where.put("a.csv", table(*range(60)))
    pages = files_of(where.place, format=Csv(page_bytes=150), pattern="a*").pages(None)
    first = next(pages)
    if change == "deleted":
        where.remove("a.csv")
    else:
        where.put("a.csv", table(*range(100, 190)))
    with pytest.raises(RetryLater, match=r"changed|removed|no longer|ended after"):
        list(pages)
    if change == "deleted":
        with pytest.raises((RetryLater, RunFailed), match=r"removed|is not there"):
            list(files_of(where.place, format=Csv(page_bytes=150), pattern="a*").pages(first.following))


@pytest.mark.parametrize("where", [kind for kind in KINDS if kind != "web"], indirect=True)
def test_patterns_reach_into_folders_and_loaded_files_are_moved(shelf, where):
    where.put("in/a.csv", table(1))
    where.put("in/deep/er/b.csv", table(2))
    where.put("in/c.txt", b"no CSV")
    where.put("out/d.csv", table(3))
    shelf.sync(place=where.place, pattern="in/**/*.csv", move_to="in/done")
    assert shelf.codes() == [1, 2]
    names = where.names()
    assert [name for name in names if "done" not in name] == ["in/c.txt", "out/d.csv"]
    assert len([name for name in names if name.startswith("in/done/2") and name.endswith(".csv")]) == 2
    assert counts(shelf.sync(place=where.place, pattern="in/**/*.csv", move_to="in/done")) == {}


@pytest.mark.parametrize("where", [kind for kind in KINDS if kind != "web"], indirect=True)
def test_names_that_are_no_utf8_or_odd_are_read(where):
    for name in ("ünï 😀.csv", "back\\slash.csv" if where.bucket else "semi;colon.csv", "per%2e%2ecent.csv"):
        where.put(name, table(1))
    expected = 3
    if isinstance(where.place, Disk | Sftp):  # pyftpdlib lists such a name with a question mark
        import os

        (where.folder / os.fsdecode(b"caf\xe9.csv")).write_bytes(table(2))
        expected = 4
    pages = list(files_of(where.place).pages(None))
    assert [len(page.records) for page in pages] == [1] * expected
    assert all(page.file and not page.refused for page in pages)


def test_a_feed_is_run_from_slices_over_sftp(shelf, tmp_path):
    """A slice ends in mid-file and the next one connects anew."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a.csv").write_bytes(table(*range(50)))
    with servers.sftp(tmp_path / "served") as (port, known):
        place = Sftp(host="127.0.0.1", port=port, user=USER, password=lambda: PASSWORD, known_hosts=known)
        part = shelf.begin(place=place, format=Csv(page_bytes=200))
        slices = finish(part)
    assert slices > 2
    assert shelf.codes() == list(range(50))
