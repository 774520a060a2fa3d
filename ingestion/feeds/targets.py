"""Targets: which table a feed keeps in step, and in which write mode."""

from dataclasses import dataclass

from django.db import models


@dataclass(frozen=True)
class Upsert:
    """Insert new keys, update rows that differ, leave equal rows alone. `key` names one field or several."""

    model: type[models.Model]
    key: str | tuple[str, ...]

    @property
    def key_fields(self) -> tuple[str, ...]:
        return (self.key,) if isinstance(self.key, str) else self.key
