"""Start the embedded servers that the settings ask for; does nothing when both URLs are configured."""

from django.conf import settings

from config import servers


def ensure_servers() -> servers.Lease | None:
    """Make sure the embedded servers this configuration uses are running, and keep them for this process.

    Returns the lease, or None where DATABASE_URL and REDIS_URL both point elsewhere.

    Raises:
        servers.ServerError: a server could not be started; the message holds the end of its log.
    """
    if not (settings.EMBEDDED_POSTGRES or settings.EMBEDDED_REDIS):
        return None
    return servers.ensure(settings.DATA_DIR, postgres=settings.EMBEDDED_POSTGRES, redis=settings.EMBEDDED_REDIS)
