"""App configuration of the engine."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class IngestionConfig(AppConfig):
    name = "ingestion"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from ingestion import checks, feeds, runs

        checks.register_checks()
        feeds.declared()
        post_migrate.connect(runs.remember_feeds_after_migrate, sender=self)
