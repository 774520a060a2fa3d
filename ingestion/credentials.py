"""Secrets that have to be stored, because remotes replace them: encrypted, one row each. No network.

Note [Keys]: CREDENTIAL_KEYS holds keys of Fernet (AES in CBC mode with HMAC), the newest first. That one encrypts, all
of them decrypt, so that a key is replaced by putting another in front, `manage.py credentials rotate`, and removing the
old one.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from django.conf import settings
from django.db import connections, router, transaction

from ingestion.errors import ConfigurationError
from ingestion.models import Credential


class Locked:
    """A credential whose row nobody else reads or writes until the caller is done."""

    def __init__(self, row: Credential) -> None:
        self._row = row
        self.values = _decrypt(row)

    def save(self, values: Mapping[str, str]) -> None:
        """Store other values."""
        self.values = dict(values)
        self._row.sealed = _encrypt(self.values)
        self._row.save(update_fields=["sealed", "changed_at"])


@contextmanager
def locked(name: str) -> Iterator[Locked]:
    """Lock a stored credential, and commit what is saved when it is left; whoever else wants it waits.

    Raises:
        ConfigurationError: it was never set, or none of the keys decrypts it.
    """
    alias = router.db_for_write(Credential)
    connection = connections[alias]
    is_ours = connection.connection is None
    try:
        with transaction.atomic(using=alias):
            row = Credential.objects.using(alias).select_for_update().filter(name=name).first()
            if row is None:
                raise ConfigurationError(f"there is no credential {name}: set it with manage.py credentials set {name}")
            yield Locked(row)
    finally:
        # Threads that fetch have no connection of their own otherwise.
        if is_ours:
            connection.close()


def store(name: str, refresh_token: str) -> None:
    """Set a credential to a refresh token that somebody was given; what was stored is forgotten.

    Raises:
        ConfigurationError: there is no usable key.
    """
    Credential.objects.update_or_create(name=name, defaults={"sealed": _encrypt({"refresh": refresh_token})})


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
