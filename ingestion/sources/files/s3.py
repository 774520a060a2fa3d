"""Files in a bucket of S3 or of a compatible store."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from io import BytesIO
from typing import Any, Final
from urllib.parse import urlsplit

from ingestion.errors import ConfigurationError, RetryLater, RunFailed
from ingestion.http import Sent, TransientFailure, addresses_of_files, blame_of, origin_of, secrets_in
from ingestion.http.deadlines import Watchdog
from ingestion.sources.files.discretion import discreet
from ingestion.sources.files.entries import ByteStream, Entry, Session, readable
from ingestion.sources.files.extras import needed
from ingestion.sources.files.patterns import fixed_folder, matcher
from ingestion.texts import Text, text_of

_GONE: Final = frozenset({"404", "NoSuchKey", "NotFound"})
_CHANGED: Final = frozenset({"412", "416", "PreconditionFailed", "InvalidRange"})
_BUSY: Final = frozenset({"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling"})


@dataclass(frozen=True, kw_only=True)
class S3:
    """A bucket. Without `key_id` and `secret` boto3 looks for credentials itself, in the environment and its files.

    Args:
        bucket: its name, or a function that returns it when a run starts.
        endpoint: the URL of a compatible store; None for AWS.
        key_id, secret: functions that return the credentials when a run starts.
        instance_role: also ask the machine's metadata service (169.254.169.254) for credentials.
        silence: the longest wait for an answer.
        deadline: for each block that is read of a file, 256 KiB at most.
    """

    bucket: Text
    endpoint: Text | None = None
    region: str | None = None
    key_id: Callable[[], str] | None = None
    secret: Callable[[], str] | None = None
    instance_role: bool = False
    silence: timedelta = timedelta(seconds=30)
    deadline: timedelta = timedelta(minutes=5)

    @contextmanager
    def session(self) -> Iterator[Session]:
        boto3, botocore = needed("boto3", "s3"), needed("botocore.session", "s3")
        config = needed("botocore.config", "s3").Config(
            connect_timeout=10,
            read_timeout=self.silence.total_seconds(),
            # Whoever reads a file tries again, where it stopped.
            retries={"mode": "standard", "total_max_attempts": 1},
            proxies={},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        core = botocore.get_session()
        descriptions = _descriptions(core.get_config_variable("data_path"))
        core.register_component("data_loader", descriptions)
        if not self.instance_role:
            core.get_component("credential_provider").remove("iam-role")
        session = boto3.Session(botocore_session=core, region_name=self.region or "us-east-1")
        # Each session of boto3 adds its folder once more.
        descriptions.search_paths[:] = dict.fromkeys(descriptions.search_paths)
        key_id, secret = self.key_id() if self.key_id else None, self.secret() if self.secret else None
        bucket, endpoint = text_of(self.bucket), None if self.endpoint is None else text_of(self.endpoint)
        if endpoint is not None and not origin_of(endpoint):
            raise ConfigurationError(f"S3: the endpoint of {bucket} is no http:// or https:// URL")
        sent = Sent(secrets_in(key_id, secret), urls=(endpoint or "",))
        with sent.unsaid(), _translated(bucket):
            found = None if key_id or secret else session.get_credentials()
            if found is not None:
                frozen = found.get_frozen_credentials()
                sent.learn_values(frozen.access_key, frozen.secret_key, frozen.token)
            client = session.client(
                "s3",
                endpoint_url=endpoint,
                aws_access_key_id=key_id,
                aws_secret_access_key=secret,
                config=config,
            )
            # Those that boto3 finds may be made anew at any time, with another token.
            client.meta.events.register("before-send.s3", lambda request, **_: sent.learn_values(_token_of(request)))
            client.meta.events.register("before-send.s3", _check_addresses)
        try:
            with discreet(_Bucket(client, bucket, self.deadline), sent) as opened:
                yield opened
        finally:
            client.close()


def _check_addresses(request: Any, **_: Any) -> None:
    """Look at the addresses of each request's host: a bucket, a region or a redirect may have one of its own.

    boto3 looks the name up once more, and takes no address for it.
    """
    addresses_of_files(urlsplit(request.url).hostname or "")


def _token_of(request: Any) -> str:
    """Return the token of temporary credentials that a request is sent with, or nothing."""
    token = request.headers.get("X-Amz-Security-Token", "")
    return token.decode("ascii", "replace") if isinstance(token, bytes) else token


@lru_cache(maxsize=1)
def _descriptions(folders: str | None) -> Any:
    """Return botocore's descriptions of services, read once a process: each slice would read 10 MiB of them again."""
    return needed("botocore.loaders", "s3").create_loader(folders)


