from django.db import migrations, models
from django.db.models import Q

NAMES = ("schedule", "admin", "command", "replay", "backfill")
IS_ACTIVE = ("state__in", ("queued", "running", "waiting"))


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0022_remembered_part"),
    ]

    operations = [
        migrations.AlterField(
            model_name="run",
            name="trigger",
            field=models.CharField(choices=[(name, name.capitalize()) for name in NAMES], max_length=10),
        ),
        # Code that is older than this knows the name, and finds the active run by it.
        migrations.RemoveConstraint(model_name="run", name="ingestion_run_one_active_per_feed"),
        migrations.AddConstraint(
            model_name="run",
            constraint=models.UniqueConstraint(
                fields=("feed",),
                condition=Q(IS_ACTIVE, Q(("trigger", "backfill"), _negated=True)),
                name="ingestion_run_one_active_per_feed",
            ),
        ),
        migrations.AddConstraint(
            model_name="run",
            constraint=models.UniqueConstraint(
                fields=("feed",),
                condition=Q(IS_ACTIVE, ("trigger", "backfill")),
                name="ingestion_run_one_active_backfill_per_feed",
            ),
        ),
    ]
