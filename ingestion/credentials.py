"""Secrets that have to be stored, because remotes replace them: encrypted, one row each. No network.

Note [Keys]: CREDENTIAL_KEYS holds keys of Fernet (AES in CBC mode with HMAC), the newest first. That one encrypts, all
of them decrypt, so that a key is replaced by putting another in front, `manage.py credentials rotate`, and removing the
old one.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from importlib import import_module
from typing import Any, Final

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections, router, transaction

from ingestion import loaders, sqlstates
from ingestion.errors import ConfigurationError
from ingestion.models import Credential

log = structlog.get_logger(__name__)

# A process that was stopped while it asks for a token, or whose machine has vanished, must not keep the others from the
# row for ever; neither must one that waits for them. A server that gives tokens answers within seconds.
WAITS: Final = {"idle_in_transaction_session_timeout": "60s", "lock_timeout": "90s"}
# How long a token that is spent is kept in memory alone, and how often the database is asked to take its successor.
STORE_SECONDS: Final = 120.0
STORE_AGAIN_SECONDS: Final = 0.5


class Locked:
    """A credential whose row nobody else reads or writes until the caller is done."""

    def __init__(self, row: Credential) -> None:
        self._row = row
        self.values = _decrypt(row)

    @property
    def asked_at(self) -> datetime | None:
        """Since when what is stored may be spent: it was sent for its successor, which was not stored since."""
        return self._row.asked_at

    def note_asked(self, now: datetime) -> None:
        """Note that what is stored is about to be sent, unless that is noted already."""
        if self._row.asked_at is None:
            self._row.asked_at = now
            self._row.save(update_fields=["asked_at"])

    def note_refused(self, now: datetime, *, is_spent: bool) -> None:
        """Note that the remote refuses what is stored; `is_spent` keeps what is known of where it went."""
        self._row.refused_at = now
        if not is_spent:
            self._row.asked_at = None
        self._row.save(update_fields=["asked_at", "refused_at"])

    def save(self, values: Mapping[str, str]) -> None:
        """Store other values."""
        self.values = dict(values)
        self._row.sealed = _encrypt(self.values)
        self._row.asked_at = self._row.refused_at = None
        self._row.save(update_fields=["sealed", "changed_at", "asked_at", "refused_at"])


@contextmanager
def connected() -> Iterator[None]:
    """Keep one connection for several transactions, where this thread has none of its own otherwise."""
    connection = connections[router.db_for_write(Credential)]
    is_ours = connection.connection is None
    try:
        yield
    finally:
        if is_ours:
            connection.close()


def is_joined() -> bool:
    """Whether what is stored now would be rolled back with a transaction of the caller, such as a dry run's."""
    return connections[router.db_for_write(Credential)].in_atomic_block


@contextmanager
def locked(name: str) -> Iterator[Locked]:
    """Lock a stored credential, and commit what is saved when it is left; whoever else wants it waits.

    Raises:
        ConfigurationError: it was never set, or none of the keys decrypts it.
        django.db.DatabaseError: somebody else keeps it for too long, or the database does not answer.
    """
    alias = router.db_for_write(Credential)
    with connected(), transaction.atomic(using=alias):
        with connections[alias].cursor() as cursor:
            loaders.set_local(cursor, WAITS)
        row = Credential.objects.using(alias).select_for_update().filter(name=name).first()
        if row is None:
            raise ConfigurationError(f"there is no credential {name}: set it with manage.py credentials set {name}")
        yield Locked(row)


def succeed(name: str, *, spent: str, values: Mapping[str, str]) -> None:
    """Store the successor of a refresh token that is spent, however often the database refuses it; nobody else has it.

    What somebody else has stored meanwhile stays.

    Raises:
        django.db.DatabaseError: for longer than STORE_SECONDS.
    """
    given_up_at = time.monotonic() + STORE_SECONDS
    while True:
        try:
            with locked(name) as row:
                if row.values.get("refresh") == spent:
                    row.save(values)
        except (DatabaseError, InterfaceError) as error:
            log.warning("could not store a refreshed credential", credential=name, error=sqlstates.message(error))
            if time.monotonic() > given_up_at or not sqlstates.is_transient(error):
                raise
            connections[router.db_for_write(Credential)].close()
            time.sleep(STORE_AGAIN_SECONDS)
        else:
            return


def store(name: str, refresh_token: str) -> None:
    """Set a credential to a refresh token that somebody was given; what was stored is forgotten.

    Raises:
        ConfigurationError: there is no usable key.
    """
    sealed = _encrypt({"refresh": refresh_token})
    Credential.objects.update_or_create(name=name, defaults={"sealed": sealed, "asked_at": None, "refused_at": None})


def rotate() -> int:
    """Encrypt all credentials with the newest key, and return how many there are.

    Raises:
        ConfigurationError: none of the keys decrypts one of them; then none is changed.
    """
    with transaction.atomic():
        rows = list(Credential.objects.select_for_update().order_by("name"))
        for row in rows:
            row.sealed = _encrypt(_decrypt(row))
            row.save(update_fields=["sealed", "changed_at"])
    return len(rows)


def _encrypt(values: Mapping[str, str]) -> bytes:
    return bytes(_fernet().encrypt(json.dumps(values).encode()))


def _decrypt(row: Credential) -> dict[str, str]:
    fernet = _fernet()
    try:
        values: dict[str, str] = json.loads(fernet.decrypt(bytes(row.sealed)))
    except import_module("cryptography.fernet").InvalidToken:
        raise ConfigurationError(
            f"none of CREDENTIAL_KEYS decrypts the credential {row.name}: add the key it was stored with"
        ) from None
    return values


def _fernet() -> Any:
    try:
        fernet = import_module("cryptography.fernet")
    except ImportError as error:
        raise ConfigurationError(
            "cryptography is not installed: it is in the extra 'credentials' of the project's optional dependencies"
        ) from error
    if not settings.CREDENTIAL_KEYS:
        raise ConfigurationError("CREDENTIAL_KEYS is not set: credentials are stored encrypted or not at all")
    try:
        return fernet.MultiFernet([fernet.Fernet(key) for key in settings.CREDENTIAL_KEYS])
    except ValueError:
        raise ConfigurationError(
            "a key in CREDENTIAL_KEYS cannot be used: expected 32 bytes as URL-safe base64 (not shown)"
        ) from None
