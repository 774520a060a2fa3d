from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    # The history may be long, and runs are written meanwhile.
    atomic = False

    dependencies = [
        ("ingestion", "0020_page_memory"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="run",
            index=models.Index(fields=["state", "-id"], name="ingestion_run_state_newest"),
        ),
        AddIndexConcurrently(
            model_name="run",
            index=models.Index(fields=["trigger", "-id"], name="ingestion_run_trigger_newest"),
        ),
        AddIndexConcurrently(
            model_name="run",
            index=models.Index(fields=["requested_at"], name="ingestion_run_requested"),
        ),
    ]
