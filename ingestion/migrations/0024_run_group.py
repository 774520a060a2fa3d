from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0023_backfill"),
    ]

    operations = [
        migrations.AddField(
            model_name="run",
            name="group",
            field=models.CharField(blank=True, db_default="", default="", editable=False, max_length=100),
        ),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(
                condition=models.Q(
                    ("state__in", ("queued", "running", "waiting")), models.Q(("group", ""), _negated=True)
                ),
                fields=["group", "id"],
                name="ingestion_run_active_of_group",
            ),
        ),
        migrations.AddConstraint(
            model_name="run",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state", "running"), models.Q(("group", ""), _negated=True)),
                fields=("group",),
                name="ingestion_run_one_running_per_group",
            ),
        ),
    ]
