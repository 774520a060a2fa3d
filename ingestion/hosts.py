"""Hosts of remotes: how many parts of all feeds are read from one at once. No network, no Celery."""

from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.db.models import Count, Func, TextField, Value
from django.db.models.functions import Cast, Now

from ingestion import feeds, waits
from ingestion.errors import ConfigurationError
from ingestion.models import Part, Run, State
from ingestion.sources import S3, Files, Ftp, Sftp, Soap, Source, Web
from ingestion.texts import text_of

# When a part looks again whether its host has room.
WAIT: Final = timedelta(seconds=3)
# Sets these advisory locks apart from others of the same database: any number does.
_LOCKS: Final = 1_769_172_080
# Left out of a host's name.
_PORTS: Final = {"http": 80, "https": 443, "ftp": 21, "sftp": 22}
# What the columns take. Of hosts that exist, none has a longer name (RFC 1035, 2.3.4).
_LONGEST: Final = 253


def host_of(source: Source) -> str:
    """Return the host that a source reads from, with its port where that is not the scheme's own.

    Empty where it has none, or its URL is not known yet.
    """
    try:
        url = _place_of(source) if isinstance(source, Files) else getattr(source, "url", None)
        if url is None and isinstance(source, Soap):
            url = source.wsdl  # the service is at the same origin
        parts = urlsplit(url() if callable(url) else url or "")
        port = parts.port
    except (ConfigurationError, ValueError):
        return ""  # the run will say so
    name = _with_brackets(parts.hostname or "")
    host = f"{name}:{port}" if name and port not in (None, _PORTS.get(parts.scheme)) else name
    return host if len(host) <= _LONGEST else ""


def _place_of(files: Files) -> Any:
    """Return the address of a place, the first of several; a folder of this machine has none."""
    place = files.place
    if isinstance(place, Ftp | Sftp):
        return f"{'ftp' if isinstance(place, Ftp) else 'sftp'}://{_with_brackets(text_of(place.host))}:{place.port}"
    if isinstance(place, S3):
        return place.endpoint or "//s3.amazonaws.com"
    urls = place.urls if isinstance(place, Web) else None
    return urls[0] if isinstance(urls, tuple) else urls


def _with_brackets(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _without_port(host: str) -> str | None:
    return urlsplit(f"//{host}").hostname


def at_once(source: Source) -> int:
    """Return how many requests a part of a source has under way at the same time."""
    wanted: int = getattr(source, "concurrency", 1)
    return min(wanted, settings.PARTS_PER_HOST) if settings.PARTS_PER_HOST and host_of(source) else wanted


def has_room(host: str, feed: str) -> bool:
    """Whether one more part of a feed may be read from the host; it takes as much room as it has requests at once.

    All ports of a host share its room. Until the caller's transaction ends, nobody else is told so.
    """
    if not host or not settings.PARTS_PER_HOST:
        return True
    name = _without_port(host)
    # Of a transaction, not of a session: it works behind a pooler, and ends whatever happens.
    lock = Func(Value(_LOCKS), Func(Value(name), function="hashtext"), function="pg_advisory_xact_lock")
    list(Run.objects.order_by().values_list(Cast(lock, TextField()))[:1])
    read = Part.objects.filter(state=State.RUNNING, leased_until__gte=Now()).exclude(run__host="")
    parts = read.order_by().values_list("run__host", "run__feed__name").annotate(parts=Count("pk"))
    taken = sum(number * _room_of(of) for other, of, number in parts if _without_port(other) == name)
    return taken == 0 or bool(taken + _room_of(feed) <= settings.PARTS_PER_HOST)


def _room_of(feed: str) -> int:
    try:
        return at_once(feeds.get(feed).source)
    except ConfigurationError:
        return 1  # it is declared no more


def postpone(part_id: int, host: str) -> None:
    """Let a part wait until its host may have room; no attempt is counted."""
    name, limit = _without_port(host), settings.PARTS_PER_HOST
    reason = f"as much is read from {name} already as PARTS_PER_HOST={limit} allows"
    waits.begin(Part.objects.filter(pk=part_id), Now() + WAIT, reason)
