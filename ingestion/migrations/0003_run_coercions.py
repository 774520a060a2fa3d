from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0002_run_skipped"),
    ]

    operations = [
        migrations.AddField(
            model_name="run",
            name="coercions",
            field=models.JSONField(db_default={}, default=dict),
        ),
    ]