class _Bucket:
    def __init__(self, client: Any, bucket: str, deadline: timedelta) -> None:
        self._client, self._bucket, self._deadline = client, bucket, deadline

    def find(self, pattern: str) -> Iterator[Entry]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=fixed_folder(pattern)
        )
        with _translated(self._bucket):
            for page in pages:
                # An answer that is no listing must not pass for one of an empty bucket.
                if not page.keys() & {"Contents", "IsTruncated", "Name"}:
                    raise TransientFailure(f"S3, {self._bucket}: the answer is no listing")
                for found in page.get("Contents", ()):
                    if matcher(pattern).fullmatch(found["Key"]) and not found["Key"].endswith("/"):
                        yield _entry(found["Key"], found["ETag"], found["Size"], found["LastModified"])

    def look(self, entry: Entry) -> Entry | None:
        try:
            with _translated(entry.name):
                found = self._client.head_object(Bucket=self._bucket, Key=entry.handle)
        except _Gone:
            return None
        return _entry(entry.handle, found["ETag"], found["ContentLength"], found["LastModified"])

    def open(self, entry: Entry, offset: int) -> ByteStream:
        if entry.size_bytes is not None and offset >= entry.size_bytes:
            return BytesIO()
        asked = {"Range": f"bytes={offset}-"} if offset else {}
        with _translated(entry.name):
            found = self._client.get_object(Bucket=self._bucket, Key=entry.handle, IfMatch=entry.version, **asked)
        return _Body(found["Body"], entry.name, self._deadline)

    def move(self, entry: Entry, name: str) -> None:
        with _translated(entry.name):
            # In parts where it has to be; a copy is whole or not there.
            self._client.copy({"Bucket": self._bucket, "Key": entry.handle}, self._bucket, name)
            self._client.delete_object(Bucket=self._bucket, Key=entry.handle)


class _Body:
    def __init__(self, body: Any, name: str, deadline: timedelta) -> None:
        self._body, self._name = body, name
        self._watchdog = Watchdog(deadline, self._hang_up)

    def read(self, size: int = -1, /) -> bytes:
        with self._watchdog.watching(f"S3, {self._name}"), _translated(self._name):
            received: bytes = self._body.read(size if size >= 0 else None)
        return received

    def _hang_up(self) -> None:
        """Shut the connection down, from the watchdog's thread."""
        with suppress(AttributeError, OSError):  # the body has ended in the meantime
            connection = self._body._raw_stream._fp.fp.raw._sock  # noqa: SLF001 - as botocore sets its timeout
            # Not the TLS socket's own method, which is not made for being called from another thread.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def close(self) -> None:
        self._watchdog.stop()
        self._body.close()


class _Gone(TransientFailure):
    """There is no such object."""


@contextmanager
def _translated(name: str) -> Iterator[None]:
    exceptions = needed("botocore.exceptions", "s3")
    try:
        yield
    except exceptions.ClientError as error:
        raise _meaning(error, name) from error
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError, ValueError) as error:
        raise ConfigurationError(f"S3: {error}") from error
    except (exceptions.BotoCoreError, OSError) as error:
        raise TransientFailure(f"S3, {name}: {type(error).__name__}: {error}", blames="host") from error


def _meaning(error: Any, name: str) -> Exception:
    answered, status = error.response["Error"], error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
    code, said = str(answered.get("Code", "")), str(answered.get("Message", ""))[:200]
    if code in _GONE:
        return _Gone(f"{name} is no longer there")
    if code in _CHANGED:
        return RetryLater(f"{name} was changed while it was read")
    if code in _BUSY or status >= 500 or status == 429:
        # It says so when it is asked too fast, too.
        blames = "" if code == "SlowDown" else blame_of(status)
        return TransientFailure(f"S3, {name}: {code}: {said}", blames=blames)
    return RunFailed("access", f"S3 refused {name}: {code}: {said}")


def _entry(key: str, tag: str, size: int, modified_at: Any) -> Entry:
    return Entry(name=readable(key), handle=key, version=tag, size_bytes=size, modified_at=modified_at)
