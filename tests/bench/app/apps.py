from django.apps import AppConfig


class BenchConfig(AppConfig):
    name = "tests.bench.app"
    label = "bench"
    default_auto_field = "django.db.models.BigAutoField"
