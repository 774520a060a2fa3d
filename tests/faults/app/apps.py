import os

from django.apps import AppConfig


class FaultsConfig(AppConfig):
    name = "tests.faults.app"
    label = "faults"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self):
        if folder := os.environ.get("FAULT_POINTS"):
            from tests.faults.app import points

            points.install(folder)
            if "faketime" in os.environ.get("LD_PRELOAD", ""):
                points.sleep_in_a_select()
