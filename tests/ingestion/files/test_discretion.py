"""What was sent to a place is in no error of it, nor in the log lines of a file that is read on where it broke."""

import pytest

from ingestion.http import Sent, TransientFailure
from ingestion.sources import S3, Csv, Files, Web
from ingestion.sources.files.discretion import discreet
from ingestion.sources.files.entries import Entry
from tests.ingestion import marker
from tests.ingestion.files.shelf import QUICK
from tests.remote import Raw, Remote, Reply

SECRET = "hush-9f8e7d6c5b4a"
CONTENT = b"code,name\n1,a\n2,b\n"
TAG = {"ETag": '"1"', "Last-Modified": "Mon, 23 Nov 2026 10:00:00 GMT"}
LISTING = f"""<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>false</IsTruncated><Contents>
    <Key>a.csv</Key><LastModified>2026-11-23T10:00:00.000Z</LastModified><ETag>"1"</ETag><Size>{len(CONTENT)}</Size>
</Contents></ListBucketResult>"""


def read(place):
    """Return how many records were read, and what was logged of it."""
    with marker.logs() as written:
        records = sum(len(page.records) for page in Files(place=place, format=Csv(), **QUICK).pages(None))
    lines = [line for line in written.getvalue().splitlines() if "file is read on where it broke" in line]
    assert SECRET not in written.getvalue()
    return records, lines


def test_a_store_that_says_back_in_mid_read_what_it_was_sent_is_not_quoted():
    downloads = []

    def answer(request):
        if request.method == "HEAD":
            return Reply(headers={**TAG, "Content-Length": str(len(CONTENT))})
        if "list-type" in request.query:
            return Reply(body=LISTING.encode(), headers={"Content-Type": "application/xml"})
        downloads.append(request.headers.get("range"))
        if len(downloads) == 1:
            head = f'HTTP/1.1 200 OK\r\nContent-Length: {len(CONTENT)}\r\nETag: "1"\r\n\r\n'
            return Raw([head.encode(), CONTENT[:10]])
        if len(downloads) == 2:
            said = f"<Error><Code>SlowDown</Code><Message>{request.headers['authorization']}</Message></Error>"
            return Reply(503, said.encode(), {"Content-Type": "application/xml"})
        start = int((downloads[-1] or "bytes=0-")[6:-1])
        return Reply(206 if start else 200, CONTENT[start:], TAG)

    with Remote(answer) as remote:
        place = S3(bucket="b", endpoint=remote.url, key_id=lambda: SECRET, secret=lambda: "s3cret")
        records, lines = read(place)
    assert records == 2
    assert [("SlowDown" in line, "Credential=…" in line) for line in lines] == [(False, False), (True, True)]


def test_a_server_that_breaks_a_download_off_with_what_it_was_sent_is_not_quoted():
    broken = []

    def answer(request):
        if request.method == "HEAD" or broken:
            return Reply(body=CONTENT, headers=TAG)
        broken.append(request)
        head = 'HTTP/1.1 200 OK\r\nETag: "1"\r\nTransfer-Encoding: chunked\r\n\r\n'
        return Raw([head.encode(), f"{request.headers['x-token']}\r\n".encode()])

    with Remote(answer) as remote:
        records, (line,) = read(Web(urls=f"{remote.url}/a.csv", headers={"X-Token": SECRET}))
    assert records == 2
    assert "RemoteProtocolError" in line


class Echo:
    """A session, and a stream, that say what they were sent."""

    def fail(self, *given):
        raise TransientFailure(f"wrong password {SECRET}", blames="host")

    look = move = read = close = fail

    def find(self, pattern):
        yield Entry(name=pattern, handle=None, version="")
        self.fail()

    def open(self, entry, offset):
        if offset:
            self.fail()
        return self


@pytest.mark.parametrize(
    "call",
    [
        lambda session: list(session.find("*")),
        lambda session: session.look(None),
        lambda session: session.open(None, 1),
        lambda session: session.open(None, 0).read(),
        lambda session: session.open(None, 0).close(),
        lambda session: session.move(None, ""),
    ],
    ids=["find", "look", "open", "read", "close", "move"],
)
def test_no_error_of_a_discreet_session_says_what_was_sent(call):
    with discreet(Echo(), Sent({SECRET})) as session, pytest.raises(TransientFailure) as raised:
        call(session)
    assert (str(raised.value), raised.value.blames) == ("wrong password …", "host")
