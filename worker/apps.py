"""App configuration of the worker."""

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class WorkerConfig(AppConfig):
    name = "worker"

    def ready(self) -> None:
        from worker import dispatch, schedules

        dispatch.connect()
        # Django sends the signal for apps with models; the schedules' tables are beat's.
        beat = apps.get_app_config("django_celery_beat")
        post_migrate.connect(schedules.remember_schedules_after_migrate, sender=beat)
