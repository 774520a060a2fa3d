"""Kombu's Redis transport, which what is no message does not end: the queue may hold anything that anybody wrote."""

from queue import Empty
from typing import Any, Final

import structlog
from kombu.transport import TRANSPORT_ALIASES, redis

log = structlog.get_logger(__name__)

SCHEMES: Final = ("redis", "rediss")


class Channel(redis.Channel):
    """Drops what cannot be read as a message. In kombu 5.7 its exception would end the whole worker."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # kombu's types leave it out
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            # Not its content, which may be anything.
            log.error("dropped what is no message", error=type(error).__name__)  # noqa: TRY400 - a traceback says no more
            raise Empty from error


class Transport(redis.Transport):
    Channel = Channel


def install() -> None:
    """Let kombu use it for the URLs of Redis."""
    for scheme in SCHEMES:
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__name__}"
